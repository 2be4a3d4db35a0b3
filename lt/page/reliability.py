"""The section on calibration: reliability diagrams before and after temperature scaling, and the numbers."""

from html import escape

import numpy as np

from lt.evaluate.calibration import pooled
from lt.page.parts import figure, grid, keys, percent, plain_table
from lt.page.plot import Axis, Chart
from lt.page.sources import Sources

TICKS = tuple((tick / 100, str(tick)) for tick in (0, 25, 50, 75, 100))
LARGEST_DOT = 11  # pixels


def diagrams(sources: Sources) -> str:
    """One panel per row: accuracy against confidence, before and after."""
    panels = []
    for row, details in sources.details.items():
        x, y = Axis(0, 1, "confidence, %", TICKS), Axis(0, 1, "accuracy, %", TICKS)
        chart = Chart(x, y, f"accuracy against confidence of {row}, before and after temperature scaling", "square")
        chart.line("diagonal", (0, 1), (0, 1))
        for css, when in (("before", "before"), (f"{sources.css[row]} plain", "after")):
            bins = pooled([seed["reliability"][when] for seed in details["seeds"].values()])
            count = bins["count"]
            sizes = LARGEST_DOT * np.sqrt(count / count.max())
            titles = [
                f"{when}: {n:.0f} images, confidence {100 * confidence:.1f} %, accuracy {100 * accuracy:.1f} %"
                for n, confidence, accuracy in zip(*bins.values())
            ]
            chart.line(f"{css} thin", bins["confidence"], bins["accuracy"])
            chart.dots(css, bins["confidence"], bins["accuracy"], titles, np.maximum(sizes, 3))
        mean = details["mean"]
        note = f"ECE {percent(mean['ece'])} → {percent(mean['ece_t'])} %"
        panels.append(figure(row, chart.html(), note, heading="h4"))
    legend = keys([("before dot-key", "as trained"), ("strong dot-key", "after temperature scaling, in the row's colour")])
    return legend + grid(panels, "small")


def numbers(sources: Sources) -> str:
    """Temperatures, and calibration errors of every row before and after that of the logits as trained; overall, of each third of the classes, and class-wise."""
    columns = {
        "ece": "ECE %", "head_ece": "head %", "mid_ece": "mid %", "tail_ece": "tail %", "classwise_ece": "class-wise %",
        "nll": "NLL", "brier": "Brier",
    }  # fmt: skip
    rows = []
    for row, details in sources.details.items():
        mean = details["mean"]
        seeds = details["seeds"].values()
        used = [value for seed in seeds for value in seed["temperature"]], [seed.get("temperature_at_test_prior") for seed in seeds]
        temperatures = ["–" if None in values else f"{np.mean(values):.2f}" for values in used]
        cells = [f"{_value(name, mean[name])} → {_value(name, mean[f'{name}_t'])}" for name in columns]
        name = f'<i class="swatch {sources.css[row]}"></i>{escape(row)}'
        rows.append([name, *temperatures, *cells])
    return plain_table(["row", "T as trained", "T of predict", *columns.values()], rows)


def _value(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if name in ("nll", "brier") else percent(value, 2 if name == "classwise_ece" else 1)
