"""Gathers the rows into one table, and prints it.

python -m stages.report
"""

from lt import artifacts, params
from lt.command import arguments, run
from lt.subset import read_subset
from lt.table import check_same, context_of, markdown, mend


def main() -> None:
    arguments(__doc__, seed=False)
    settings = params.load()
    paths = {row: artifacts.RESULTS / "methods" / f"{row}.json" for row in settings.rows()}
    missing = [row for row, path in paths.items() if not path.is_file()]
    if missing:
        raise artifacts.ArtifactError(
            f"rows {', '.join(missing)} have no metrics in {artifacts.RESULTS}/methods; {mend(missing, list(paths))}"
        )
    rows = {row: artifacts.read_json(path) for row, path in paths.items()}
    context = context_of(settings, read_subset())
    check_same(rows, context)

    table = markdown(rows, context)
    artifacts.write_json(artifacts.RESULTS / "metrics.json", rows[settings.report.row])
    artifacts.write_text(artifacts.RESULTS / "table.md", table)
    print(f"\n{table}")


if __name__ == "__main__":
    run(main)
