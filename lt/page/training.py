"""Sections on training: curves of the logs, and what the methods have learned about the classes."""

import numpy as np

from lt.core.counts import prior
from lt.core.row_names import STUDENT
from lt.page.parts import absent, figure, grid, keys, row_keys
from lt.page.plot import Chart, levels, linear, logarithmic, middle
from lt.page.sources import Sources

# (method, array) -> title, axis, what it is; other arrays are shown under their own names
LEARNED = {
    ("balms", "rates"): (
        "BALMS: sampling rates", "rate", "The meta-sampler draws a class in proportion to its training images times this rate.",
    ),
    ("balms", "shares"): (
        "BALMS: shares of the draws", "share of the draws",
        "Expected share of the draws by class. Grey: the training distribution; dashed: every class alike.",
    ),
    ("meta_reweighter", "weights"): ("Meta re-weighter: weights", "weight", "Factor of each class's loss, between 0 and 1."),
    ("lws", "scales"): ("LWS: scales", "scale", "Factor that each class's logit was given."),
    ("dro_lt", "eps"): ("DRO-LT: radii", "eps", "Radius eps of each class's uncertainty set, at the end."),
}  # fmt: skip
SHARES = ("shares",)  # arrays that are distributions over the classes
BACKBONE_LOG = "backbone_log.csv"


def curves(sources: Sources) -> str:
    """Loss and training accuracy by epoch, where a backbone was trained, and by step, where a head was; means over seeds.

    Where a training was tested on its way (test_every), also the accuracy on the test part after each tested epoch.
    """
    heads = {row: sources.curves(row) for row in sources.rows}
    backbones = {row: sources.curves(row, BACKBONE_LOG) or log for row, log in heads.items()}
    kinds = (("epoch", "backbones", backbones), ("step", "heads on cached features", heads))
    columns = (
        ("loss", "Training loss"), ("accuracy", "Training accuracy"), ("train_accuracy", "Training accuracy"),
        ("test_balanced", "Balanced accuracy on the test part"),
    )  # fmt: skip
    figures, shown = [], set()
    for step, what, logs in kinds:
        for column, title in columns:
            chosen = {row: log for row, log in logs.items() if step in log and column in log}
            if chosen:
                figures.append(_curve(sources, chosen, step, column, f"{title}: {what}"))
                shown |= chosen.keys()
    if not figures:
        return absent("The training logs are not on this machine.", "dvc repro")
    note = "<p>Rows minimise different losses: their shapes can be compared, their heights cannot.</p>"
    return note + grid(figures, "two") + row_keys(sources.css, [row for row in sources.rows if row in shown])


def _curve(sources: Sources, logs: dict, step: str, column: str, title: str) -> str:
    x = linear([0.0, *(log[step][-1] for log in logs.values())], step)
    logs = {row: _measured(log, step, column) for row, log in logs.items()}
    values = [value for log in logs.values() for value in log[column]]
    if column != "loss":
        y = linear(values, "accuracy, %", percent=True, within=(0, 1))
    elif min(values) > 0 and max(values) > 20 * min(values):
        y = logarithmic(values, "loss, log scale")
    else:
        y = linear(values, "loss")
    chart = Chart(x, y, f"{title} by {step}", "tall rows")
    for row, log in logs.items():
        chart.line(sources.css[row], log[step], log[column], row)
    return figure(title, chart.html(), heading="h4")


def _measured(log: dict[str, np.ndarray], step: str, column: str) -> dict[str, np.ndarray]:
    """Two columns of a log, without the lines where the second holds no number."""
    kept = ~np.isnan(log[column])
    return {step: log[step][kept], column: log[column][kept]}


def learned(sources: Sources) -> str:
    """Every array with one number per class that a method has left, against training images; then what moved with the epochs."""
    counts = np.asarray(sources.facts["train_counts"])
    figures = []
    for method in sources.settings.methods:
        for name, values in sources.class_arrays(method).items():
            title, label, note = LEARNED.get((method, name), (f"{method}: {name}", name, ""))
            chart = _against_counts(sources, method, counts, values, label, name in SHARES)
            figures.append(figure(title, chart, note, heading="h4"))
        log = sources.curves(method, BACKBONE_LOG)
        if "eps_mean" in log:
            note = "Least, mean and greatest radius over the classes."
            figures.append(_by_epoch(log, "eps_", ("min", "mean", "max"), f"{method}: radii while training", "eps", note))
    for teacher in sources.settings.teachers:
        log = sources.curves(STUDENT + teacher)
        if "w_bal_head" in log:
            note = "How far the student follows the balanced teacher rather than the ground truth, by the image's true class."
            title = f"{STUDENT}{teacher}: weight of the teacher"
            figures.append(_by_epoch(log, "w_bal_", ("head", "mid", "tail"), title, "mean w_bal", note))
    if not figures:
        return absent("Sampling rates, scales, radii and weights are not on this machine.", "dvc repro")
    return grid(figures, "two")


def _against_counts(sources: Sources, method: str, counts: np.ndarray, values: np.ndarray, label: str, is_share: bool) -> str:
    """One number per class against its training images; shares with the training distribution and the uniform one."""
    x = logarithmic(counts, "training images of the class", reverse=True)
    natural = prior(counts)
    compared = is_share and (values > 0).all()
    y = logarithmic([*values, *natural], f"{label}, log scale") if compared else linear(values, label)
    chart = Chart(x, y, f"{method}, {label} by class", "tall")
    if compared:
        order = np.argsort(counts)
        chart.line("ghost", counts[order], natural[order], "training distribution")
        chart.line("ghost dashed", [counts.min(), counts.max()], [1 / len(counts)] * 2, "uniform")
    parts = levels(counts)
    titles = [f"{name}, {count} images: {value:.4g}" for name, count, value in zip(sources.facts["classes"], counts, values)]
    chart.dots(f"{sources.css[method]} small", counts, values, titles)
    chart.line(sources.css[method], [middle(counts[part]) for part in parts], [values[part].mean() for part in parts])
    return chart.html()


def _by_epoch(log: dict[str, np.ndarray], prefix: str, names: tuple[str, ...], title: str, label: str, note: str) -> str:
    """Columns <prefix><name> of a log by epoch, in the colours of head, mid and tail."""
    present = [(css, name) for css, name in zip(("head", "mid", "tail"), names) if prefix + name in log]
    x = linear([0.0, log["epoch"][-1]], "epoch")
    y = linear([value for _, name in present for value in log[prefix + name]], label)
    chart = Chart(x, y, f"{title} by epoch", "tall")
    for css, name in present:
        chart.line(f"group {css}", log["epoch"], log[prefix + name], name)
    return figure(title, chart.html() + keys([(f"group {css}", name) for css, name in present]), note, heading="h4")
