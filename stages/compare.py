"""Says whether the difference between two rows, or between two experiments, is noise.

python -m stages.compare base balms                               two rows in results/
python -m stages.compare main:balms bayias:balms --metric tail    a row at two commits, branches or DVC experiments

The difference is second minus first, as in `dvc metrics diff`.
"""

from lt.core.command import command_line, run
from lt.evaluate.comparison import Comparison, Interval, compare
from lt.report.revisions import details_of


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("first", help="a row, or REVISION:ROW")
    parser.add_argument("second", help="another one")
    parser.add_argument("--metric", default="balanced", help="what is compared, default balanced")
    args = parser.parse_args()
    first, second = details_of(args.first), details_of(args.second)
    print(describe(args.first, args.second, first, second, compare(first, second, args.metric)))


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
