"""Accuracy under any class distribution of the test data, from one set of test logits. numpy only."""

from pathlib import Path

import numpy as np

from lt.core import json_text
from lt.core.counts import prior as prior_of
from lt.core.files import read_regular
from lt.core.options import LARGEST
from lt.evaluate.calibration import TEMPERATURES, fit_temperature
from lt.evaluate.metrics import blocks, per_class, places, predict

RATIOS = (50, 25, 10, 5, 2)
KINDS = ("prior_unknown", "prior_known")


def rank(train_counts: np.ndarray) -> np.ndarray:
    """Rank of each class by training count, 0 for the largest, ties by class number: (C,) -> (C,) int64."""
    ranks = np.empty(len(train_counts), dtype=np.int64)
    ranks[np.argsort(-np.asarray(train_counts), kind="stable")] = np.arange(len(train_counts))
    return ranks


def shares(train_counts: np.ndarray, ratio: float, backward: bool = False) -> np.ndarray:
    """Long-tailed class shares ratio^(-rank / (C - 1)), 1 for the largest class; backward reverses the ranks.

    train_counts (C,)    ratio >= 1, largest share / smallest share    returns (C,) float64 in (0, 1]
    (source: Hong et al. 2021, LADE, section 4.1)
    """
    ranks = rank(train_counts)
    num_classes = len(ranks)
    ranks = num_classes - 1 - ranks if backward else ranks
    return (1 / ratio) ** (ranks / max(num_classes - 1, 1))


def protocol(train_counts: np.ndarray) -> dict[str, np.ndarray]:
    """The eleven test distributions of LADE: forward_50, 25, 10, 5, 2, uniform, backward_2, 5, 10, 25, 50 -> shares (C,)."""
    forward = {f"forward_{ratio}": shares(train_counts, ratio) for ratio in RATIOS}
    backward = {f"backward_{ratio}": shares(train_counts, ratio, backward=True) for ratio in reversed(RATIOS)}
    return {**forward, "uniform": np.ones(len(train_counts)), **backward}


