"""Calibration of test logits: ECE, MCE, NLL, Brier score, and temperature scaling by cross-fitting. numpy and scipy only."""

from dataclasses import dataclass
from typing import Callable

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from lt.evaluate.metrics import blocks, places

TEMPERATURES = (0.01, 100.0)  # range that is searched


@dataclass(frozen=True)
class Scored:
    """What calibration needs of each of some images: probabilities are softmax(logits / temperature).

    confidence (N,): largest probability    correct (N,) bool: the most probable class is the label
    nll (N,): -log p_label, in nats    brier (N,): sum_c (p_c - [c = label])^2, in [0, 2]
    class_gap (C, bins): sum over the images with p_c in the bin of [c = label] - p_c
    """

    confidence: np.ndarray
    correct: np.ndarray
    nll: np.ndarray
    brier: np.ndarray
    class_gap: np.ndarray


def bin_of(probs: np.ndarray, bins: int) -> np.ndarray:
    """Bin of each probability: k for the right-closed bin (k / bins, (k + 1) / bins]; 0 goes to bin 0."""
    edges = np.arange(bins + 1) / bins
    return np.clip(np.searchsorted(edges, probs, side="left") - 1, 0, bins - 1)


def score(logits: np.ndarray, labels: np.ndarray, bins: int = 15, temperature: np.ndarray | float = 1.0) -> Scored:
    """Confidence, correctness, NLL and Brier score of every image: logits (N, C) or (N, E, C), labels (N,).

    temperature: one for all, or one per image (N,); positive
    """
    num_images, num_classes = len(labels), logits.shape[-1]
    temperature = np.broadcast_to(np.asarray(temperature, dtype=np.float64), num_images)
    confidence, nll, brier = (np.empty(num_images) for _ in range(3))
    correct = np.empty(num_images, dtype=bool)
    class_gap = np.zeros(num_classes * bins)
    first_bin = np.arange(num_classes) * bins
    for rows, scores in blocks(logits):
        target = labels[rows]
        each = np.arange(len(target))
        log_probs = log_softmax(scores / temperature[rows, None], axis=1)
        probs = np.exp(log_probs)
        # Where the argmax is taken matters only in ties: the logits' own, as in lt.evaluate.metrics.predict.
        correct[rows] = scores.argmax(axis=1) == target
        confidence[rows] = probs.max(axis=1)
        nll[rows] = -log_probs[each, target]
        gap = -probs
        gap[each, target] += 1.0
        brier[rows] = (gap**2).sum(axis=1)
        cells = first_bin + bin_of(probs, bins)
        class_gap += np.bincount(cells.ravel(), weights=gap.ravel(), minlength=num_classes * bins)
    return Scored(confidence, correct, nll, brier, class_gap.reshape(num_classes, bins))


def _sums(confidence: np.ndarray, correct: np.ndarray, into: np.ndarray) -> None:
    """Adds images to the sums (3, bins) behind a histogram: images, confidence, right ones."""
    index = bin_of(confidence, into.shape[1])
    for row, values in zip(into, (1, confidence, correct)):
        np.add.at(row, index, values)


def _means(sums: np.ndarray) -> dict[str, np.ndarray]:
    count = sums[0].astype(np.int64)
    below = np.where(count > 0, count, np.nan)
    return {"count": count, "confidence": sums[1] / below, "accuracy": sums[2] / below}


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> dict[str, np.ndarray]:
    """Histogram behind a reliability diagram: arrays (bins,) count, confidence and accuracy, the means NaN in an empty bin.

    confidence (N,) in (0, 1]    correct (N,) bool
    """
    sums = np.zeros((3, bins))
    _sums(confidence, correct, sums)
    return _means(sums)


def pooled(histograms: list[dict[str, list]]) -> dict[str, np.ndarray]:
    """One reliability histogram of all seeds: counts added, means weighted by them; bins without an image left out."""
    count = np.array([histogram["count"] for histogram in histograms], dtype=np.float64)
    kept = count.sum(0) > 0
    found = {"count": count.sum(0)[kept]}
    for name in ("confidence", "accuracy"):
        values = np.nan_to_num(np.array([histogram[name] for histogram in histograms], dtype=np.float64))
        found[name] = (count * values).sum(0)[kept] / found["count"]
    return found


def ece(histogram: dict[str, np.ndarray]) -> float | None:
    """Expected calibration error, sum_k n_k |acc_k - conf_k| / N over equal-width bins, in [0, 1]; None without an image.

    histogram: of `reliability`    (source: Naeini et al. 2015; Guo et al. 2017, eq. 3)
    """
    images = histogram["count"].sum()
    gaps = np.abs(histogram["accuracy"] - histogram["confidence"])
    return float(np.nansum(histogram["count"] * gaps) / images) if images else None


