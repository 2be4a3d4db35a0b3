"""Gathers the rows into one table, prints it, and writes what `dvc plots` draws.

python -m stages.report
"""

from lt.core import artifacts, params
from lt.core.command import arguments, run
from lt.core.schemas import Details
from lt.core.subset import read_subset
from lt.evaluate.headline import headline
from lt.evaluate.row import class_lines, rounded
from lt.report import plots
from lt.report.table import check_same, context_of, markdown, mend


def main() -> None:
    arguments(__doc__, seed=False)
    settings = params.load()
    paths = {row: artifacts.RESULTS / "details" / f"{row}.json" for row in settings.rows()}
    missing = [row for row, path in paths.items() if not path.is_file()]
    if missing:
        raise artifacts.ArtifactError(
            f"rows {', '.join(missing)} have no details in {artifacts.RESULTS}/details; {mend(missing, list(paths))}"
        )
    rows = {row: artifacts.read_json(path, Details) for row, path in paths.items()}
    context = context_of(settings, read_subset())
    check_same(rows, context)

    table, reported = markdown(rows, context), rows[settings.report.row]
    points = {"rows": plots.by_row(rows), "classes": class_lines(reported), "reliability": plots.by_confidence(reported)}
    with artifacts.writing_together(artifacts.RESULTS, "report") as folder:
        artifacts.write_json(folder / "metrics.json", headline(reported))
        artifacts.write_text(folder / "table.md", table)
        for name, lines in points.items():
            artifacts.write_log(folder / "plots" / f"{name}.csv", rounded(lines))
    print(f"\n{table}")


if __name__ == "__main__":
    run(main)
