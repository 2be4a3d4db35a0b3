"""The table of rows: what a row's metrics file shows, which rows may stand together, and how they are printed."""

from typing import Any

from lt.params import AXES, Settings
from lt.subset import Subset

# What a row of the table shows; the details of a row hold more.
HEADLINE = ("top1", "balanced", "many", "medium", "few", "head", "mid", "tail", "nll", "ece")
# What choosing the epoch on the test part would have shown; there with test_every only.
ORACLE = ("oracle_top1", "oracle_balanced")
# Shown in percent; the others as they are, with three decimals.
PERCENT = (*(name for name in HEADLINE if name != "nll"), *ORACLE)


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
        lacking = sorted(keys - _keys(content))
        if not differing and lacking:
            differing = [f"the file lacks {', '.join(lacking)}"]
        if not differing and content["row"] != row:
            differing = [f"the file is that of row {content['row']}"]
        if differing:
            found[row] = "; ".join(differing)
    if found:
        lines = "\n".join(f"  {row}: {what}" for row, what in found.items())
        remedy = mend(list(found), list(rows))
        raise TableError(f"rows that do not belong into one table with the present settings:\n{lines}\n{remedy}")


def _keys(content: dict[str, Any]) -> set[str]:
    """Names of everything in a row's details that all rows must have."""
    return {*content, *content.get("mean", {})}


def mend(rows: list[str], every: list[str]) -> str:
    """The commands that make stale or missing rows anew; `every`: all rows of the table."""
    targets = [] if set(rows) == set(every) else [dvc_stage(row) for row in rows]
    command = " ".join(["dvc repro", *targets])
    return f"make them anew: {command} (without DVC: the stages of these rows, then python -m stages.evaluate ROW)"


def dvc_stage(row: str) -> str:
    """Name in dvc.yaml of the stage that evaluates a row."""
    if row == "base":
        return "evaluate_base"
    return f"evaluate_xerm@{row.removeprefix('xerm_')}" if row.startswith("xerm_") else f"evaluate@{row}"


def markdown(rows: dict[str, dict[str, Any]], context: dict[str, str]) -> str:
    """The table as Markdown, aligned for reading as text: percent with one decimal, mean +- sd, '-' where a group is empty.

    rows: row -> content of results/details/<row>.json, as check_same lets them pass
    """
    some = next(iter(rows.values()))
    names = columns(some["mean"])
    header = ["row", *(f"{name} %" if name in PERCENT else name for name in names)]
    lines = [[row, *(_cell(name, content["mean"][name], content["sd"][name]) for name in names)] for row, content in rows.items()]
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    # Row names to the left, numbers to the right.
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    table = []
    for first, *numbers in [header, rule, *lines]:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:]))]
        table.append(f"| {' | '.join(cells)} |\n")
    return f"{_preamble(context, some)}\n\n{''.join(table)}"


def _preamble(context: dict[str, str], details: dict[str, Any]) -> str:
    axes = ", ".join(f"{axis} {context[axis]}" for axis in AXES if axis != "dataset")
    number = len(context["seeds"].split())
    spread = f"mean ± sd over seeds {context['seeds']}" if number > 1 else f"seed {context['seeds']} only, so no sd"
    notes = [f" {details['val_size']} images were kept out of training, for validation."] if details["val_size"] else []
    if ORACLE[0] in details["mean"]:
        notes += [" oracle_*: the best of the tested epochs, chosen on the test set: not to be compared with the other columns."]
    return (
        f"**{context['dataset']}**, imbalance {context['imbalance']}, subset {context['subset']}; {axes}; {spread}.\n\n"
        "Every model is that of its last epoch: the test set took no part in training or selection. many, medium, few: classes "
        "with more than 100, 20 to 100, and fewer than 20 training images; head, mid, tail: thirds of the classes by training "
        f"images; - where a group is empty. nll and ece: lower is better.{''.join(notes)}"
    )


def _cell(name: str, mean: float | None, sd: float | None) -> str:
    if mean is None:
        return "-"
    scale, digits = (100, 1) if name in PERCENT else (1, 3)
    text = f"{scale * mean:.{digits}f}"
    return text if sd is None else f"{text} ± {scale * sd:.{digits}f}"

