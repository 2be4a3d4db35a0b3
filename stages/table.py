"""Runs the recipes of a table, each in a folder of its own under runs/, and writes it beside the published numbers.

python -m stages.table --list                                       the tables: recipes, and what their names begin with
python -m stages.table cifar100_if100_plain --seeds 0 1 2           runs what is missing; the same command continues a killed run
python -m stages.table cifar100_if100 --seeds 0 1 2                 every recipe called cifar100_if100_*
python -m stages.table cifar100_if100_plain --budget 0.1            a tenth of the epochs, under a name that says so
python -m stages.table cifar100_if100_plain --collect               runs nothing: writes what is done so far

Results: results/tables/<name>.json and .md. Not a stage of the graph: each recipe has a DVC workspace of its own under runs/, on
the project's cache, so that nothing is written to artifacts/ or over the rows in results/, and what two recipes have in common is
trained once.
"""

import argparse
import contextlib

from lt.core import artifacts, params
from lt.core.command import run
from lt.core.options import SEEDS
from lt.core.plugins import unknown
from lt.core.yaml_file import read_yaml
from lt.published import names, recipes, workspace
from lt.published.budget import scale
from lt.published.engine import EngineError
from lt.published.gather import Member, table
from lt.published.text import markdown
from lt.published.workspace import Changes, Workspace
from lt.report.words import in_words

FOLDER = artifacts.RESULTS / "tables"
# Names of what has changed under a training, in a message.
SHOWN = 3


def main() -> None:
    args = parse()
    found = recipes.read_all()
    if args.list or args.name is None:
        for name, members in names.every(found).items():
            print(f"{name:28} {'one recipe' if [name] == members else ' '.join(member.removeprefix(name) for member in members)}")
        return
    content = read_yaml(params.PATH)
    members = names.members(args.name, found)
    whole = [recipes.expand(recipe, content) for recipe in members]
    spaces = [Workspace(names.with_budget(one.name, args.budget), scale(full, args.budget)) for one, full in zip(members, whole)]
    rows = checked_rows(args.rows, spaces)
    collected = {space.name: workspace.collect(space) for space in spaces}
    done = (collected[space.name].seeds(space.rows()) for space in spaces) if args.collect else ()
    seeds = checked_seeds(args.seeds or max(done, key=len, default=None) or content["seeds"])
    name = names.with_budget(args.name, args.budget)
    command = " ".join(
        ["python -m stages.table", args.name, "--seeds", *map(str, seeds)]
        + ([f"--budget {args.budget!r}"] if args.budget < 1 else []) + (["--rows", *rows] if args.rows else [])
    )

    def write(worked: Workspace | None = None) -> str:
        if worked:
            collected[worked.name] = workspace.collect(worked)
        parts = [Member(one, space, full, collected[space.name]) for one, space, full in zip(members, spaces, whole)]
        return write_table(table(name, parts, args.budget, seeds, command))

    failed = [] if args.collect else work(spaces, seeds, rows, args.stale, write)
    if failed:
        raise EngineError("\n".join([*failed, "mend it, and give the same command again to continue"]))
    print(f"\n{write()}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help="if none are given, those of params.yaml")
    parser.add_argument("--budget", type=float, default=1.0, help="share of the epochs, above 0 and at most 1")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="runs what these rows need; the table has all rows")
    parser.add_argument("--collect", action="store_true", help="run nothing, write the table of what is done")
    stale = "trainings that are out of date: run them again, or keep those of which only the code has changed; the table says so"
    parser.add_argument("--stale", choices=("again", "keep"), help=stale)
    parser.add_argument("--list", action="store_true", help="list the tables")
    return parser.parse_args()


def checked_seeds(seeds: list[int]) -> list[int]:
    """The seeds; ValueError unless they are different, and such as params.yaml takes."""
    if len(set(seeds)) != len(seeds) or min(seeds) < 0 or max(seeds) >= SEEDS:
        raise ValueError(f"seeds: got {' '.join(map(str, seeds))}, expected different whole numbers, 0 or above, below {SEEDS}")
    return seeds


