"""Sections on accuracy: groups of classes, single classes against their training images, and other test distributions."""

import numpy as np

from lt.evaluate.comparison import wilson
from lt.evaluate.row import class_scores
from lt.page.parts import figure, grid, row_keys
from lt.page.plot import MOST_MARKS, Axis, Chart, Mark, dot_list, levels, linear, logarithmic, middle
from lt.page.sources import Sources

NAMES = {
    "head": "head third of the classes", "mid": "middle third", "tail": "tail third",
    "many": "many: over 100 training images", "medium": "medium: 20 to 100", "few": "few: under 20",
}  # fmt: skip
RECALL = Axis(0, 1, "recall, %", tuple((tick / 100, str(tick)) for tick in range(0, 101, 20)))
MEAN_RECALL = Axis(0, 1, "mean recall, %", ((0, "0"), (0.5, "50"), (1, "100")))
FEW_TEST_IMAGES = 30
KINDS = {
    "prior_unknown": "Test distribution unknown: logits as they are",
    "prior_known": "Test distribution known: logits moved to it",
}


def group_bars(sources: Sources) -> str:
    """Mean recall of every row in head, mid and tail, and in many, medium and few; groups without classes are left out."""
    figures = []
    for name, title in NAMES.items():
        marks = []
        for row, content in sources.rows.items():
            mean, sd = content["mean"][name], content["sd"][name]
            if mean is not None:
                ends = (None, None) if sd is None else (max(mean - sd, 0), min(mean + sd, 1))
                marks.append(Mark(sources.css[row], row, mean, f"{100 * mean:.1f}", *ends))
        if marks:
            base = sources.rows["base"]["mean"][name] if "base" in sources.rows else None
            chart = dot_list(marks, MEAN_RECALL, f"mean recall of {name} classes by row", bars_from=0.0, reference=base)
            figures.append(figure(title, chart, heading="h4"))
    return grid(figures, "three")


def recall_by_class(sources: Sources) -> str:
    """Recall against training images: one curve per row, then one panel per row with a dot for each class."""
    counts = np.asarray(sources.facts["train_counts"])
    parts = levels(counts)
    at = [middle(counts[part]) for part in parts]
    recalls = {row: class_scores(details, "recall") for row, details in sources.details.items()}
    curves = {row: [_mean(recall[part]) for part in parts] for row, recall in recalls.items()}

    x = logarithmic(counts, "training images of the class", reverse=True)
    overview = Chart(x, RECALL, "recall against training images, one curve per row", "wide rows")
    for row, curve in curves.items():
        overview.line(sources.css[row], at, curve, row)
        overview.dots(sources.css[row], at, curve)
    single = len(parts) == len(counts)
    few = [count for count in sources.facts["test_counts"] if count < FEW_TEST_IMAGES]
    is_titled = len(counts) <= MOST_MARKS
    told = "each dot's title has its interval" if is_titled else "python -m stages.classes ROW prints their intervals"
    rough = f" {len(few)} classes have fewer than {FEW_TEST_IMAGES} test images: {told}." if few else ""
    note = "Each point is a class. " if single else "Each point is the mean over classes of equal or similar count. "
    panels = [_class_panel(sources, row, recalls[row], at, curves) for row in recalls]
    return (
        figure("Recall against training images", overview.html() + row_keys(sources.css, curves), f"{note}Mean over seeds.{rough}")
        + "<h3>Each class, row by row</h3><p>Dots are classes, the line is as above; grey: base. Mean over seeds.</p>"
        + grid(panels, "small")
    )


def _class_panel(sources: Sources, row: str, recall: np.ndarray, at: list[float], curves: dict[str, list]) -> str:
    classes, counts = sources.facts["classes"], sources.facts["train_counts"]
    x = logarithmic(counts, "training images", reverse=True, most=4)
    panel = Chart(x, RECALL, f"recall of each class against its training images, {row}")
    if "base" in curves and row != "base":
        panel.line("ghost", at, curves["base"], "base")
    tests = sources.facts["test_counts"]
    titles = [f"{name}: {count} images, {told_recall(value, of)}" for name, count, value, of in zip(classes, counts, recall, tests)]
    panel.dots(f"{sources.css[row]} small", counts, recall, titles)
    panel.line(sources.css[row], at, curves[row], row)
    return figure(row, panel.html(), heading="h4")


def told_recall(recall: float, test_images: int) -> str:
    """A class's recall with the test images that it is of; with its 95 % interval where these are few."""
    text = f"recall {100 * recall:.0f} % of {test_images} test image{'' if test_images == 1 else 's'}"
    if not 0 < test_images < FEW_TEST_IMAGES:
        return text
    low, high = wilson(recall, test_images)
    return f"{text}, 95 % interval {100 * low:.0f} to {100 * high:.0f} %"


def under_priors(sources: Sources) -> str:
    """Accuracy of every row under the eleven test distributions, with the logits as they are, and moved to the distribution."""
    curves = {row: _prior_points(details) for row, details in sources.details.items()}
    names = next(iter(curves.values()))["names"]
    ticks = tuple((float(i), "1" if name == "uniform" else name.rpartition("_")[2]) for i, name in enumerate(names))
    x = Axis(0, len(names) - 1, "head-heavy ← share ratio → tail-heavy", ticks)
    every = [value for curve in curves.values() for kind in KINDS for value in curve[kind]]
    y = linear(every, "accuracy, %", percent=True, within=(0, 1))
    figures = []
    for kind, title in KINDS.items():
        chart = Chart(x, y, f"accuracy under eleven test distributions by row, {kind.replace('_', ' ')}", "tall rows")
        for row, curve in curves.items():
            titles = [f"{row}, {name.replace('_', ' ')}: {100 * value:.1f} %" for name, value in zip(names, curve[kind])]
            chart.line(sources.css[row], range(len(names)), curve[kind], row)
            chart.dots(sources.css[row], range(len(names)), curve[kind], titles)
        figures.append(figure(title, chart.html(), heading="h4"))
    error = max(curve["se"] for curve in curves.values())
    note = (
        "<p>Accuracy that each row would have if the classes of the test data came in other proportions: on the left as "
        "long-tailed as 50 to 1 in the order of the training counts, on the right in the reverse order, 1 is uniform. Weighted "
        f"exactly from all test images; the standard error from their choice is at most {100 * error:.1f} points.</p>"
    )
    return note + grid(figures, "two") + row_keys(sources.css, curves)


def _prior_points(details: dict) -> dict:
    """Names of the distributions, mean over seeds of the two accuracies (11,), and the largest standard error."""
    seeds = [seed["test_prior"] for seed in details["seeds"].values()]
    found = {"names": [point["name"] for point in seeds[0]]}
    for kind in KINDS:
        found[kind] = np.mean([[point[kind]["accuracy"] for point in points] for points in seeds], axis=0)
    found["se"] = max(point[kind]["se"] for points in seeds for point in points for kind in KINDS)
    return found


def _mean(values: np.ndarray) -> float | None:
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else None
