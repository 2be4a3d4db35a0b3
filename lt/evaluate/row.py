"""Everything that is measured on one row's test logits, per seed and over seeds. numpy and scipy only."""

from typing import Any

import numpy as np

from lt.core.counts import thirds
from lt.evaluate.calibration import calibration, cross_fit
from lt.evaluate.comparison import pack_correct, wilson
from lt.evaluate.label_shift import curve, fit_temperature_at, frequencies, rank, shifted
from lt.evaluate.metrics import accuracies, check_logits, per_class, predict


def evaluate(
    logits: np.ndarray,
    labels: np.ndarray,
    train_counts: np.ndarray,
    logit_prior: np.ndarray,
    bins: int,
    where: str = "test logits",
) -> dict[str, Any]:
    """All metrics of one seed's test logits, as JSON values.

    metrics: name -> number or None: lt.evaluate.metrics.accuracies, lt.evaluate.calibration.calibration, and the latter again as
    <name>_t after temperature scaling by cross-fitting: each half of the test set is judged with the temperature fitted on the other half;
    lt.evaluate.label_shift.shifted
    temperature: what half 0 and half 1 of the logits as they are were divided by
    temperature_at_test_prior: lt.evaluate.label_shift.fit_temperature_at on all test images, or None
    per_class: recall, precision, f1, predicted, each (C,)
    test_prior: lt.evaluate.label_shift.curve    reliability: histograms before and after temperature
    correct: which images are right, lt.evaluate.comparison.pack_correct

    logits (N, C) or (N, E, C)    labels (N,) int64    train_counts (C,)    logit_prior (C,)    bins of the calibration errors
    Raises ValueError where shapes differ or logits are not finite; `where` names them in the message.
    The logits may be a memory-mapped file of any size: they are read in blocks of rows, some fifty times.
    """
    num_classes = len(train_counts)
    check_logits(logits, labels, num_classes, where)
    predicted = predict(logits)
    half, used = cross_fit(logits, labels)
    masks = thirds(train_counts)
    calibrated, before = calibration(logits, labels, masks, bins)
    scaled, after = calibration(logits, labels, masks, bins, lambda rows: np.asarray(used)[half[rows]])
    classes, points = per_class(labels, predicted, num_classes), curve(logits, labels, train_counts, logit_prior)
    calibrated |= {f"{name}_t": value for name, value in scaled.items()}
    return {
        "metrics": accuracies(labels, predicted, train_counts) | calibrated | shifted(points),
        "temperature": list(used),
        "temperature_at_test_prior": fit_temperature_at(logits, labels, logit_prior, frequencies(labels, num_classes)),
        "per_class": {name: _listed(classes[name]) for name in ("recall", "precision", "f1", "predicted")},
        "test_prior": points,
        "reliability": {"before": _histogram(before), "after": _histogram(after)},
        "correct": pack_correct(predicted == labels, labels),
    }


def over_seeds(metrics: list[dict[str, float | None]]) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Mean and sample standard deviation (n - 1) of each metric over seeds; sd is None for one seed, both where a value is None.

    metrics: one dict per seed, all with the same keys
    """
    mean, sd = {}, {}
    for name in metrics[0]:
        values = [one[name] for one in metrics]
        defined = all(value is not None for value in values)
        mean[name] = float(np.mean(values)) if defined else None
        sd[name] = float(np.std(values, ddof=1)) if defined and len(values) > 1 else None
    return mean, sd


def class_scores(details: dict[str, Any], name: str) -> np.ndarray:
    """A score of each class, mean over seeds: (C,), NaN for a class without a test image.

    details: content of results/details/<row>.json    name: recall, precision or f1
    """
    return np.mean([np.array(seed["per_class"][name], dtype=np.float64) for seed in details["seeds"].values()], axis=0)


def class_lines(details: dict[str, Any]) -> list[dict[str, Any]]:
    """One line per class, the largest first: rank from 1, name, training and test images, means over seeds of its scores, and the
    recall's 95% interval over the choice of test images; None where a class has no test image."""
    scores = {name: class_scores(details, name) for name in ("recall", "precision", "f1")}
    scores["recall_low"], scores["recall_high"] = wilson(scores["recall"], np.asarray(details["test_counts"]))
    ranks = rank(np.asarray(details["train_counts"]))
    return [
        {
            "rank": int(ranks[c]) + 1, "class": details["classes"][c], "train_images": details["train_counts"][c],
            "test_images": details["test_counts"][c],
            **{name: None if np.isnan(values[c]) else float(values[c]) for name, values in scores.items()},
        }
        for c in np.argsort(ranks)
    ]  # fmt: skip


def oracle(log: list[dict[str, float]]) -> dict[str, float | None]:
    """oracle_top1 and oracle_balanced: the highest test_top1 and the highest test_balanced of any tested epoch, each for itself.

    They are what choosing the epoch on the test part would report, which nothing here does; None without a tested epoch.

    log: one dict per epoch, with NaN where an epoch was not tested
    """
    found = {}
    for name in ("top1", "balanced"):
        tested = [line[f"test_{name}"] for line in log if not np.isnan(line.get(f"test_{name}", np.nan))]
        found[f"oracle_{name}"] = max(tested, default=None)
    return found


def rounded(content: Any) -> Any:
    """JSON content with every float at six significant digits, so that the last bits of another machine make no difference."""
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [rounded(value) for value in content]
    return float(f"{content:.6g}") if isinstance(content, float) else content


def _histogram(found: dict[str, np.ndarray]) -> dict[str, list]:
    return {name: _listed(values) for name, values in found.items()}


def _listed(values: np.ndarray) -> list:
    """Array as a list, NaN as None."""
    return [None if isinstance(value, float) and np.isnan(value) else value for value in values.tolist()]
