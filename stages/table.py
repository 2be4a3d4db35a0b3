"""Runs the recipes of a table, each in a folder of its own under runs/, and writes it beside the published numbers.

python -m stages.table --list                                       the tables: recipes, and what their names begin with
python -m stages.table cifar100_if100_plain --seeds 0 1 2           runs what is missing; the same command continues a killed run
python -m stages.table cifar100_if100 --seeds 0 1 2                 every recipe called cifar100_if100_*
python -m stages.table cifar100_if100_plain --budget 0.1            a tenth of the epochs, under a name that says so
python -m stages.table cifar100_if100_plain --collect               runs nothing: writes what is done so far

Results: results/tables/<name>.json and .md. Not a stage of the graph, and without DVC, whose workspace holds one setting at a
time: the stages of dvc.yaml run as plain commands, also where there is no DVC, in folders of their own, and nothing is written to
artifacts/ or over the rows in results/.
"""

import argparse
import contextlib

from lt import artifacts, params, recipes
from lt.command import run
from lt.load import unknown
from lt.published import names
from lt.published.budget import scale
from lt.published.gather import seeds_done, table
from lt.published.text import markdown
from lt.tables import working
from lt.tables.runs import TRAINING, Run

FOLDER = artifacts.RESULTS / "tables"


def main() -> None:
    args = parse()
    found = recipes.read_all()
    if args.list or args.name is None:
        for name, members in names.every(found).items():
            print(f"{name:28} {'one recipe' if [name] == members else ' '.join(member.removeprefix(name) for member in members)}")
        return
    content = params.read_yaml(params.PATH)
    graph = params.read_yaml("dvc.yaml")["stages"]
    members = names.members(args.name, found)
    whole = [recipes.expand(recipe, content) for recipe in members]
    runs = [
        Run(names.with_budget(recipe.name, args.budget), scale(full, args.budget), graph) for recipe, full in zip(members, whole)
    ]
    rows = checked_rows(args.rows, runs)
    seeds = checked_seeds(args.seeds or (args.collect and seeds_done(runs)) or content["seeds"])
    name = names.with_budget(args.name, args.budget)
    command = " ".join(
        ["python -m stages.table", args.name, "--seeds", *map(str, seeds)]
        + ([f"--budget {args.budget!r}"] if args.budget < 1 else []) + (["--rows", *rows] if args.rows else [])
    )

    def write() -> str:
        return write_table(table(name, list(zip(members, runs)), whole, args.budget, seeds, command))

    if not args.collect:
        work(runs, seeds, rows, args.stale, write)
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
    """The seeds; ValueError unless they are different, and 0 or above."""
    if len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds: got {' '.join(map(str, seeds))}, expected different whole numbers, 0 or above")
    return seeds


def checked_rows(wanted: list[str] | None, runs: list[Run]) -> list[str]:
    """The rows to run; ValueError where no recipe has a row of this name."""
    every = list(dict.fromkeys(row for one in runs for row in one.rows()))
    for row in wanted or []:
        if row not in every:
            raise ValueError(f"rows: {unknown(row, every, 'a row of the table')}")
    return wanted or every


def work(runs: list[Run], seeds: list[int], rows: list[str], stale: str | None, write) -> None:
    """Runs what is due, recipe by recipe and seed by seed, so that the table stands, and is written, after each seed."""
    keep = stale == "keep"
    commit = working.commit()
    with contextlib.ExitStack() as stack:
        locks = [stack.enter_context(working.locked(one.folder)) for one in runs]
        for one, lock in zip(runs, locks):
            working.prepare(one, lock)
        if stale is None:
            working.refuse_stale([(one, one.plan(seeds, rows)) for one in runs])
        for one, lock in zip(runs, locks):
            evaluated = len(seeds_done([one]))
            for number in range(1, len(seeds) + 1):
                plan, last = one.plan(seeds[:number], rows), number == len(seeds)
                if not last and not any(stage.command[0] in TRAINING for stage in one.due(plan, keep)):
                    continue
                if not last and number < evaluated:  # rows over fewer seeds than they have would be a step back
                    plan = [stage for stage in plan if stage.command[0] != "evaluate"]
                working.write_params(one, seeds[:number])
                working.execute(one, plan, keep, commit, lock)
                write()


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
