"""Puts the sections together into one file."""

from html import escape
from pathlib import Path
from string import Template
from typing import Callable

from lt.page import accuracy, choice, confusion, overview, provenance, reliability, training
from lt.page.parts import box_of
from lt.page.sources import Sources

FOLDER = Path(__file__).parent
FIRST_WITH_CURVES = "classes"


def build(sources: Sources) -> str:
    """The page as HTML. Sections whose files are missing say how to make them; nothing is fetched, and nothing is scripted.

    Equal sources, artifacts and costs give equal bytes.
    """
    parts: tuple[tuple[str, str, Callable[[Sources], str]], ...] = (
        ("groups", "Groups of classes", accuracy.group_bars),
        ("classes", "Recall by class", accuracy.recall_by_class),
        ("priors", "Other test distributions", accuracy.under_priors),
        ("calibration", "Calibration", lambda found: reliability.diagrams(found) + reliability.numbers(found)),
        ("confusion", "Confusions", confusion.section),
        ("learned", "What the methods learned", training.learned),
        ("curves", "Training", training.curves),
        ("cost", "Time and memory", provenance.costs),
        ("origin", "Where the numbers come from", provenance.origins),
    )
    sections = []
    for name, title, content in parts:
        if name == FIRST_WITH_CURVES:
            sections.append(_toggles(sources))
        sections.append(f'<section id="{name}"><h2>{title}</h2>{content(sources)}</section>')
    return Template((FOLDER / "template.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{sources.context['dataset']}: long-tailed classification"),
        dataset=escape(sources.context["dataset"]),
        style=(FOLDER / "style.css").read_text(encoding="utf-8") + _toggle_rules(sources),
        summary=overview.summary(sources),
        silhouette=overview.silhouette(sources),
        warnings=_warnings(sources),
        finding=overview.finding(sources),
        which=choice.which_row(sources),
        leaderboard=overview.leaderboard(sources),
        explained=choice.explained(sources),
        table=overview.table(sources),
        bins=sources.settings.evaluate.bins,
        links="".join(f'<a href="#{name}">{title}</a>' for name, title, _ in parts),
        sections="".join(sections),
    )


def _warnings(sources: Sources) -> str:
    found = []
    if sources.stale:
        found.append(f"{sources.stale}\nRows judged on other data than the first are in the table only.")
    if sources.missing:
        found.append(f"rows of params.yaml without results: {', '.join(sources.missing)}; run dvc repro")
    return "".join(f'<p class="warning">{escape(text)}</p>' for text in found)


def _toggles(sources: Sources) -> str:
    """Check boxes that show and hide rows in the charts of all rows, by style rules alone."""
    boxes = "".join(
        f'<label><input type="checkbox" id="{box_of(css)}" checked><i class="swatch {css}"></i>{escape(row)}</label>'
        for row, css in sources.css.items()
        if row in sources.rows
    )
    return f'<fieldset class="toggles"><legend>Rows in the curves</legend>{boxes}</fieldset>'


def _toggle_rules(sources: Sources) -> str:
    rules = []
    for row in sources.rows:
        own = sources.css[row].split()[0]
        hidden = f"body:has(#{box_of(own)}:not(:checked))"
        rules.append(f"{hidden} .rows .{own} {{ display: none; }}\n{hidden} label:has(.{own}) {{ opacity: .45; }}")
    return "\n".join(rules)
