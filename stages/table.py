"""Runs the recipes of a table, each in a folder of its own under runs/, and writes it beside the published numbers.

python -m stages.table --list                                       the tables: recipes, and what their names begin with
python -m stages.table cifar100_if100_plain --seeds 0 1 2           runs what is missing; the same command continues a killed run
python -m stages.table cifar100_if100 --seeds 0 1 2                 every recipe called cifar100_if100_*
python -m stages.table cifar100_if100_plain --budget 0.1            a tenth of the epochs, under a name that says so
python -m stages.table cifar100_if100_plain --collect               runs nothing: writes what is done so far
python -m stages.table cifar100_if100 --cluster slurm:options.yaml  trains on a cluster: docs/cluster.md

Results: results/tables/<name>.json and .md. Not a stage of the graph: each recipe has a DVC workspace of its own under runs/, on
the project's cache, so that nothing is written to artifacts/ or over the rows in results/, and what two recipes have in common is
trained once.
"""

import argparse
import contextlib

from lt.core import artifacts, params
from lt.core.command import command_line, run
from lt.core.options import SEEDS
from lt.core.plugins import unknown
from lt.core.yaml_file import read_yaml
from lt.published import cluster, names, recipes, spread, stale, workspace
from lt.published.budget import scale
from lt.published.engine import EngineError
from lt.published.gather import Member, table
from lt.published.hold import held
from lt.published.spread import Claim
from lt.published.text import markdown
from lt.published.workspace import Workspace

FOLDER = artifacts.RESULTS / "tables"


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

    failed = [] if args.collect else work(spaces, seeds, rows, args.stale, write, args.cluster and cluster.check(args.cluster))
    if failed:
        raise EngineError("\n".join([*failed, "mend it, and give the same command again to continue"]))
    print(f"\n{write()}")


def parse() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help="if none are given, those of params.yaml")
    parser.add_argument("--budget", type=float, default=1.0, help="share of the epochs, above 0 and at most 1")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="runs what these rows need; the table has all rows")
    parser.add_argument("--collect", action="store_true", help="run nothing, write the table of what is done")
    stale = "trainings that are out of date: run them again, or keep those of which only the code has changed; the table says so"
    parser.add_argument("--stale", choices=("again", "keep"), help=stale)
    parser.add_argument("--cluster", metavar="WHERE", help=f"train on a cluster: {cluster.EXPECTED}")
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


def work(spaces: list[Workspace], seeds: list[int], rows: list[str], how: str | None, write, where: str | None) -> list[str]:
    """Runs what is due, recipe by recipe and seed by seed, so that the table stands, and is written, after each seed.

    how: what is done with trainings that are out of date    where: the cluster that trains, if one shall
    A recipe of which a stage fails is left, or on a cluster the rows that rest on it; returns what was told of those.
    """
    failed = []
    with contextlib.ExitStack() as stack:
        holds = [stack.enter_context(held(space.folder)) for space in spaces]
        for space in spaces:
            workspace.prepare(space, seeds)
        old = [workspace.bring_up(space, rows) for space in spaces]
        if how is None:
            stale.refuse(spaces, old)
        claims = [Claim(*claim) for claim in zip(spaces, holds, old)]
        if where:
            return spread.work(claims, seeds, rows, how, write, where)
        for space, hold, changed in claims:
            try:
                again = stale.renew(space, changed, rows, how)
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
