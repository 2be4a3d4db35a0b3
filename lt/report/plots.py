"""Points for `dvc plots`: every row's metrics, and the reliability of the reported row."""

from typing import Any

from lt.evaluate.calibration import pooled
from lt.evaluate.headline import columns

Points = list[dict[str, Any]]


def by_row(rows: dict[str, dict[str, Any]]) -> Points:
    """One line per row: its metrics of the table, means over seeds. rows: row -> content of results/details/<row>.json."""
    return [{"row": row, **{name: details["mean"][name] for name in columns(details["mean"])}} for row, details in rows.items()]


def by_confidence(details: dict[str, Any]) -> Points:
    """One line per bin of the reliability histogram that holds an image: images of all seeds, mean confidence, accuracy."""
    bins = pooled([seed["reliability"]["before"] for seed in details["seeds"].values()])
    found = zip(bins["count"], bins["confidence"], bins["accuracy"])
    return [{"images": int(count), "confidence": float(mean), "accuracy": float(right)} for count, mean, right in found]
