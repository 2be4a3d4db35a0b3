"""Numbers for reading: a mean with its deviation, tables that line up, a time."""

from typing import Any, Sequence

from lt.evaluate.headline import NO_FRACTION, columns


def number(metric: str, row: dict[str, Any], before: str = "", after: str = "") -> str:
    """Mean ± sd of a metric in percent where it is a fraction, without sd where there is one seed, - where a group is empty.

    row: {"mean": {metric: value}, "sd": {..}}    `before` and `after` go around the sd
    """
    mean, sd = row["mean"][metric], row["sd"][metric]
    if mean is None:
        return "-"
    scale, digits = (1, 3) if metric in NO_FRACTION else (100, 1)
    text = f"{scale * mean:.{digits}f}"
    return text if sd is None else f"{text}{before} ± {scale * sd:.{digits}f}{after}"


def aligned(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with padded cells, without a newline at its end; the first column to the left, the others to the right."""
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    table = []
    for first, *others in [head, rule, *lines]:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:]))]
        table.append(f"| {' | '.join(cells)} |")
    return "\n".join(table)


def headlines(rows: dict[str, dict[str, Any]]) -> str:
    """A Markdown table of the headline metrics, made of number and aligned. rows: row -> {"mean": {metric: value}, "sd": {..}}"""
    names = columns(next(iter(rows.values()))["mean"])
    head = ["row", *(name if name in NO_FRACTION else f"{name} %" for name in names)]
    return aligned(head, [[row, *(number(name, content) for name in names)] for row, content in rows.items()])


def in_words(seconds: float) -> str:
    """Time: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
