"""Points for `dvc plots`: every row's metrics, and the recall by class and the reliability of the reported row."""

from typing import Any

import numpy as np

from lt.evaluate.calibration import pooled
from lt.evaluate.headline import columns
from lt.evaluate.label_shift import rank
from lt.evaluate.row import class_scores

Points = list[dict[str, Any]]


def by_row(rows: dict[str, dict[str, Any]]) -> Points:
    """One line per row: its metrics of the table, means over seeds. rows: row -> content of results/details/<row>.json."""
    return [{"row": row, **{name: details["mean"][name] for name in columns(details["mean"])}} for row, details in rows.items()]


def by_class(details: dict[str, Any]) -> Points:
    """One line per class, the largest first: rank from 1, name, training images, means over seeds of its scores."""
    scores = {name: class_scores(details, name) for name in ("recall", "precision", "f1")}
    ranks = rank(np.asarray(details["train_counts"]))
    return [
        {
            "rank": int(ranks[c]) + 1, "class": details["classes"][c], "train_images": details["train_counts"][c],
            **{name: None if np.isnan(values[c]) else float(values[c]) for name, values in scores.items()},
        }
        for c in np.argsort(ranks)
    ]  # fmt: skip


def by_confidence(details: dict[str, Any]) -> Points:
    """One line per bin of the reliability histogram that holds an image: images of all seeds, mean confidence, accuracy."""
    bins = pooled([seed["reliability"]["before"] for seed in details["seeds"].values()])
    found = zip(bins["count"], bins["confidence"], bins["accuracy"])
    return [{"images": int(count), "confidence": float(mean), "accuracy": float(right)} for count, mean, right in found]
