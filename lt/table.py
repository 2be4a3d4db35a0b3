"""The table of rows: what a row's metrics file holds, which rows may stand together, and how they are printed."""

from typing import Any

from lt.params import AXES, Settings
from lt.subset import Subset

# What a row of the table shows; the details of a row hold more.
HEADLINE = ("top1", "balanced", "many", "medium", "few", "head", "mid", "tail", "nll", "ece")
# Shown in percent; the others as they are, with three decimals.
PERCENT = tuple(name for name in HEADLINE if name != "nll")


class TableError(ValueError):
    """Rows that do not belong into one table."""


def context_of(settings: Settings, subset: Subset) -> dict[str, str]:
    """What must be equal for rows to stand in one table: the axes, imbalance and its profile, the seeds, hashes.

    subset: of the training positions    data: of the raw files    (the first 12 digits of a sha256)
    """
    # Data that are taken as they are have an imbalance of their own, whatever params.yaml says.
    imbalance = subset.imbalance if settings.subset.profile == "none" else settings.imbalance
    return {
        **{axis: getattr(settings, axis) for axis in AXES},
        "imbalance": f"{imbalance:g} ({settings.subset.profile})",
        "seeds": " ".join(map(str, settings.seeds)),
        "subset": subset.sha256[:12],
        "data": subset.raw_sha256[:12],
    }


def headline(row: str, context: dict[str, str], mean: dict[str, Any], sd: dict[str, Any]) -> dict[str, Any]:
    """Content of results/methods/<row>.json: the headline metrics, their sd, the row, its loss and its context.

    The context is a list of `key=value`: DVC makes a column of every plain value, and leaves out lists and null.
    """
    return {
        **{name: mean.get(name) for name in HEADLINE},
        "sd": {name: sd.get(name) for name in HEADLINE},
        "row": row,
        "loss": context["loss"],
        "context": [f"{key}={value}" for key, value in sorted(context.items())],
    }


def check_same(rows: dict[str, dict[str, Any]], wanted: dict[str, str]) -> None:
    """Raises TableError where a row was made under another context than `wanted`, what params.yaml and the subset now say.

    A row goes stale where only some rows were run again after a change.
    rows: row -> content of its metrics file    wanted: from `context_of`
    """
    found = {}
    for row, content in rows.items():
        context = dict(item.split("=", 1) for item in content.get("context", []))
        differing = [
            f"{key} is {context.get(key, 'missing')}, now {wanted.get(key, 'unknown')}"
            for key in sorted(set(wanted) | set(context))
            if context.get(key) != wanted.get(key)
        ]
        if not differing and (content != headline(row, wanted, content, content.get("sd", {}))):
            differing = ["the file has other keys than are written now"]
        if differing:
            found[row] = "; ".join(differing)
    if found:
        lines = "\n".join(f"  {row}: {what}" for row, what in found.items())
        remedy = mend(list(found), list(rows))
        raise TableError(f"rows that do not belong into one table with the present settings:\n{lines}\n{remedy}")


def mend(rows: list[str], every: list[str]) -> str:
    """The commands that make stale or missing rows anew; `every`: all rows of the table."""
    targets = [] if set(rows) == set(every) else [_dvc_stage(row) for row in rows]
    command = " ".join(["dvc repro", *targets])
    return f"make them anew: {command} (without DVC: the stages of these rows, then python -m stages.evaluate ROW)"


def _dvc_stage(row: str) -> str:
    """Name in dvc.yaml of the stage that evaluates a row."""
    if row == "base":
        return "evaluate_base"
    return f"evaluate_xerm@{row.removeprefix('xerm_')}" if row.startswith("xerm_") else f"evaluate@{row}"


def markdown(rows: dict[str, dict[str, Any]], context: dict[str, str]) -> str:
    """The table as Markdown, aligned for reading as text: percent with one decimal, mean +- sd, '-' where a group is empty."""
    header = ["row", *(f"{name} %" if name in PERCENT else name for name in HEADLINE)]
    lines = [[row, *(_cell(name, content[name], content["sd"][name]) for name in HEADLINE)] for row, content in rows.items()]
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    # Row names to the left, numbers to the right.
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    table = []
    for first, *numbers in [header, rule, *lines]:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:]))]
        table.append(f"| {' | '.join(cells)} |\n")
    return f"{_preamble(context)}\n\n{''.join(table)}"


def _preamble(context: dict[str, str]) -> str:
    axes = ", ".join(f"{axis} {context[axis]}" for axis in AXES if axis != "dataset")
    number = len(context["seeds"].split())
    spread = f"mean ± sd over seeds {context['seeds']}" if number > 1 else f"seed {context['seeds']} only, so no sd"
    return (
        f"**{context['dataset']}**, imbalance {context['imbalance']}, subset {context['subset']}; {axes}; {spread}.\n\n"
        "Every model is that of its last epoch: the test set took no part in training or selection. many, medium, few: classes "
        "with more than 100, 20 to 100, and fewer than 20 training images; head, mid, tail: thirds of the classes by training "
        "images; - where a group is empty. nll and ece: lower is better."
    )


def _cell(name: str, mean: float | None, sd: float | None) -> str:
    if mean is None:
        return "-"
    scale, digits = (100, 1) if name in PERCENT else (1, 3)
    text = f"{scale * mean:.{digits}f}"
    return text if sd is None else f"{text} ± {scale * sd:.{digits}f}"