def checked_rows(wanted: list[str] | None, spaces: list[Workspace]) -> list[str]:
    """The rows to run; ValueError where no recipe has a row of this name."""
    every = list(dict.fromkeys(row for space in spaces for row in space.rows()))
    for row in wanted or []:
        if row not in every:
            raise ValueError(f"rows: {unknown(row, every, 'a row of the table')}")
    return wanted or every


def work(spaces: list[Workspace], seeds: list[int], rows: list[str], stale: str | None, write) -> list[str]:
    """Runs what is due, recipe by recipe and seed by seed, so that the table stands, and is written, after each seed.

    A recipe of which a stage fails is left; returns what was told of those.
    """
    failed = []
    with contextlib.ExitStack() as stack:
        holds = [stack.enter_context(workspace.held(space)) for space in spaces]
        for space in spaces:
            workspace.prepare(space, seeds)
        old = [workspace.bring_up(space, rows) for space in spaces]
        if stale is None:
            refuse_stale(spaces, old)
        for space, hold, changed in zip(spaces, holds, old):
            try:
                again = renew(space, changed, rows, stale)
                evaluated = len(workspace.collect(space).seeds(rows))
                for number in range(min(evaluated + 1, len(seeds)), len(seeds) + 1):
                    workspace.write_params(space, seeds[:number])
                    workspace.reproduce(space, rows, hold, again)
                    again = []
                    write(space)
            except EngineError as error:
                print(f"\n{error}\n", flush=True)
                failed.append(str(error).partition(";")[0])
                if workspace.collect(space).seeds(space.rows()):
                    with contextlib.suppress(artifacts.ArtifactError):  # where all of it rests on what failed
                        write(space)
    return failed


def refuse_stale(spaces: list[Workspace], old: list[dict[str, Changes]]) -> None:
    """Raises EngineError where trainings are out of date: they are run again, or kept, only where that is asked for."""
    lines = []
    for space, changed in zip(spaces, old):
        found = workspace.collect(space).notes if changed else {}
        for stage, what in changed.items():
            took = in_words(found[stage]["seconds"]) if "seconds" in found[stage] else "time unknown"
            more = f" and {len(what.names()) - SHOWN} more" if len(what.names()) > SHOWN else ""
            lines.append(f"{space.folder}: {stage} ({took}), changed since: {', '.join(what.names()[:SHOWN])}{more}")
    if lines:
        raise EngineError(
            "trainings that are out of date; nothing was run:\n  " + "\n  ".join(lines)
            + "\nAdd --stale again to run again what DVC cannot restore from its cache, or --stale keep to keep those of which only "
            "the code has changed, which the table then says; or undo the change."
        )


def renew(space: Workspace, changed: dict[str, Changes], rows: list[str], stale: str | None) -> list[str]:
    """Keeps the trainings that shall be kept; returns those that run again although DVC takes them for up to date."""
    if stale == "keep":
        kept = [stage for stage, what in changed.items() if what.code and not what.params and not what.inputs]
        if kept:
            workspace.keep(space, kept)
        workspace.forget(space, changed.keys() - set(kept))
        return []
    again = workspace.kept(space, rows) if stale == "again" else []
    workspace.forget(space, [*changed, *again])
    return again


def write_table(content: dict) -> str:
    """Writes results/tables/<name>.json and .md and returns the latter; a table of nothing takes no other one's place."""
    path, text = FOLDER / content["table"], markdown(content)
    done = any(row["status"] == "done" for recipe in content["recipes"].values() for row in recipe["rows"].values())
    if not done and path.with_name(f"{path.name}.json").exists():
        raise artifacts.ArtifactError(f"no row of {content['table']} is done in runs/; {path}.json and .md are left as they are")
    artifacts.write_json(path.with_name(f"{path.name}.json"), content)
    artifacts.write_text(path.with_name(f"{path.name}.md"), text)
    return f"{text}\n{path}.json, {path}.md"


if __name__ == "__main__":
    run(main)
