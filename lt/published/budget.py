"""A part of a recipe's budget: everything that trains a backbone for fewer epochs, in proportion."""

import copy
from decimal import ROUND_HALF_UP, Decimal
from typing import Any


class BudgetError(ValueError):
    """A budget that is no share of the whole."""


def scale(content: dict[str, Any], budget: float) -> dict[str, Any]:
    """The content of params.yaml with its trainings cut to `budget` of their epochs; the given content is not changed.

    train and distill: epochs, warm-up and milestones    the selected weighting and loss: start_epoch
    the selected mix: stop_epoch    methods that train the backbone: epochs

    Rounded half up. Epochs stay at least 1, of a cosine 2; what begins after the start still does where there are two epochs or more;
    what ends or begins inside the training stays inside, so that milestones which meet become one. What is trained on
    cached features keeps its length: it takes seconds.

    budget in (0, 1]; BudgetError outside    200 epochs, warm-up 5, milestones 160 and 180 at 0.1: 20, 1, 16 and 18
    """
    if not 0 < budget <= 1:
        raise BudgetError(f"budget: got {budget:g}, expected a share of the epochs, above 0 and at most 1")
    content = copy.deepcopy(content)
    if budget == 1:
        return content
    for block in ("train", "distill"):
        content[block] = content[block] | _schedule(content[block], budget)
    for axis, kind in (("weighting", "weightings"), ("loss", "losses")):
        options = content[kind].get(content[axis]) or {}
        if options.get("start_epoch"):
            start = _inside(options["start_epoch"], content["train"]["epochs"], budget)
            content[kind][content[axis]] = options | {"start_epoch": start}
    mix = content["mixes"].get(content["mix"]) or {}
    if mix.get("stop_epoch"):
        content["mixes"][content["mix"]] = mix | {"stop_epoch": _rounded(mix["stop_epoch"], budget, least=1)}
    for method, options in content["methods"].items():
        if options and "epochs" in options:
            content["methods"][method] = options | {"epochs": _rounded(options["epochs"], budget, least=1)}
    return content


def changes(whole: dict[str, Any], cut: dict[str, Any], prefix: str = "") -> list[str]:
    """What differs between two contents of params.yaml, as `key: before -> after`. prefix: of the keys of a block in it"""
    found = []
    for key, value in whole.items():
        if isinstance(value, dict):
            found += changes(value, cut[key], f"{prefix}{key}.")
        elif value != cut[key]:
            found.append(f"{prefix}{key}: {value} -> {cut[key]}")
    return found


def _schedule(block: dict[str, Any], budget: float) -> dict[str, Any]:
    """Epochs, warm-up and milestones; milestones beyond the end did nothing, and go."""
    least = min(block["epochs"], 2 if block["schedule"] == "cosine" else 1)  # a cosine's last epoch has learning rate 0
    epochs = _rounded(block["epochs"], budget, least=least)
    milestones = [_inside(epoch, epochs, budget) for epoch in block["milestones"] if epoch < block["epochs"]]
    return {
        "epochs": epochs,
        "warmup_epochs": _inside(block["warmup_epochs"], epochs, budget),
        # Epoch 0 is left to a milestone that stood there.
        "milestones": sorted({epoch for epoch in milestones if epoch or 0 in block["milestones"]}),
    }


def _inside(value: int, epochs: int, budget: float) -> int:
    """A number of epochs after which something begins or ends, below the new `epochs`."""
    return min(_rounded(value, budget, least=min(value, 1)), epochs - 1)


def _rounded(value: int, budget: float, least: int) -> int:
    """value * budget, half up; in decimals, since 0.29 * 50 is not 14.5 in binary ones."""
    return max(least, int((value * Decimal(repr(budget))).to_integral_value(ROUND_HALF_UP)))
