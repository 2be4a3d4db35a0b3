"""Charts that fit any width: an SVG that stretches, with strokes, dots and text that do not."""

from dataclasses import dataclass, field
from html import escape
from typing import Iterable, Sequence

import numpy as np

SIDE = 1000  # units of a drawing's width and height; the style sheet sets the size on the page
MOST_MARKS = 1000  # that stand for themselves, with a text each: a page of 20,000 classes would otherwise take 4 MB for each row


@dataclass(frozen=True)
class Axis:
    """A scale from values to [0, 1], with ticks (value, text). `reverse`: the largest value comes first."""

    low: float
    high: float
    label: str
    ticks: tuple[tuple[float, str], ...]
    log: bool = False
    reverse: bool = False

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the start of the axis, 1 at its end."""
        value, low, high = np.log([value, self.low, self.high]) if self.log else (value, self.low, self.high)
        share = float((value - low) / (high - low))
        return 1 - share if self.reverse else share

    def texts(self, side: str) -> str:
        """The ticks' texts as HTML, each at its place from a side: left or bottom."""
        return "".join(f'<span style="{side}:{100 * self.place(value):.2f}%">{text}</span>' for value, text in self.ticks)


def linear(values: Iterable[float | None], label: str, percent: bool = False, within: tuple[float, float] | None = None) -> Axis:
    """Axis around values, from one round number to another, about five ticks; kept inside `within`. None and NaN do not count."""
    found = _finite(values) or [0.0, 1.0]
    low, high = min(found), max(found)
    if high - low < 1e-12:
        low, high = low - 0.05 * (abs(low) or 1), high + 0.05 * (abs(high) or 1)
    step = _round_step((high - low) / 4)
    low, high = step * np.floor(low / step + 1e-9), step * np.ceil(high / step - 1e-9)
    if within:
        low, high = max(low, within[0]), min(high, within[1])
    ticks = step * np.arange(round(np.ceil(low / step - 1e-9)), round(np.floor(high / step + 1e-9)) + 1)
    scale = 100 if percent else 1
    return Axis(float(low), float(high), label, tuple((float(tick), f"{scale * tick + 0.0:.6g}") for tick in ticks))


def logarithmic(values: Iterable[float | None], label: str, reverse: bool = False, most: int = 8) -> Axis:
    """Logarithmic axis around positive values; ticks at 1, 2 and 5 times powers of ten, or fewer where these exceed `most`."""
    found = [value for value in _finite(values) if value > 0] or [1.0, 10.0]
    low, high = min(found), max(found)
    if high < 1.5 * low:
        low, high = low / 2, high * 2
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(ticks) <= most:
            break
    return Axis(low, high, label, tuple((tick, f"{tick:.6g}") for tick in ticks), log=True, reverse=reverse)


def levels(counts: Sequence[int], most: int = 20, groups: int = 10) -> list[np.ndarray]:
    """Classes to average over in a curve against training count: those of equal count, or groups of neighbours.

    Where more than `most` different counts occur, single classes are too noisy for a curve, and the classes are parted by count
    into `groups` groups of equal size.

    counts (C,)    returns arrays of class numbers, from the largest count to the smallest
    """
    counts = np.asarray(counts)
    order = np.argsort(-counts, kind="stable")
    different = np.unique(counts)
    if len(different) <= most:
        return [np.flatnonzero(counts == count) for count in different[::-1]]
    return np.array_split(order, groups)


def middle(counts: np.ndarray) -> float:
    """Geometric mean of counts: the middle of a group of classes on a logarithmic axis."""
    return float(np.exp(np.log(counts).mean()))


