"""How two ways are timed against each other, and the table of their ratios."""

import ctypes
import gc
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import torch


@dataclass(frozen=True)
class Row:
    """One line of the table: what our way and the other way gave, in `unit`, and their ratio.

    bar: the ratio that is asked for, None where it is only told    at_least: whether the bar is the least ratio, or the greatest
    """

    pair: str
    ours: float
    other: float
    unit: str
    ratio: float
    bar: float | None = None
    at_least: bool = True

    @property
    def verdict(self) -> str:
        """`below` where the bar is missed, `told` where there is none."""
        if self.bar is None:
            return "told"
        return "ok" if (self.ratio >= self.bar if self.at_least else self.ratio <= self.bar) else "below"

    def cells(self) -> list[str]:
        """The line, as text."""
        bar = "" if self.bar is None else f"{'at least' if self.at_least else 'at most'} {self.bar:g}"
        return [self.pair, f"{self.ours:.3g}", f"{self.other:.3g}", self.unit, f"{self.ratio:.3g}", bar, self.verdict]


HEADER = ["pair", "ours", "other", "unit", "ratio", "bar", ""]


def table(rows: list[Row]) -> str:
    """The rows in Markdown, with aligned columns."""
    lines = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines)


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call, on a GPU until its work is done."""
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def medians(repeats: int, *functions: Callable[[], object]) -> list[float]:
    """Median seconds of each function; they take turns, so that what else the machine does falls on all.

    The first round, in which things are compiled and caches filled, is not counted.
    """
    rounds = [[seconds(function) for function in functions] for _ in range(repeats + 1)]
    return [statistics.median(column[1:]) for column in zip(*rounds)]


def peak_mib(function: Callable[[], object]) -> float:
    """Memory in MiB that a call takes on top of what the process holds, by Linux's own account; NaN elsewhere."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # memory that was freed, but not given back, would hide what is taken again
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = status_kib("VmRSS")
        function()
        return (status_kib("VmHWM") - before) / 1024
    except (OSError, AttributeError):
        return float("nan")


def status_kib(name: str) -> int:
    """A number of Linux's account of this process, VmRSS say, in KiB; OSError or KeyError where there is none."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0])
