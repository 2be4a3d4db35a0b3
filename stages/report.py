"""Puts the seeds of each row together and the rows into one table, prints it, and writes what `dvc plots` draws.

python -m stages.report
python -m stages.report --prune     removes the files in results/ of rows that params.yaml no longer names, and nothing else
"""

from pathlib import Path

from lt.core import artifacts, params
from lt.core.command import command_line
from lt.core.subset import read_subset
from lt.evaluate.headline import headline
from lt.evaluate.row import class_lines, rounded
from lt.report import plots
from lt.report.merge import read_details
from lt.report.table import MEND, check_same, context_of, markdown
from stages.start import run


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--prune", action="store_true", help="only remove the files of rows that params.yaml no longer names")
    args = parser.parse_args()
    settings = params.load()
    left = left_over(settings.rows())
    if args.prune:
        for path in left:
            path.unlink()
        print(f"removed: {', '.join(map(str, left)) or 'nothing, every file is of a row of params.yaml'}")
        return
    missing = [row for row in settings.rows() if not all(artifacts.measured_dir(row, seed).is_dir() for seed in settings.seeds)]
    if missing:
        raise artifacts.ArtifactError(f"rows {', '.join(missing)} were not measured on all of the seeds {settings.seeds}; {MEND}")
    rows = {row: rounded(read_details(row, settings.seeds)) for row in settings.rows()}
    context = context_of(settings, read_subset())
    check_same(rows, context)

    table, reported = markdown(rows, context), rows[settings.report.row]
    points = {"rows": plots.by_row(rows), "classes": class_lines(reported), "reliability": plots.by_confidence(reported)}
    with artifacts.writing_together(artifacts.RESULTS, "report") as folder:
        for row, details in rows.items():
            artifacts.write_json(folder / "details" / f"{row}.json", details, sealed=True)
            artifacts.write_json(folder / "methods" / f"{row}.json", rounded(headline(details)))
        artifacts.write_json(folder / "metrics.json", headline(reported))
        artifacts.write_text(folder / "table.md", table)
        for name, lines in points.items():
            artifacts.write_log(folder / "plots" / f"{name}.csv", rounded(lines))
    print(f"\n{table}")
    if left:
        named = ", ".join(sorted({path.stem for path in left}))
        print(f"{artifacts.RESULTS} also holds rows that params.yaml does not name: {named}; remove them: python -m stages.report --prune")


def left_over(rows: list[str]) -> list[Path]:
    """Files of rows in results/ that are none of these."""
    found = (path for kind in ("methods", "details") for path in sorted((artifacts.RESULTS / kind).glob("*.json")))
    return [path for path in found if path.stem not in rows]


if __name__ == "__main__":
    run(main)
