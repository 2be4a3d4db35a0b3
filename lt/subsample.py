"""How the long-tailed training part is drawn, and what is kept out of it to validate on. numpy only."""

import numpy as np

from lt.core.subset import Subset, index_sha256
from lt.data.split import Split


def profile(kind: str, available: np.ndarray, imbalance: float) -> np.ndarray:
    """Number of training images to keep of each class.

    exp:  n_c = int(n_max * imbalance ** (-c / (C - 1)));  step: n_max for the first half, int(n_max / imbalance) after it;
    none: all. n_max is the smallest of the available counts, so that every class can give what is asked of it.

    kind 'exp', 'step' or 'none'    available (C,) int    imbalance >= 1, largest count / smallest count
    returns (C,) int64; raises ValueError where a class would be left without an image
    (source: Cao et al. 2019, LDAM; truncation, not rounding)
    """
    available = np.asarray(available, dtype=np.int64)
    num_classes = len(available)
    if kind == "none":
        counts = available
    elif kind == "exp":
        # As the reference code writes it, so that truncation falls alike: a fraction to a power, times the largest count.
        fraction = (1 / imbalance) ** (np.arange(num_classes) / max(num_classes - 1, 1))
        counts = (available.min() * fraction).astype(np.int64)
    elif kind == "step":
        counts = np.full(num_classes, available.min())
        counts[num_classes // 2 :] = int(available.min() * (1 / imbalance))
    else:
        raise ValueError(f"profile: got {kind!r}, expected 'exp', 'step' or 'none'")
    if (counts < 1).any():
        raise ValueError(
            f"imbalance {imbalance:g} leaves classes {np.flatnonzero(counts < 1).tolist()[:10]} without an image: the smallest "
            f"class has {available.min()} images; lower imbalance to at most {available.min()}"
        )
    return counts


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
    val: Split | None = None, reserve: int = 0,
) -> Subset:
    """Draws the long-tailed part of `train`, and keeps a validation part out of it; `val`, if given, is that part instead.

    kind: 'exp', 'step' or 'none', see lt.subsample.profile    imbalance >= 1    seed: of the draw    val_fraction: see carve
    raw_sha256: see Subset    reserve: images of each class that are never drawn, so that n_max is so many fewer
    raises ValueError where the parts differ in their classes, a class has no more than `reserve` images, or a profile is asked for of data that are imbalanced as they are
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
    if reserve >= available.min():
        raise ValueError(f"subset.reserve: got {reserve}, expected less than the smallest class of {dataset} has, {available.min()}")
    drawn = profile(kind, available - reserve, imbalance)
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
