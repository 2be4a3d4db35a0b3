"""Accuracy from test logits: recall, precision and F1 of each class and of groups of classes. numpy only."""

from typing import Iterator

import numpy as np

from lt.core.counts import shot_groups, thirds

# Rows, and numbers in them, taken to float64 at a time: what large test sets take stays small, and near the processor.
BLOCK, BLOCK_NUMBERS = 4096, 2**19


def check_logits(logits: np.ndarray, labels: np.ndarray, num_classes: int, where: str = "test logits") -> None:
    """Raises ValueError unless logits are finite floats (N, C) or (N, E, C), with one label in [0, C) per row.

    where: what the message calls the logits, such as their file
    """
    shape = logits.shape
    if logits.ndim not in (2, 3) or shape[0] != len(labels) or shape[-1] != num_classes or 0 in shape:
        raise ValueError(
            f"{where}: got shape {shape}, expected ({len(labels)}, {num_classes}) or ({len(labels)}, experts, {num_classes}): "
            f"one row per test image, one column per class; run the stage that writes them again"
        )
    if not (0 <= labels.min() and labels.max() < num_classes):
        raise ValueError(f"labels: got values {labels.min()} to {labels.max()}, expected 0 to {num_classes - 1}")
    with np.errstate(invalid="ignore"):  # of experts that are infinite both ways
        broken = [rows.start + np.flatnonzero(~np.isfinite(scores).all(axis=1)) for rows, scores in blocks(logits)]
    if number := sum(map(len, broken)):
        raise ValueError(
            f"{where}: {number} of {len(logits)} rows hold NaN or infinity, the first of them row "
            f"{np.concatenate(broken)[0]}: the training diverged; lower its lr or lengthen its warm-up, then run it again"
        )


def blocks(
    logits: np.ndarray, index: np.ndarray | None = None, shift: np.ndarray | None = None
) -> Iterator[tuple[slice | np.ndarray, np.ndarray]]:
    """Yields (rows, scores (b, C) float64), b at most 4096: logits (N, C), or the mean over the experts of (N, E, C).

    index (M,): the rows to take, in this order; all, if None    shift (C,): added to the logits, in their own precision or its own
    """
    size = min(BLOCK, max(1, BLOCK_NUMBERS // max(logits.shape[-1], 1)))
    for start in range(0, len(logits) if index is None else len(index), size):
        rows = slice(start, start + size) if index is None else index[start : start + size]
        part = logits[rows] if shift is None else logits[rows] + shift
        scores = np.asarray(part, dtype=np.float64)
        yield rows, scores if scores.ndim == 2 else scores.mean(axis=1)


def places(labels: np.ndarray) -> np.ndarray:
    """How many images of its class come before each image in file order: (N,) -> (N,) int64."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    found = np.empty(len(labels), dtype=np.int64)
    found[order] = np.arange(len(labels)) - (np.cumsum(counts) - counts).repeat(counts)
    return found


def predict(logits: np.ndarray, shift: np.ndarray | None = None) -> np.ndarray:
    """Predicted classes argmax_c (logits_c + shift_c): (N, C) or (N, E, C), shift (C,) -> (N,) int64; of equals the lower."""
    predicted = np.empty(len(logits), dtype=np.int64)
    for rows, scores in blocks(logits):
        predicted[rows] = (scores if shift is None else scores + shift).argmax(axis=1)
    return predicted


def per_class(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> dict[str, np.ndarray]:
    """Counts and scores of each class, with TP_c the images of class c that are predicted as c.

    count_c = test images of c; predicted_c = images predicted as c; recall_c = TP_c / count_c;
    precision_c = TP_c / predicted_c, and 0 where c is never predicted; f1_c = 2 TP_c / (count_c + predicted_c)

    labels, predicted (N,) int64 in [0, C)    returns (C,) arrays; the scores are NaN for a class without a test image
    """
    count = np.bincount(labels, minlength=num_classes)
    predicted_count = np.bincount(predicted, minlength=num_classes)
    hits = np.bincount(labels[labels == predicted], minlength=num_classes)
    tested = count > 0

    def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
        return np.where(tested, above / np.maximum(below, 1), np.nan)

    return {
        "count": count,
        "predicted": predicted_count,
        "recall": ratio(hits, count),
        "precision": ratio(hits, predicted_count),
        "f1": ratio(2 * hits, count + predicted_count),
    }


def groups(train_counts: np.ndarray) -> dict[str, np.ndarray]:
    """Masks (C,) of the groups many, medium, few (by the thresholds 100 and 20) and head, mid, tail (thirds of the classes)."""
    return {**shot_groups(train_counts), **thirds(train_counts)}


def group_mean(values: np.ndarray, mask: np.ndarray) -> float | None:
    """Mean of values (C,) over the classes in mask (C,) that have a test image (no NaN); None where there is no such class."""
    kept = values[mask & ~np.isnan(values)]
    return float(kept.mean()) if len(kept) else None


def accuracies(labels: np.ndarray, predicted: np.ndarray, train_counts: np.ndarray) -> dict[str, float | None]:
    """Accuracy metrics of one set of predictions, in [0, 1]; None for a group without a tested class, never 0.

    top1: share of the images that are right    balanced: mean recall over classes    macro_f1: mean F1 over classes
    train_prior: sum_c n_c recall_c / sum_c n_c, what to expect of top1 on test data with the class shares of the training part
    many, medium, few, head, mid, tail: mean recall over the classes of the group    <group>_precision: mean precision, that of
    a class that is never predicted being 0    <group>_precision_predicted: mean precision over the predicted classes alone
    Classes without a test image are left out of every mean. The last is what xERM's release calls precision: it rises where a
    class is given up, so that rows are to be compared by the other.

    labels, predicted (N,) int64    train_counts (C,)
    """
    scores = per_class(labels, predicted, len(train_counts))
    everything = np.ones(len(train_counts), dtype=bool)
    tested = scores["count"] > 0
    metrics = {
        "top1": float(np.mean(labels == predicted)),
        "balanced": group_mean(scores["recall"], everything),
        "train_prior": float(np.average(scores["recall"][tested], weights=np.asarray(train_counts)[tested])),
        "macro_f1": group_mean(scores["f1"], everything),
    }
    masks = groups(train_counts)
    metrics |= {name: group_mean(scores["recall"], mask) for name, mask in masks.items()}
    metrics |= {f"{name}_precision": group_mean(scores["precision"], mask) for name, mask in masks.items()}
    seen = {f"{name}_precision_predicted": mask & (scores["predicted"] > 0) for name, mask in masks.items()}
    metrics |= {name: group_mean(scores["precision"], mask) for name, mask in seen.items()}
    return metrics