@dataclass
class Chart:
    """One drawing: give it lines and dots, then take its html. title: what it shows; css: further class names, such as square."""

    x: Axis
    y: Axis
    title: str
    css: str = ""
    marks: list[str] = field(default_factory=list)

    def line(self, css: str, xs: Sequence[float], ys: Sequence[float | None], title: str = "") -> None:
        """A line through the points; a None or NaN among ys leaves a gap."""
        parts, pen = [], "M"
        for x, y in zip(xs, ys):
            if y is None or not np.isfinite(y):
                pen = "M"
                continue
            parts.append(f"{pen}{self._at(x, y)}")
            pen = "L"
        self.marks.append(f'<path class="line {css}" d="{"".join(parts)}">{_title(title)}</path>')

    def dots(
        self, css: str, xs: Sequence[float], ys: Sequence[float | None], titles: Sequence[str] = (), sizes: Sequence[float] = ()
    ) -> None:
        """A dot at each point, with a text that shows on hovering, where there are at most MOST_MARKS.

        Without texts and sizes (in pixels) they are one path, in which a place stands once.
        """
        points = [(i, self._at(x, y)) for i, (x, y) in enumerate(zip(xs, ys)) if y is not None and np.isfinite(y)]
        if len(points) > MOST_MARKS or not (titles or len(sizes)):
            places = dict.fromkeys(at for _, at in points)
            self.marks.append(f'<path class="dot {css}" d="{"".join(f"M{at}h0" for at in places)}"/>')
            return
        for i, at in points:
            width = f' style="stroke-width:{sizes[i]:.1f}px"' if len(sizes) else ""
            self.marks.append(f'<path class="dot {css}" d="M{at}h0"{width}>{_title(titles[i] if titles else "")}</path>')

    def html(self) -> str:
        """The chart with its axes; the text stands outside the SVG, so that it keeps its size."""
        grid = "".join(f"M{SIDE * self.x.place(value):.0f} 0v{SIDE}" for value, _ in self.x.ticks)
        grid += "".join(f"M0 {SIDE * (1 - self.y.place(value)):.0f}h{SIDE}" for value, _ in self.y.ticks)
        gutter = 0.62 * max((len(text) for _, text in self.y.ticks), default=1) + 0.8
        return (
            f'<div class="chart {self.css}" style="--gutter:{gutter:.2f}em">'
            f'<div class="y-label">{escape(self.y.label)}</div><div class="y-ticks">{self.y.texts("bottom")}</div>'
            f'<svg viewBox="0 0 {SIDE} {SIDE}" preserveAspectRatio="none" role="img" aria-label="{escape(self.title)}">'
            f'<path class="grid" d="{grid}"/>{"".join(self.marks)}</svg>'
            f'<div class="x-ticks">{self.x.texts("left")}</div><div class="x-label">{escape(self.x.label)}</div></div>'
        )

    def _at(self, x: float, y: float) -> str:
        return f"{SIDE * self.x.place(x):.0f} {SIDE * (1 - self.y.place(y)):.0f}"


@dataclass(frozen=True)
class Mark:
    """One line of a dot list: a row's value with its interval, further points, and the number in words."""

    css: str
    name: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None
    points: tuple[float, ...] = ()


def dot_list(
    marks: Sequence[Mark], axis: Axis, title: str, bars_from: float | None = None, reference: float | None = None
) -> str:
    """Values by row, one below the other: dots with whiskers, or bars that start at `bars_from`; a line at `reference`."""

    def across(value: float) -> str:
        return f"{100 * min(max(axis.place(value), 0), 1):.2f}%"

    rule = "" if reference is None else f'<i class="rule" style="left:{across(reference)}"></i>'
    lines = []
    for mark in marks:
        parts = [rule]
        if bars_from is not None:
            parts.append(f'<i class="bar" style="left:{across(bars_from)};right:calc(100% - {across(mark.value)})"></i>')
        parts += [f'<i class="point" style="left:{across(point)}"></i>' for point in mark.points]
        if mark.low is not None and mark.high is not None:
            parts.append(f'<i class="whisker" style="left:{across(mark.low)};right:calc(100% - {across(mark.high)})"></i>')
        if bars_from is None:
            parts.append(f'<i class="mean" style="left:{across(mark.value)}"></i>')
        lines.append(_list_line(mark.css, escape(mark.name), "track", "".join(parts), mark.text))
    if axis.ticks:
        lines.append(_list_line("scale", "", "x-ticks", axis.texts("left"), ""))
        lines.append(_list_line("scale", "", "x-label", escape(axis.label), ""))
    return f'<ul class="dots" aria-label="{escape(title)}">{"".join(lines)}</ul>'


def _list_line(css: str, name: str, kind: str, content: str, value: str) -> str:
    return f'<li class="{css}"><b>{name}</b><span class="{kind}">{content}</span><span class="value">{value}</span></li>'


def _finite(values: Iterable[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None and np.isfinite(value)]


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `least`, give or take a little."""
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(digit * power for digit in (1, 2, 5, 10) if digit * power >= 0.8 * least))


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""
