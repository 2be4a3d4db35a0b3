"""Beside the headline: which row suits which purpose, by the numbers themselves, and what the names of rows and columns mean."""

import ast
from html import escape

from lt.core.plugins import path_of
from lt.core.row_names import maker
from lt.evaluate.comparison import compare
from lt.page.parts import percent
from lt.page.sources import Sources
from lt.report.words import in_words

BASE = "the base model as stage 1 left it: backbone and head, trained with the loss of params.yaml"
XERM = "xERM: a student network that learns from the labels and from {teacher}'s balanced view, by what each view gets wrong"
COLUMNS = {
    "balanced": "mean over classes of the recall, the share of a class's test images that are told right: all classes count alike",
    "NLL": "negative log-likelihood, the mean of −log of the probability of the true class, in nats: high where a model is sure and wrong",
    "ECE": "expected calibration error, the gap between stated probability and share of right answers, over bins of the former",
    "T": "temperature: logits are divided by it, so that probabilities are neither too sure (T above 1) nor too timid. T as trained is of "
    "the logits as they are, the mean of two fits, each on half of the test images, that the other half is judged with. T of predict is "
    "of the logits moved to the class frequencies of the test images, fitted on all of them: what python -m stages.predict divides by "
    "where there is no validation part. They differ where a row embodies another class prior than that of the test images",
}  # fmt: skip


def which_row(sources: Sources) -> str:
    """A line per purpose with the row that leads in it: all classes, rare classes, probabilities, little work."""
    lines = [
        _leads(sources, "All classes alike", "balanced", "balanced accuracy {} %"),
        _leads(sources, "Rare classes", "tail", "mean recall of the tail third {} %"),
        _leads(sources, "Probabilities to rely on as they are", "ece", "lowest ECE, {} %"),
        _cheapest(sources),
    ]
    items = "".join(f"<li>{line}</li>" for line in lines if line)
    note = "By the numbers of these test images: who chooses by them has chosen on the test part, and should judge on other images."
    return f'<h3>Which row when</h3><ul>{items}</ul><p class="note">{note}</p>' if len(sources.rows) > 1 else ""


def _leads(sources: Sources, purpose: str, metric: str, told: str) -> str:
    """The row that leads in a metric, and those that cannot be told from it; '' where no class is in the group."""
    if not (ranked := sources.ranked(metric)):
        return ""
    best, *others = ranked
    level = [row for row in others if is_level(sources, best, row, metric)]
    beside = f"; {', '.join(map(escape, level))} cannot be told from it" if level else ""
    return f"{purpose}: <b>{escape(best)}</b>, {told.format(percent(sources.details[best]['mean'][metric]))}{beside}"


def is_level(sources: Sources, best: str, row: str, metric: str) -> bool:
    """Whether a row that is behind another could be before it with other test images, or other seeds."""
    verdict = compare(sources.details[row], sources.details[best], metric).verdict()
    return verdict.startswith("noise") or verdict == "no difference"


def _cheapest(sources: Sources) -> str:
    """Of the rows that cannot be told from the best in balanced accuracy, the one that took the fewest seconds besides stage 1.

    '' where the seconds of a row are not known on this machine.
    """
    best = sources.ranked("balanced")[0]
    seconds = {row: seconds_of(sources, row) for row in sources.details if row == best or is_level(sources, best, row, "balanced")}
    if None in seconds.values():
        return ""
    row = min(seconds, key=seconds.get)
    why = "the best, or level with it" if len(seconds) > 1 else "the best; no other is level with it"
    return f"Least work: <b>{escape(row)}</b>, {in_words(seconds[row])} besides the base model and its features ({why} in balanced accuracy)"


def seconds_of(sources: Sources, row: str) -> float | None:
    """Seconds per seed of the stages that a row needs after features, from the notes of this machine; None where one has none."""
    last, method = maker(row)
    total = 0.0
    for stage in {"base": [], "retrain": ["retrain"], "distill": ["retrain", "distill"]}[last]:
        runs = [cost["seconds"] for cost in sources.costs.get(stage, []) if method in cost["arguments"]]
        if not runs:
            return None
        total += sum(runs) / len(runs)
    return total


def explained(sources: Sources) -> str:
    """What the names of the rows and of the columns mean, a sentence each, behind a fold."""
    entries = {row: meaning(row) for row in sources.rows} | COLUMNS
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}.</dd>" for name, text in entries.items())
    return f"<details><summary>What the rows and columns mean</summary><dl>{items}</dl></details>"


def meaning(row: str) -> str:
    """A row in a sentence: of a method, the first line of its file."""
    stage, method = maker(row)
    if stage == "base":
        return BASE
    if stage == "distill":
        return XERM.format(teacher=method)
    text = ast.get_docstring(ast.parse(path_of("methods", row).read_text(encoding="utf-8"))) or "a method of this project"
    return text.split("\n")[0].rstrip(".")
