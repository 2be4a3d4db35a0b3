"""Says whether the difference between two rows, or between two experiments, is noise.

python -m stages.compare base balms                               two rows in results/
python -m stages.compare main:balms bayias:balms --metric tail    a row at two commits, branches or DVC experiments

The difference is second minus first, as in `dvc metrics diff`.
"""

import argparse
import subprocess

from lt.core import artifacts, json_text
from lt.core.command import run
from lt.core.schemas import Details
from lt.evaluate.comparison import Comparison, Interval, compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--metric", default="balanced")
    args = parser.parse_args()
    first, second = read_details(args.first), read_details(args.second)
    print(describe(args.first, args.second, first, second, compare(first, second, args.metric)))


def read_details(name: str) -> dict:
    """Details of ROW from results/, or of REV:ROW from the git commit, branch, tag or DVC experiment REV."""
    revision, _, row = name.rpartition(":")
    path = artifacts.RESULTS / "details" / f"{row}.json"
    if not revision:
        return artifacts.read_json(path, Details)
    text = git("show", f"{commit_of(revision)}:./{path.as_posix()}")
    if text is None:
        raise artifacts.ArtifactError(f"{name}: {path} is not in {revision}; was it committed, and is the row's name right?")
    return json_text.parse(text, path, Details)


def commit_of(revision: str) -> str:
    """Hash of a git revision, or of the newest DVC experiment of that name (which git keeps under refs/exps)."""
    commit = git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if commit is None:
        experiments = git("for-each-ref", "--sort=-committerdate", "--format=%(objectname) %(refname)", "refs/exps") or ""
        named = [line.split()[0] for line in experiments.splitlines() if line.endswith(f"/{revision}")]
        if not named:
            raise ValueError(f"{revision!r} is neither a git revision nor a DVC experiment; see git log and dvc exp list --all")
        commit = named[0]
    return commit.strip()


def git(*arguments: str) -> str | None:
    """Output of a git command, None where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def describe(first_name: str, second_name: str, first: dict, second: dict, found: Comparison) -> str:
    """The comparison in words."""
    in_percent = not found.metric.removesuffix("_t").endswith(("nll", "brier"))
    scale, digits, unit = (100, 1, " points") if in_percent else (1, 3, "")

    def number(value: float, sign: str = "") -> str:
        return f"{scale * value:{sign}.{digits}f}"

    def line(interval: Interval, over: str) -> str:
        return f"  95% interval over {over}: {number(interval.low, '+')} to {number(interval.high, '+')}"

    lines = [
        f"{found.metric}{' %' if in_percent else ''}, {'seed' if len(found.seeds) == 1 else 'seeds'} {' '.join(found.seeds)}: "
        f"{first_name} {number(found.first)}, {second_name} {number(found.second)}",
        f"  {second_name} minus {first_name}: {number(found.second - found.first, '+')}{unit}",
    ]
    if found.by_seed:
        lines.append(line(found.by_seed, "training seeds"))
    if found.by_image:
        lines.append(line(found.by_image, "test images" if found.paired else "test images, not paired as the subsets differ"))
    for key, value in first["context"].items():
        if key != "seeds" and second["context"].get(key) != value:
            lines.append(f"  they also differ in {key}: {value}, {second['context'].get(key)}")
    return "\n".join([*lines, f"  verdict: {found.verdict()}"])


if __name__ == "__main__":
    run(main)
