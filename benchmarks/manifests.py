"""Manifests: what hashing costs where artifacts are read and written."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable

import numpy as np

from benchmarks.timing import Row, medians
from lt.core import artifacts, manifest

# (views, images, width) of features: of the default, and of CIFAR-100-LT.
DEFAULT, LARGE, SMALL = (16, 400, 64), (16, 10_847, 64), (2, 1000, 64)


def rows(quick: bool) -> list[Row]:
    """Reading features with their manifest against reading them without; and all that a stage of the default hashes, as it
    reads and as it writes, against its shortest possible run, which imports torch: so much of a `dvc repro` at most."""
    repeats = 1 if quick else 5
    with tempfile.TemporaryDirectory() as place:
        large, small = Path(place, "large"), Path(place, "small")
        write(large, SMALL if quick else LARGE)
        write(small, DEFAULT)
        checked_s, read_s = medians(repeats, reader(large, checked=True), reader(large, checked=False))
        hashed_s, start_s = medians(repeats, lambda: (reader(small, checked=True)(), manifest.describe(small)), start)
    mib = np.prod(SMALL if quick else LARGE) * 4 / 2**20
    return [
        Row(f"reading {mib:.0f} MiB of features once, hashed, against unhashed", checked_s, read_s, "s", checked_s / read_s),
        Row("a default stage's hashing, against starting it", hashed_s, start_s, "s", hashed_s / start_s, 0.05, at_least=False),
    ]


def write(folder: Path, shape: tuple[int, ...]) -> None:
    """An artifact of one array."""
    with artifacts.writing(folder) as part:
        artifacts.write_array(part / "views.npy", np.random.default_rng(0).standard_normal(shape, np.float32))


def reader(folder: Path, checked: bool) -> Callable[[], object]:
    """A first read in a process of all numbers of the artifact."""

    def read() -> float:
        if checked:
            manifest.forget()
            manifest.check(folder / "views.npy")
        return float(np.load(folder / "views.npy", mmap_mode="r").sum())

    return read


def start() -> None:
    """A process that imports torch."""
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
