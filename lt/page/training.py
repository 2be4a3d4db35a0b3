"""Sections on training: curves of the logs, and what the methods have learned about the classes."""

import numpy as np

from lt.counts import prior
from lt.page.parts import absent, figure, grid, keys, row_keys
from lt.page.plot import Chart, levels, linear, logarithmic
from lt.page.sources import Sources

# (method, array) -> title, axis, what it is
LEARNED = {
    ("balms", "rates"): ("BALMS: sampling rates", "rate", "The meta-sampler draws a class in proportion to its training images times this rate."),
    ("balms", "shares"): ("BALMS: shares of the draws", "share of the draws", "Expected share of the draws by class. Grey: the training distribution; dashed: every class alike."),
    ("lws", "scales"): ("LWS: scales", "scale", "Factor that each class's logit was given."),
    ("dro_lt", "eps"): ("DRO-LT: radii", "eps", "Learned radius eps of each class's uncertainty set."),
}  # fmt: skip
SHARES = ("shares",)  # arrays that are distributions over the classes


def curves(sources: Sources) -> str:
    """Loss and training accuracy: base and xERM students by epoch, retrained heads by step. Means over seeds."""
    logs = {row: sources.curves(row) for row in sources.rows}
    figures = []
    for step, what in (("epoch", "base and students"), ("step", "heads on cached features")):
        for name, title, is_share in (("loss", "Training loss", False), ("accuracy", "Training accuracy", True), ("train_accuracy", "Training accuracy", True)):
            chosen = {row: log for row, log in logs.items() if step in log and name in log}
            if chosen:
                figures.append(_curve(sources, chosen, step, name, f"{title}: {what}", is_share))
    if not figures:
        return absent("The training logs are not on this machine.", "dvc repro")
    return grid(figures, "two") + row_keys(sources.css, [row for row, log in logs.items() if log])


def _curve(sources: Sources, logs: dict, step: str, name: str, title: str, is_share: bool) -> str:
    x = linear([0.0, *(log[step][-1] for log in logs.values())], step)
    values = [value for log in logs.values() for value in log[name]]
    positive = min(values) > 0 and max(values) > 20 * min(values)
    if is_share:
        y = linear(values, "accuracy, %", percent=True, within=(0, 1))
    else:
        y = logarithmic(values, "loss, log scale") if positive else linear(values, "loss")
    chart = Chart(x, y, f"{title} by {step}", "tall rows")
    for row, log in logs.items():
        chart.line(sources.css[row], log[step], log[name], row)
    return figure(title, chart.html(), heading="h4")


def learned(sources: Sources) -> str:
    """Every array with one number per class that a method's training has left, against the training images of the class."""
    counts = np.asarray(sources.facts["train_counts"])
    figures = []
    for method in sources.settings.methods:
        for name, values in sources.class_arrays(method).items():
            title, label, note = LEARNED.get((method, name), (f"{method}: {name}", name, ""))
            figures.append(figure(title, _against_counts(sources, method, counts, values, label, name in SHARES), note, heading="h4"))
    for teacher in sources.settings.teachers:
        panel = _groups_by_epoch(sources, f"xerm_{teacher}")
        if panel:
            figures.append(panel)
    if not figures:
        return absent("Sampling rates, scales, radii and weights are not on this machine.", "dvc repro")
    return grid(figures, "two")


def _against_counts(sources: Sources, method: str, counts: np.ndarray, values: np.ndarray, label: str, is_share: bool) -> str:
    x = logarithmic(counts, "training images of the class", reverse=True)
    positive = is_share and (values > 0).all()
    natural = prior(counts)
    y = logarithmic([*values, *natural], f"{label}, log scale") if positive else linear(values, label)
    chart = Chart(x, y, f"{method}, {label} by class", "tall")
    if positive:
        order = np.argsort(counts)
        chart.line("ghost", counts[order], natural[order], "training distribution")
        chart.line("ghost dashed", [counts.min(), counts.max()], [1 / len(counts)] * 2, "uniform")
    parts = levels(counts)
    middle = [float(np.exp(np.log(counts[part]).mean())) for part in parts]
    titles = [f"{name}, {count} images: {value:.4g}" for name, count, value in zip(sources.facts["classes"], counts, values)]
    chart.dots(f"{sources.css[method]} small", counts, values, titles)
    chart.line(sources.css[method], middle, [values[part].mean() for part in parts])
    return chart.html()


def _groups_by_epoch(sources: Sources, row: str) -> str:
    """Mean weight of xERM's balanced term by third of the classes; '' if the log has none."""
    log = sources.curves(row)
    groups = [name for name in ("head", "mid", "tail") if f"w_bal_{name}" in log]
    if not groups:
        return ""
    x = linear([0.0, log["epoch"][-1]], "epoch")
    y = linear([value for name in groups for value in log[f"w_bal_{name}"]], "mean w_bal", within=(0, 1))
    chart = Chart(x, y, f"{row}: mean weight of the balanced term by epoch", "tall")
    for name in groups:
        chart.line(f"group {name}", log["epoch"], log[f"w_bal_{name}"], name)
    note = "How far the student follows the balanced teacher rather than the ground truth, by the image's true class."
    return figure(f"{row}: weight of the two views", chart.html() + keys([(f"group {name}", name) for name in groups]), note, heading="h4")
