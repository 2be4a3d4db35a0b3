"""What of a row is shown."""

from typing import Any

# What a row of the table shows; the details of a row hold more.
HEADLINE = ("top1", "balanced", "train_prior", "many", "medium", "few", "head", "mid", "tail", "nll", "ece")
# What choosing the epoch on the test part would have shown; there with test_every only.
ORACLE = ("oracle_top1", "oracle_balanced")
# No fractions, and shown as they are, with three decimals; the others in percent.
NO_FRACTION = ("nll", "nll_t", "brier", "brier_t")


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
