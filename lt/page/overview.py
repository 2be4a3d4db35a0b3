"""The head of the page: what was run, balanced accuracy of every row, and the table."""

from html import escape

import numpy as np

from lt.core.counts import thirds
from lt.evaluate.comparison import Comparison, compare
from lt.evaluate.headline import HEADLINE, NO_FRACTION
from lt.page.parts import figure, grid
from lt.page.plot import MOST_MARKS, Mark, dot_list, linear
from lt.page.sources import LOWER_IS_BETTER, Sources
from lt.published.recipes import Numbers, Recipe, followed, percent
from lt.report.words import number

TITLES = {"top1": "top-1", "train_prior": "training shares", "nll": "NLL", "ece": "ECE"}
# Columns that belong together, in the order of HEADLINE.
GROUPS = (("accuracy", 3), ("recall by training images", 3), ("recall by thirds of the classes", 3), ("calibration", 2))


def summary(sources: Sources) -> str:
    """One line: imbalance, sizes, model, loss, seeds."""
    context, facts = sources.context, sources.facts
    counts, tests = facts["train_counts"], sum(facts["test_counts"])
    span = f"{max(counts):,} to {min(counts):,} per class"
    kept = f", {facts['val_size']:,} kept out for validation" if facts["val_size"] else ""
    sizes = f"{len(counts)} classes, {sum(counts):,} training images ({span}{kept}), {tests:,} test images; "
    seeds = context["seeds"].split()
    extra = f" Trained with extra data: {context['extra_data']}." if "extra_data" in context else ""
    fold = f" Tested on fold {context['fold']} (from 0); what comes after ± is over seeds, not over folds." if "fold" in context else ""
    text = (
        f"Imbalance {context['imbalance']}; {sizes}model {context['model']}, loss {context['loss']}, "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {' '.join(seeds)}.{extra}{fold}"
    )
    return escape(text)


def silhouette(sources: Sources) -> str:
    """Training images per class, from the largest to the smallest, as bars in the colours of the three thirds.

    Of more than MOST_MARKS classes neighbours share a bar, as high as the largest of them.
    """
    counts, classes = sources.facts["train_counts"], sources.facts["classes"]
    masks = thirds(counts)
    group_of = {int(c): name for name, mask in masks.items() for c in mask.nonzero()[0]}
    order = sorted(range(len(counts)), key=lambda c: -counts[c])
    bars = []
    parts = np.array_split(order, min(len(order), MOST_MARKS))
    for i, part in enumerate(parts):
        c, last = int(part[0]), int(part[-1])
        height = 100 * counts[c] / counts[order[0]]
        box = f'x="{i}.08" width=".84" y="{100 - height:.2f}" height="{height:.2f}"'
        more = f" to {escape(classes[last])}: {counts[last]:,}" if len(part) > 1 else ""
        bars.append(f'<rect class="{group_of[c]}" {box}><title>{escape(classes[c])}: {counts[c]:,}{more}</title></rect>')
    legend = "".join(f'<span class="{name}"><i></i>{name}: {int(mask.sum())} classes</span>' for name, mask in masks.items())
    return (
        f'<figure class="silhouette"><svg viewBox="0 0 {len(parts)} 100" preserveAspectRatio="none" role="img" '
        f'aria-label="training images per class">{"".join(bars)}</svg><figcaption class="keys">{legend}</figcaption></figure>'
    )


def finding(sources: Sources) -> str:
    """Which row leads in balanced accuracy on this test set, how far from base, and whether that is noise."""
    best = max(sources.rows, key=lambda row: sources.rows[row]["mean"]["balanced"])
    text = f"Highest balanced accuracy: <b>{escape(best)}</b>, {number('balanced', sources.rows[best])} %"
    found = _from_base(sources, best)
    if found:
        text += f", {100 * (found.second - found.first):.1f} points above base ({escape(found.verdict())})"
    return f'<p class="finding">{text}.</p>'


def _from_base(sources: Sources, row: str) -> Comparison | None:
    """A row's balanced accuracy compared with base's; None for base, or where the two were judged on different data."""
    if row == "base" or not {"base", row} <= sources.details.keys():
        return None
    return compare(sources.details["base"], sources.details[row], "balanced")