def mce(histogram: dict[str, np.ndarray]) -> float | None:
    """Maximum calibration error, max_k |acc_k - conf_k| over the bins that hold an image; None without an image.

    A bin with one image counts as much as any other (source: Guo et al. 2017, eq. 5).
    """
    gaps = np.abs(histogram["accuracy"] - histogram["confidence"])
    return float(np.nanmax(gaps)) if histogram["count"].any() else None


def classwise_ece(class_gap: np.ndarray, images: int) -> float:
    """Mean over classes of the calibration error of p_c as a forecast of [label = c], over all images; in [0, 1].

    (1 / C) sum_c sum_k |sum_{i in bin k} ([label_i = c] - p_ic)| / N    (source: Kull et al. 2019; Nixon et al. 2019, SCE)

    class_gap (C, bins): of Scored
    """
    return float(np.abs(class_gap).sum() / (images * len(class_gap)))


def calibration(
    logits: np.ndarray, labels: np.ndarray, masks: dict[str, np.ndarray], bins: int = 15,
    temperature: Callable[[slice], np.ndarray | float] = lambda rows: 1.0,
) -> tuple[dict[str, float | None], dict[str, np.ndarray]]:
    """Calibration metrics, and the histogram of `reliability`, in one pass over the logits; what is kept does not grow with N.

    The metrics: nll, brier, ece, mce, classwise_ece, and <group>_ece over the images whose true class is in the group.

    logits (N, C) or (N, E, C)    labels (N,)    masks: name -> (C,) bool    temperature: of these rows, one or (b,)
    <group>_ece is None where no image belongs to the group
    """
    nll = brier = 0.0
    class_gap = np.zeros((logits.shape[-1], bins))
    everything, *of_groups = (np.zeros((3, bins)) for _ in range(1 + len(masks)))
    for rows, scores in blocks(logits):
        target = labels[rows]
        scored = score(scores, target, bins, temperature(rows))
        nll, brier = nll + float(scored.nll.sum()), brier + float(scored.brier.sum())
        class_gap += scored.class_gap
        _sums(scored.confidence, scored.correct, everything)
        for mask, sums in zip(masks.values(), of_groups):
            inside = mask[target]
            _sums(scored.confidence[inside], scored.correct[inside], sums)
    histogram, images = _means(everything), len(labels)
    metrics = {
        "nll": nll / images,
        "brier": brier / images,
        "ece": ece(histogram),
        "mce": mce(histogram),
        "classwise_ece": classwise_ece(class_gap, images),
    }
    return metrics | {f"{name}_ece": ece(_means(sums)) for name, sums in zip(masks, of_groups)}, histogram


def halves(labels: np.ndarray) -> np.ndarray:
    """Half (0 or 1) of each image, stratified by class: the images of a class take turns, in file order. (N,) -> (N,) int64.

    Odd classes begin with half 1, so that classes with an odd number of images do not all favour the same half.
    """
    return (places(labels) + labels) % 2


def fit_temperature(
    logits: np.ndarray, labels: np.ndarray, index: np.ndarray | None = None, shift: np.ndarray | None = None
) -> float:
    """The temperature in [0.01, 100] that minimises the mean NLL of softmax(logits / T) (source: Guo et al. 2017, section 4.2).

    The NLL is convex in 1 / T, so it has one minimum along log T. Where every image is right the NLL falls towards T = 0, and
    the lower end of the range comes out; where the labels contradict the logits, the upper end.

    logits (N, C) or (N, E, C)    labels (N,)    index (M,): the images to fit on; all, if None    shift (C,): added to the logits
    """
    images = len(labels) if index is None else len(index)

    def mean_nll(log_temperature: float) -> float:
        total = 0.0
        for rows, scores in blocks(logits, index, shift):
            scores = scores / np.exp(log_temperature)
            scores -= scores.max(axis=1, keepdims=True)
            of_label = scores[np.arange(len(scores)), labels[rows]]
            total -= (of_label - np.log(np.exp(scores, out=scores).sum(axis=1))).sum()
        return total / images

    found = minimize_scalar(mean_nll, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))


def cross_fit(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Temperatures of the test images, each fitted on the half of the test set that the image is not in.

    The test set is cut in two halves by class; each half is judged with the temperature of the other, so that no temperature
    is judged on the images it was fitted on, and no image is lost.

    logits (N, C) or (N, E, C)    labels (N,)    returns the half of each image (N,), and the temperatures of half 0 and half 1
    """
    half = halves(labels)
    if len(np.unique(half)) < 2:
        raise ValueError(f"temperature scaling needs two halves of the test set, each with an image: got {len(labels)} image(s)")
    return half, tuple(fit_temperature(logits, labels, np.flatnonzero(half != own)) for own in (0, 1))
