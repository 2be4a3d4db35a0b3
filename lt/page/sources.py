"""What the page shows: results of every row, and those artifacts and costs that are there."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lt.core import artifacts
from lt.core.artifacts import ArtifactError
from lt.core.command import COST
from lt.core.params import Settings
from lt.core.row_names import maker
from lt.core.schemas import Cost, Details
from lt.core.subset import Subset, read_subset
from lt.report.table import TableError, check_same, context_of

HUES = 8  # colours in the style sheet
LOWER_IS_BETTER = ("nll", "ece")


@dataclass(frozen=True)
class Sources:
    """Everything the sections are made of.

    rows: row -> content of results/details/<row>.json, in table order    missing: rows of params.yaml without results
    details: of rows, those judged on the data of the first, so that they fit into one figure
    subset: None where artifacts/data is not there
    """

    settings: Settings
    rows: dict[str, dict[str, Any]]
    details: dict[str, dict[str, Any]]
    missing: list[str]
    subset: Subset | None

    @cached_property
    def reported(self) -> str | None:
        """The row that is set against base: report.row, or the best other row where that is base; None if base stands alone."""
        others = [row for row in self.rows if row != "base"]
        if self.settings.report.row in others:
            return self.settings.report.row
        return max(others, key=lambda row: self.rows[row]["mean"]["balanced"]) if others else None

    @cached_property
    def context(self) -> dict[str, str]:
        """The settings that the rows should have been made under."""
        if self.subset:
            return context_of(self.settings, self.subset)
        return next(iter(self.rows.values()))["context"]

    @cached_property
    def stale(self) -> str | None:
        """What is wrong with rows that were made under other settings; None if all belong together."""
        try:
            check_same(self.rows, self.context)
        except TableError as error:
            return str(error)
        return None

    @cached_property
    def css(self) -> dict[str, str]:
        """Row -> class names: r<i>, and how it is drawn. An xERM row has its teacher's colour, dashed; base is the text's."""
        kinds = {}
        for i, row in enumerate(self.settings.rows()):
            stage, method = maker(row)
            number = list(self.settings.methods).index(method) if method in self.settings.methods else 0
            more = ["dashed"] if stage == "distill" else []
            more += ["dotted"] if number >= HUES else []
            more += ["strong"] if row in ("base", self.reported) else []
            kinds[row] = " ".join([f"r{i}", "ink" if row == "base" else f"hue{number % HUES}", *more])
        return kinds

    @cached_property
    def costs(self) -> dict[str, list[dict[str, Any]]]:
        """What lt.core.command noted of the runs of each stage that params.yaml now asks for; stages without a note are left out."""
        settings, seeds = self.settings, [f"seed_{seed}" for seed in self.settings.seeds]
        names = {
            "subsample": ["subsample"],
            **{stage: [f"{stage}_{seed}" for seed in seeds] for stage in ("base", "features")},
            "retrain": [f"retrain_{method}_{seed}" for method in settings.methods for seed in seeds],
            "distill": [f"distill_{teacher}_{seed}" for teacher in settings.teachers for seed in seeds],
            "evaluate": [f"evaluate_{row}_{seed}" for row in settings.rows() for seed in seeds],
            "report": ["report"],
        }
        found = {stage: [cost for name in files if (cost := _read_cost(COST / f"{name}.json"))] for stage, files in names.items()}
        return {stage: costs for stage, costs in found.items() if costs}

    @cached_property
    def facts(self) -> dict[str, Any]:
        """classes, train_counts, test_counts and val_size, from the first row's details."""
        return next(iter(self.details.values()))

    def ranked(self, metric: str) -> list[str]:
        """Rows of `details` by a metric, the best first; those that it is not defined for are left out."""
        means = {row: content["mean"][metric] for row, content in self.details.items() if content["mean"][metric] is not None}
        return sorted(means, key=means.get, reverse=metric not in LOWER_IS_BETTER)

    def row_files(self, row: str, pattern: str) -> dict[int, list[Path]]:
        """Files of a row's artifacts by seed; seeds that have none are left out."""
        found = {seed: sorted(artifacts.row_dir(row, seed).glob(pattern)) for seed in self.settings.seeds}
        return {seed: paths for seed, paths in found.items() if paths}

    def curves(self, row: str, name: str = "log.csv") -> dict[str, np.ndarray]:
        """Columns of a row's training log, each the mean over seeds; {} if there is no log, or seeds differ in length."""
        logs = [artifacts.read_log(paths[0]) for paths in self.row_files(row, name).values()]
        if not logs or not logs[0] or any(len(log) != len(logs[0]) or log[0].keys() != logs[0][0].keys() for log in logs):
            return {}
        return {key: np.mean([[line[key] for line in log] for log in logs], axis=0) for key in logs[0][0]}

    def class_arrays(self, row: str) -> dict[str, np.ndarray]:
        """Arrays with one number per class that a row's training has left, each the mean over seeds, by name."""
        num_classes = len(self.facts["classes"])
        found: dict[str, list[np.ndarray]] = {}
        for paths in self.row_files(row, "*.npy").values():
            for path in paths:
                array = artifacts.read_array(path, mmap=True)
                if array.shape == (num_classes,):
                    found.setdefault(path.stem, []).append(np.asarray(array, dtype=np.float64))
        return {name: np.mean(arrays, axis=0) for name, arrays in found.items()}


def read_sources(settings: Settings) -> Sources:
    """Reads results/ and what there is of artifacts/; ArtifactError where no row has results."""
    paths = {row: artifacts.RESULTS / "details" / f"{row}.json" for row in settings.rows()}
    rows = {row: artifacts.read_json(path, Details) for row, path in paths.items() if path.is_file()}
    if not rows:
        raise ArtifactError(f"{artifacts.RESULTS}/details holds no row of params.yaml, nothing to show; run dvc repro first")
    missing = [row for row in settings.rows() if row not in rows]
    data = ("classes", "train_counts", "test_counts")
    first = next(iter(rows.values()))
    details = {row: content for row, content in rows.items() if all(content[key] == first[key] for key in data)}
    has_subset = (artifacts.stage_dir("data") / "subset.json").is_file()
    return Sources(settings, rows, details, missing, read_subset() if has_subset else None)


def _read_cost(path: Path) -> dict[str, Any] | None:
    """One note, None where it is missing or broken: costs are worth no error."""
    try:
        return artifacts.read_json(path, Cost)
    except (OSError, ArtifactError):
        return None
