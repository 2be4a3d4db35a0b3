"""What of a row is shown."""

from typing import Any

# What a row of the table shows; the details of a row hold more.
HEADLINE = ("top1", "balanced", "many", "medium", "few", "head", "mid", "tail", "nll", "ece")
# What choosing the epoch on the test part would have shown; there with test_every only.
ORACLE = ("oracle_top1", "oracle_balanced")
# Shown in percent; the others as they are, with three decimals.
PERCENT = (*(name for name in HEADLINE if name != "nll"), *ORACLE)


def headline(details: dict[str, Any]) -> dict[str, Any]:
    """Content of results/methods/<row>.json: numbers and names for `dvc metrics`, from the row's details.

    Few and flat, the same keys for every row: DVC makes a column of each, and leaves out what is null. balanced_sd is the
    standard deviation over seeds; those of the other metrics are in the details.
    """
    mean = details["mean"]
    return {
        **{name: mean[name] for name in columns(mean)},
        "balanced_sd": details["sd"]["balanced"],
        "row": details["row"],
        "loss": details["context"]["loss"],
    }


def columns(mean: dict[str, Any]) -> tuple[str, ...]:
    """Metrics that the table shows, of all those in a row's mean."""
    return (*HEADLINE, *(name for name in ORACLE if name in mean))
