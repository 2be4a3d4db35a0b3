"""Handwritten digits of the UCI test set, 1797 grey images of 8 x 8 pixels, as packaged with scikit-learn."""

import importlib.util
from pathlib import Path

import numpy as np

from lt.data.split import Split

TEST_PER_CLASS = 50
MEAN, STD = 0.3058, 0.3753  # of the train part, computed once


def open_split(root: Path, split: str) -> Split:
    """Train (1297 images) or test part (the last 50 images of each class in file order, 500 in all).

    The packaged file names no split. Cutting by file order needs no random numbers, and a balanced test part makes the accuracy
    a mean over classes. Grey values 0 to 16 become 0 to 255, repeated over three channels.

    root: not used, the file comes with scikit-learn    split 'train' or 'test'
    (source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits; sklearn.datasets.load_digits)
    """
    # Read directly, which gives what load_digits gives without the second that importing scikit-learn takes.
    table = np.loadtxt(raw_files(root)["digits.csv.gz"], delimiter=",", dtype=np.int64)
    labels = table[:, -1]
    is_test = np.zeros(len(labels), dtype=bool)
    for c in range(10):
        is_test[np.flatnonzero(labels == c)[-TEST_PER_CLASS:]] = True
    chosen = is_test if split == "test" else ~is_test
    grey = np.rint(table[chosen, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    classes = tuple(map(str, range(10)))
    return Split(np.repeat(grey, 3, axis=3), labels[chosen], classes, mean=(MEAN,) * 3, std=(STD,) * 3)


def raw_files(root: Path) -> dict[str, Path]:
    """The raw data: name in the index -> file on disk. ValueError where scikit-learn is not installed."""
    package = importlib.util.find_spec("sklearn")  # finds the package's folder without importing it
    if package is None:
        raise ValueError("dataset digits needs scikit-learn, which contains the images: pip install scikit-learn")
    return {"digits.csv.gz": Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"}
