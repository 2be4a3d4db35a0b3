"""The long-tailed training part: which images are drawn, which are kept out for selection, and the artifact of it. numpy only."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lt.core import artifacts
from lt.core.artifacts import ArtifactError
from lt.core.schemas import SubsetFile

ARRAYS = ("train_index", "train_labels", "val_index", "val_labels", "test_labels")


@dataclass(frozen=True)
class Subset:
    """What the later stages know of the data.

    classes: C names in label order    counts (C,) int64: training images per class, without the validation part
    train_index (N,): positions in the data set's train part, class by class; val_index: in its part `val_part`, 'train' or
    'val'    *_labels: their labels; all int64
    imbalance: largest / smallest count, as asked for (as found for profile 'none')    drawn (C,): counts with the validation part
    sha256: of the training positions    raw_sha256: of data/<dataset>.json, that is, of all raw files
    image_size in pixels, None of embeddings    mean, std: as lt.data.split.Split has them
    """

    dataset: str
    classes: tuple[str, ...]
    counts: np.ndarray
    train_index: np.ndarray
    train_labels: np.ndarray
    val_index: np.ndarray
    val_labels: np.ndarray
    test_labels: np.ndarray
    profile: str
    imbalance: float
    drawn: np.ndarray
    val_fraction: float
    seed: int
    sha256: str
    raw_sha256: str
    image_size: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    val_part: str = "train"


def index_sha256(index: np.ndarray) -> str:
    """sha256 of positions as little-endian 64-bit integers."""
    return hashlib.sha256(np.ascontiguousarray(index, dtype="<i8").tobytes()).hexdigest()


def write_subset(folder: Path, subset: Subset) -> None:
    """Writes the arrays as .npy and everything else as subset.json into an existing folder."""
    facts = asdict(subset)
    for name in ARRAYS:
        artifacts.write_array(Path(folder) / f"{name}.npy", facts.pop(name))
    facts |= {"counts": subset.counts.tolist(), "drawn": subset.drawn.tolist()}
    facts |= {"train_size": len(subset.train_index), "val_size": len(subset.val_index), "test_size": len(subset.test_labels)}
    artifacts.write_json(Path(folder) / "subset.json", facts)


def read_subset(folder: Path = artifacts.stage_dir("data")) -> Subset:
    """Reads what write_subset wrote; ArtifactError where a file is missing, or the files do not belong together."""
    facts = artifacts.read_json(Path(folder) / "subset.json", SubsetFile)
    try:
        sizes = {part: facts.pop(f"{part}_size") for part in ("train", "val", "test")}
        arrays = {
            name: artifacts.read_array(Path(folder) / f"{name}.npy", shape=(sizes[name.split("_")[0]],), dtype="int64")
            for name in ARRAYS
        }
        facts |= {name: tuple(facts[name]) for name in ("classes", "mean", "std")}
        facts |= {name: np.array(facts[name], dtype=np.int64) for name in ("counts", "drawn")}
        subset = Subset(**facts, **arrays)
    except (KeyError, TypeError) as error:
        found = f"{folder}/subset.json is not as it is written now ({error})"
        raise ArtifactError(f"{found}; run `python -m stages.subsample`") from None
    _check(Path(folder), subset)
    return subset


def _check(folder: Path, subset: Subset) -> None:
    num_classes = len(subset.classes)
    every_label = np.concatenate([subset.train_labels, subset.val_labels, subset.test_labels])
    if len(every_label) and not (0 <= every_label.min() and every_label.max() < num_classes):
        problem = f"labels {every_label.min()} to {every_label.max()}, expected 0 to {num_classes - 1}"
    elif not np.array_equal(np.bincount(subset.train_labels, minlength=num_classes), subset.counts):
        problem = "train_labels.npy, whose classes do not have the counts in subset.json"
    elif index_sha256(subset.train_index) != subset.sha256:
        problem = "train_index.npy, which does not have the sha256 in subset.json"
    else:
        return
    raise ArtifactError(f"{folder}: got {problem}; its files do not belong together: run `python -m stages.subsample`")
