"""Writes the report page, results/report.html: one file to open in a browser. Not a stage of the graph: run it after dvc repro.

python -m stages.page
"""

from lt.core import artifacts, params
from lt.core.command import arguments, run
from lt.page.build import build
from lt.page.sources import read_sources


def main() -> None:
    arguments(__doc__, seed=False)
    path = artifacts.RESULTS / "report.html"
    artifacts.write_text(path, build(read_sources(params.load())))
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, open it in a browser")


if __name__ == "__main__":
    run(main)
