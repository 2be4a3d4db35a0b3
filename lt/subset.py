"""The long-tailed training part: which images are drawn, which are kept out for selection, and the artifact of it. numpy only."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lt import artifacts
from lt.artifacts import ArtifactError
from lt.counts import profile
from lt.data import Split
from lt.schemas import SubsetFile

ARRAYS = ("train_index", "train_labels", "val_index", "val_labels", "test_labels")


@dataclass(frozen=True)
class Subset:
    """What the later stages know of the data.

    classes: C names in label order    counts (C,) int64: training images per class, without the validation part
    train_index (N,): positions in the data set's train part, class by class; val_index: in its part `val_part`, 'train' or
    'val'    *_labels: their labels; all int64
    imbalance: largest / smallest count, as asked for (as found for profile 'none')    drawn (C,): counts with the validation part
    sha256: of the training positions    raw_sha256: of data/<dataset>.json, that is, of all raw files
    image_size in pixels, None of embeddings    mean, std: as lt.data.Split has them
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


def draw(labels: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """Positions of a long-tailed part: for each class in turn, its positions are shuffled and the first n_c kept.

    The shuffles share one numpy RandomState(seed), whose stream numpy keeps as it is: seed 0 gives the images of LDAM-DRW,
    DRO-LT and Prior-LT.

    labels (N,) int    counts (C,) int: images to keep of each class    returns (sum of counts,) int64, class by class
    raises ValueError where a class has fewer images than asked for
    (source: Cao et al. 2019, LDAM, released code)
    """
    counts, available = np.asarray(counts), np.bincount(labels, minlength=len(counts))
    if len(available) > len(counts) or (available < counts).any():
        raise ValueError(f"counts: got {counts.tolist()[:10]}, expected at most what each class has, {available.tolist()[:10]}")
    random = np.random.RandomState(seed)
    chosen = []
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(available)[:-1])
    for positions, count in zip(by_class, counts):
        random.shuffle(positions)
        chosen.append(positions[:count])
    return np.concatenate(chosen).astype(np.int64)


def carve(index: np.ndarray, labels: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Parts a drawn index into training and validation positions: the last round(fraction * n_c) of each class are kept out.

    Of a class with two or more images at least one goes to each side; a single image stays in training.

    index (N,) positions, class by class, shuffled within a class    labels (N,) their labels    fraction in [0, 1)
    returns two index arrays, in the order of `index`; the second is empty for fraction 0
    """
    keep = np.ones(len(index), dtype=bool)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    for members in by_class if fraction > 0 else ():
        kept_out = max(min(max(round(fraction * len(members)), 1), len(members) - 1), 0)
        keep[members[len(members) - kept_out :]] = False
    return index[keep], index[~keep]


def make(
    dataset: str, train: Split, test: Split, *, kind: str, imbalance: float, seed: int, val_fraction: float, raw_sha256: str,
    val: Split | None = None,
) -> Subset:
    """Draws the long-tailed part of `train`, and keeps a validation part out of it; `val`, if given, is that part instead.

    kind: 'exp', 'step' or 'none', see lt.counts.profile    imbalance >= 1    seed: of the draw    val_fraction: see carve
    raw_sha256: see Subset
    raises ValueError where the parts differ in their classes, or a profile is asked for of data that are imbalanced as they are
    """
    if val and val_fraction:
        raise ValueError(f"subset.val_fraction: got {val_fraction}, expected 0: {dataset} has a validation part of its own")
    if train.classes != test.classes:
        found = f"{train.classes[:5]}, ... in train and {test.classes[:5]}, ... in test"
        raise ValueError(f"{dataset}: got classes {found}, expected the same in both")
    available = np.bincount(train.labels, minlength=len(train.classes))
    if kind != "none" and available.min() < available.max() / 2:
        raise ValueError(
            f"{dataset} is imbalanced as it is, {available.min()} to {available.max()} images per class; profile {kind!r} starts "
            f"from the smallest class and would drop most of the others: take the data as they are with -S subset.profile=none"
        )
    drawn = profile(kind, available, imbalance)
    index = draw(train.labels, drawn, seed)
    train_index, val_index = carve(index, train.labels[index], val_fraction)
    val_index = np.arange(len(val.labels)) if val else val_index
    train_labels = train.labels[train_index]
    return Subset(
        dataset=dataset,
        classes=train.classes,
        counts=np.bincount(train_labels, minlength=len(drawn)),
        train_index=train_index,
        train_labels=train_labels,
        val_index=val_index,
        val_labels=(val or train).labels[val_index],
        test_labels=test.labels,
        profile=kind,
        imbalance=float(imbalance if kind != "none" else drawn.max() / drawn.min()),
        drawn=drawn,
        val_fraction=float(val_fraction),
        seed=seed,
        sha256=index_sha256(train_index),
        raw_sha256=raw_sha256,
        image_size=train.image_size,
        mean=train.mean,
        std=train.std,
        val_part="val" if val else "train",
    )


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