def frequencies(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Class frequencies of labelled images, of which none is 0: a class without an image counts as half of one. (N,) -> (C,)"""
    return prior_of(np.maximum(np.bincount(labels, minlength=num_classes), 0.5))


def fit_temperature_at(logits: np.ndarray, labels: np.ndarray, logit_prior: np.ndarray, at: np.ndarray) -> float | None:
    """The temperature of logits that were moved to the prior of the labels: what `python -m stages.predict` divides by.

    T minimises the mean NLL of softmax((z + log at - log logit_prior) / T): where the logits embody another prior than that of
    the labels, it is not the temperature of z as it is, which has to make up for the wrong prior besides.

    logits (N, C) or (N, E, C)    labels (N,)    logit_prior, at (C,): see frequencies
    returns None where the images do not determine it: all are right, or the more evenly the better
    """
    shift = prior_shift(logit_prior, at).astype(np.float32)
    temperature = fit_temperature(logits, labels, shift=shift)
    is_determined = 1.01 * TEMPERATURES[0] < temperature < TEMPERATURES[1] / 1.01
    return temperature if is_determined and not (predict(logits, shift) == labels).all() else None


def nested_subset(labels: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Mask (N,) of the first int(M share_c) test images of each class in file order, M the smallest class's test images.

    Subsets of a smaller share are contained in those of a larger one. Where M share_c is below 1 the class drops out.

    labels (N,)    share (C,) in [0, 1]    (source: Hong et al. 2021, LADE; M = 100 for CIFAR-100, 50 for ImageNet-LT)
    """
    counts = np.bincount(labels)
    return places(labels) < (counts[counts > 0].min() * share).astype(np.int64)[labels]


def weighted_accuracy(recall: np.ndarray, test_counts: np.ndarray, prior: np.ndarray) -> tuple[float, float]:
    """Accuracy under a class prior, sum_c p_c r_c, and its standard error sqrt(sum_c p_c^2 r_c (1 - r_c) / n_c).

    The expectation of the accuracy on a test set drawn with that prior, from all test images instead of a subset. The error
    is that of the test images' choice, and too small where few images of a class are all right or all wrong.

    recall (C,), NaN for a class without a test image, which is left out    test_counts (C,)    prior (C,), any positive sum
    Raises ValueError where no tested class has weight.
    """
    tested = test_counts > 0
    weight = np.where(tested, prior, 0.0)
    if not weight.sum() > 0:
        raise ValueError("prior: no class that has test images has weight; give weight to at least one of them")
    weight = weight / weight.sum()
    recall = np.where(tested, recall, 0.0)
    variance = (weight**2 * recall * (1 - recall) / np.maximum(test_counts, 1)).sum()
    return float(weight @ recall), float(np.sqrt(variance))


def prior_shift(logit_prior: np.ndarray, target: np.ndarray) -> np.ndarray:
    """log target - log logit_prior, to be added to logits that embody logit_prior: (C,), (C,) -> (C,) float64, largest 0.

    A class of target 0 gets minus infinity and is never predicted (source: Saerens et al. 2002; Menon et al. 2021, section 4.1).
    Raises ValueError where logit_prior is not positive or target is negative, not finite or all zero.
    """
    logit_prior, target = np.asarray(logit_prior, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if logit_prior.shape != target.shape:
        raise ValueError(f"prior: got shape {target.shape}, expected {logit_prior.shape}, one weight per class")
    if not (np.isfinite(logit_prior).all() and (logit_prior > 0).all()):
        raise ValueError(f"logit_prior: got {logit_prior.min()} to {logit_prior.max()}, expected positive numbers, one per class")
    if not (np.isfinite(target).all() and (target >= 0).all() and target.sum() > 0):
        raise ValueError(f"prior: got {target.min()} to {target.max()}, expected weights of at least 0 and below {LARGEST:g}, not all of them 0")
    with np.errstate(divide="ignore"):
        shift = np.log(target) - np.log(logit_prior)
    return shift - shift.max()


def under_prior(logits: np.ndarray, labels: np.ndarray, logit_prior: np.ndarray, target: np.ndarray) -> dict[str, dict]:
    """Accuracy under one test prior, twice: the logits as they are (prior_unknown), and moved to the prior (prior_known).

    logits (N, C) or (N, E, C)    labels (N,)    logit_prior (C,): what the logits embody    target (C,): any positive sum
    returns {"prior_unknown": {"accuracy", "se"}, "prior_known": ...}, by `weighted_accuracy`
    """
    predictions = {"prior_unknown": predict(logits), "prior_known": predict(logits, prior_shift(logit_prior, target))}
    found = {}
    for kind, predicted in predictions.items():
        scores = per_class(labels, predicted, len(target))
        accuracy, error = weighted_accuracy(scores["recall"], scores["count"], target)
        found[kind] = {"accuracy": accuracy, "se": error}
    return found


def curve(logits: np.ndarray, labels: np.ndarray, train_counts: np.ndarray, logit_prior: np.ndarray) -> list[dict]:
    """Accuracy under each distribution of `protocol`, in its order, exactly weighted and on LADE's nested subsets.

    Each entry: name, images (size of the subset), and prior_unknown and prior_known with accuracy, se and subset_accuracy, which
    is None where the subset has no image: too few are tested of the classes that would be in it.
    Prior known on the uniform distribution is the post-compensated softmax of logits that embody the training prior.
    One pass over the logits, of which nothing is kept but what is right, by class.
    """
    num_classes = len(train_counts)
    counts = np.bincount(labels, minlength=num_classes)
    targets = protocol(train_counts)
    shifts = {name: prior_shift(logit_prior, share) for name, share in targets.items()}
    inside = {name: nested_subset(labels, share) for name, share in targets.items()}
    hits = {(name, kind): np.zeros(num_classes, dtype=np.int64) for name in targets for kind in KINDS}
    in_subset = dict.fromkeys(hits, 0)
    for rows, scores in blocks(logits):
        target = labels[rows]
        unknown = scores.argmax(axis=1) == target
        for name, shift in shifts.items():
            for kind, right in zip(KINDS, (unknown, (scores + shift).argmax(axis=1) == target)):
                hits[name, kind] += np.bincount(target[right], minlength=num_classes)
                in_subset[name, kind] += int((right & inside[name][rows]).sum())
    points = []
    for name, share in targets.items():
        images = int(inside[name].sum())
        point = {"name": name, "images": images}
        for kind in KINDS:
            recall = np.where(counts > 0, hits[name, kind] / np.maximum(counts, 1), np.nan)
            accuracy, error = weighted_accuracy(recall, counts, share)
            on_subset = in_subset[name, kind] / images if images else None
            point[kind] = {"accuracy": accuracy, "se": error, "subset_accuracy": on_subset}
        points.append(point)
    return points


def shifted(points: list[dict]) -> dict[str, float]:
    """Accuracies of `curve` as metrics: forward_50 ... backward_50 of the logits as they are, forward_50_known ... of those moved
    to the prior. uniform is left out: as they are, it is `balanced`."""
    shifts = [point for point in points if point["name"] != "uniform"]
    unknown = {point["name"]: point["prior_unknown"]["accuracy"] for point in shifts}
    return unknown | {f"{point['name']}_known": point["prior_known"]["accuracy"] for point in shifts}


def read_prior(path: Path, classes: tuple[str, ...]) -> np.ndarray:
    """A prior from a JSON file: a list of C weights in label order, or class name -> weight. Returns (C,), sums to 1.

    Raises ValueError where classes are missing or unknown, or weights are negative or all zero.
    """
    try:
        content = json_text.loads(read_regular(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error}); expected weights, one per class") from None
    if isinstance(content, dict):
        missing, unknown = sorted(set(classes) - set(content)), sorted(set(content) - set(classes))
        if missing or unknown:
            raise ValueError(f"{path}: classes missing: {missing[:10]}, unknown: {unknown[:10]}; expected every class once")
        content = [content[name] for name in classes]
    if not isinstance(content, list) or len(content) != len(classes):
        got = f"{len(content)} weights" if isinstance(content, list) else type(content).__name__
        raise ValueError(f"{path}: got {got}, expected {len(classes)}, one per class")
    if not all(type(weight) in (int, float) and 0 <= weight < LARGEST for weight in content) or not sum(content) > 0:
        raise ValueError(f"{path}: expected weights of at least 0 and below {LARGEST:g}, not all of them 0")
    return np.asarray(content, dtype=np.float64) / sum(content)