def leaderboard(sources: Sources) -> str:
    """Balanced accuracy of every row, with sd and single seeds; beside it the difference from base with its interval."""
    marks, values = [], []
    for row, content in sources.rows.items():
        mean, sd = content["mean"]["balanced"], content["sd"]["balanced"]
        seeds = content["seeds"].values()
        points = tuple(seed["metrics"]["balanced"] for seed in seeds) if len(seeds) > 1 else ()
        ends = (None, None) if sd is None else (mean - sd, mean + sd)
        marks.append(Mark(sources.css[row], row, mean, number("balanced", content), *ends, points))
        values += [mean, *points, *(end for end in ends if end is not None)]
    axis = linear(values, "balanced accuracy, %", percent=True, within=(0, 1))
    many = len(sources.settings.seeds) > 1
    note = "Dot: mean over seeds; line: ± one sd; ticks: single seeds." if many else "One seed, so no spread."
    figures = [figure("Balanced accuracy", dot_list(marks, axis, "balanced accuracy by row"), note)]
    differences = _differences(sources)
    if differences:
        ends = [end for mark in differences for end in (mark.low, mark.high)]
        axis = linear([0.0, *ends], "points from base", percent=True)
        chart = dot_list(differences, axis, "difference from base by row", reference=0.0)
        note = "Line: 95 % interval over the choice of test images, paired. A row whose line crosses 0 cannot be told from base."
        figures.append(figure("Difference from base", chart, note))
    return grid(figures, "two")


def _differences(sources: Sources) -> list[Mark]:
    marks = []
    for row in sources.rows:
        found = _from_base(sources, row)
        if found and found.by_image:
            interval = found.by_image
            text = f"{100 * interval.difference:+.1f}"
            marks.append(Mark(sources.css[row], row, interval.difference, text, interval.low, interval.high))
    return marks


def table(sources: Sources) -> str:
    """All headline metrics of every row, mean ± sd, the best of each column marked where it is no noise; the numbers of results/details, exactly.

    Published numbers stand below them where params.yaml is a recipe that has some.
    """
    recipe = followed(sources.settings.model_dump())
    published = recipe.published if recipe else {}
    best = {}
    for name in HEADLINE:
        values = [content["mean"][name] for content in sources.rows.values() if content["mean"][name] is not None]
        best[name] = (min if name in LOWER_IS_BETTER else max)(values, default=None)
        if not _stands_out(sources, name):
            best[name] = None
    groups = "".join(f'<th colspan="{width}" scope="colgroup">{title}</th>' for title, width in GROUPS)
    names = "".join(f'<th scope="col">{TITLES.get(name, name)}{"" if name in NO_FRACTION else " %"}</th>' for name in HEADLINE)
    body = []
    for row, content in sources.rows.items():
        head = f'<th scope="row"><i class="swatch {sources.css[row]}"></i>{escape(row)}</th>'
        cells = "".join(_cell(name, content, best[name], published.get(row, [])) for name in HEADLINE)
        body.append(f'<tr data-row="{escape(row)}">{head}{cells}</tr>')
    return (
        f'<div class="scroll"><table class="results"><thead><tr class="groups"><th></th>{groups}</tr>'
        f'<tr><th scope="col">row</th>{names}</tr></thead><tbody>{"".join(body)}</tbody></table></div>{_protocol(recipe)}'
    )


def _stands_out(sources: Sources, name: str) -> bool:
    """Whether the best row of a column can be told from the next one, which other test images or seeds could not turn round."""
    ranked = [sources.details[row] for row in sources.ranked(name)]
    return len(ranked) < 2 or compare(ranked[1], ranked[0], name).verdict().startswith("more than")


def _protocol(recipe: Recipe | None) -> str:
    """Which recipe these settings are, where its published numbers stand, and what differs from the original."""
    if recipe is None:
        return ""
    sources = (str(values["source"]) for found in recipe.published.values() for values in found)
    places = escape("; ".join(dict.fromkeys(sources)))
    command = f"<code>python -m stages.recipe {escape(recipe.name)} --show</code>"
    differs = "".join(f"<li>{escape(line)}</li>" for line in recipe.differs)
    told = f"<details><summary>What differs from the original</summary><ul>{differs}</ul></details>" if differs else ""
    return f"<p>Published: {places}. These are the settings of a recipe, which {command} tells.</p>{told}"


def _cell(name: str, content: dict, best: float | None, published: list[Numbers]) -> str:
    mean, sd = content["mean"][name], content["sd"][name]
    if mean is None:
        return f'<td class="empty" data-metric="{name}">–</td>'
    data = f' data-metric="{name}" data-mean="{mean}"' + ("" if sd is None else f' data-sd="{sd}"')
    # The bar is for recalls and accuracies: an error has no end to measure it against.
    bar = "" if name in LOWER_IS_BETTER else f' style="--share:{100 * mean:.1f}%"'
    values = [percent(numbers[name]) for numbers in published if name in numbers]
    below = f"<div><small>published {' and '.join(values)}</small></div>" if values else ""
    return f'<td{data}{" class=best" if mean == best else ""}{bar}>{number(name, content, "<small>", "</small>")}{below}</td>'
