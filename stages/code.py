"""Writes, for each stage, the hashes of the code in lt that it shares with other stages.

python -m stages.code

DVC reads dvc.lock several times per command; naming thirty files in each of the table's stages would slow every command down.
"""

from pathlib import Path

from lt import artifacts
from lt.command import arguments, run
from lt.shared_code import fingerprint

STAGES = ("subsample", "base", "features", "retrain", "distill", "evaluate", "report")


def main() -> None:
    arguments(__doc__, seed=False)
    for stage in STAGES:
        artifacts.write_text(artifacts.stage_dir("code", stage), fingerprint(Path("stages") / f"{stage}.py"))


if __name__ == "__main__":
    run(main)
