"""The table of rows: which rows may stand together, and how they are printed."""

from typing import Any

from lt.core.context import made_of
from lt.core.params import AXES, Settings
from lt.core.subset import Subset
from lt.evaluate.headline import HEADLINE, ORACLE
from lt.report.words import headlines

# A command for rows that are stale or missing.
MEND = "make them anew: dvc repro (without DVC: the stages of these rows, python -m stages.evaluate ROW, then the report)"


class TableError(ValueError):
    """Rows that do not belong into one table."""


def context_of(settings: Settings, subset: Subset) -> dict[str, str]:
    """What params.yaml now asks rows to be made of: as in lt.core.context, with the seeds."""
    # Data that are taken as they are have an imbalance of their own, whatever params.yaml says.
    imbalance = subset.imbalance if settings.subset.profile == "none" else settings.imbalance
    profile = f"{imbalance:g} ({settings.subset.profile})"
    return made_of(settings, subset) | {"imbalance": profile, "seeds": " ".join(map(str, settings.seeds))}


def check_same(rows: dict[str, dict[str, Any]], wanted: dict[str, str]) -> None:
    """Raises TableError where a row was made under another context than `wanted`, what params.yaml and the subset now say.

    A row goes stale where only some rows were run again after a change.
    rows: row -> content of results/details/<row>.json    wanted: from `context_of`
    """
    keys = set(HEADLINE).union(*map(_keys, rows.values()))
    found = {}
    for row, content in rows.items():
        context = content.get("context", {})
        differing = [
            f"{key} is {context.get(key, 'missing')}, now {wanted.get(key, 'unknown')}"
            for key in sorted(set(wanted) | set(context))
            if context.get(key) != wanted.get(key)
        ]
        if differing:
            found[row] = "; ".join(differing)
        elif lacking := sorted(keys - _keys(content)):
            found[row] = f"the file lacks {', '.join(lacking)}"
        elif content["row"] != row:
            found[row] = f"the file is that of row {content['row']}"
    if found:
        lines = "\n".join(f"  {row}: {what}" for row, what in found.items())
        raise TableError(f"rows that do not belong into one table with the present settings:\n{lines}\n{MEND}")


def _keys(content: dict[str, Any]) -> set[str]:
    """Names of everything in a row's details that all rows must have."""
    return {*content, *content.get("mean", {})}


def markdown(rows: dict[str, dict[str, Any]], context: dict[str, str]) -> str:
    """The table as Markdown, aligned for reading as text: percent with one decimal, mean +- sd, '-' where a group is empty.

    rows: row -> content of results/details/<row>.json, as check_same lets them pass
    """
    return f"{_preamble(context, next(iter(rows.values())))}\n\n{headlines(rows)}\n"


def _preamble(context: dict[str, str], details: dict[str, Any]) -> str:
    axes = ", ".join(f"{axis} {context[axis]}" for axis in AXES if axis != "dataset")
    is_mean = len(context["seeds"].split()) > 1
    spread = f"mean ± sd over seeds {context['seeds']}" if is_mean else f"seed {context['seeds']} only, so no sd"
    notes = [f" {details['val_size']} images were kept out of training, for validation."] if details["val_size"] else []
    if "extra_data" in context:
        notes += [f" **Extra data**: the base model, and so every row, was trained with {context['extra_data']}."]
    if "fold" in context:
        notes += [f" Tested on fold {context['fold']} (from 0): sd is over seeds, not over folds, which python -m stages.folds gives."]
    if ORACLE[0] in details["mean"]:
        notes += [" oracle_*: the best of the tested epochs, chosen on the test set: not to be compared with the other columns."]
    return (
        f"**{context['dataset']}**, imbalance {context['imbalance']}, subset {context['subset']}; {axes}; {spread}.\n\n"
        "Every model is that of its last epoch: the test set took no part in training or selection. train_prior: "
        "expected accuracy on test data with the class shares of the training part. many, medium, few: classes "
        "with more than 100, 20 to 100, and fewer than 20 training images; head, mid, tail: thirds of the classes by training "
        f"images; - where a group is empty. nll and ece: lower is better.{''.join(notes)}"
    )
