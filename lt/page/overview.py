"""The head of the page: what was run, balanced accuracy of every row, and the table."""

from html import escape

from lt.comparison import compare
from lt.counts import thirds
from lt.page.parts import figure, grid
from lt.page.plot import Mark, dot_list, linear
from lt.page.sources import Sources
from lt.table import HEADLINE, PERCENT

LOWER_IS_BETTER = ("nll", "ece")
TITLES = {"top1": "top-1", "nll": "NLL", "ece": "ECE"}


def summary(sources: Sources) -> str:
    """One line: data set, imbalance, sizes, model, loss, seeds."""
    context, facts = sources.context, sources.facts
    sizes = ""
    if facts:
        counts = facts["train_counts"]
        sizes = (
            f"{len(counts)} classes, {sum(counts):,} training images ({max(counts):,} to {min(counts):,} per class), "
            f"{sum(facts['test_counts']):,} test images; "
        )
    seeds = context["seeds"].split()
    return (
        f"Imbalance {escape(context['imbalance'])}; {sizes}model {escape(context['model'])}, loss {escape(context['loss'])}, "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {' '.join(seeds)}."
    )


def silhouette(sources: Sources) -> str:
    """Training images per class, from the largest to the smallest, as bars in the colours of the three thirds."""
    if not sources.facts:
        return ""
    counts = sources.facts["train_counts"]
    group_of = {int(c): name for name, mask in thirds(counts).items() for c in mask.nonzero()[0]}
    order = sorted(range(len(counts)), key=lambda c: -counts[c])
    bars = "".join(
        f'<rect class="{group_of[c]}" x="{i}.08" width=".84" y="{100 - 100 * counts[c] / counts[order[0]]:.2f}" height="{100 * counts[c] / counts[order[0]]:.2f}">'
        f"<title>{escape(sources.facts['classes'][c])}: {counts[c]:,}</title></rect>"
        for i, c in enumerate(order)
    )
    legend = "".join(f'<span class="{name}"><i></i>{name}: {int(mask.sum())} classes</span>' for name, mask in thirds(counts).items())
    return (
        f'<figure class="silhouette"><svg viewBox="0 0 {len(order)} 100" preserveAspectRatio="none" role="img" '
        f'aria-label="training images per class">{bars}</svg><figcaption class="keys">{legend}</figcaption></figure>'
    )


def finding(sources: Sources) -> str:
    """Which row leads in balanced accuracy on this test set, how far from base, and whether that is noise."""
    ranked = sorted((row for row in sources.rows if sources.rows[row]["balanced"] is not None), key=lambda row: -sources.rows[row]["balanced"])
    if not ranked:
        return ""
    best = ranked[0]
    text = f"Highest balanced accuracy: <b>{escape(best)}</b>, {_number('balanced', sources.rows[best])} %"
    if best != "base" and {"base", best} <= sources.details.keys():
        found = compare(sources.details["base"], sources.details[best], "balanced")
        text += f", {100 * (found.second - found.first):.1f} points above base ({escape(found.verdict())})"
    return f'<p class="finding">{text}.</p>'


def leaderboard(sources: Sources) -> str:
    """Balanced accuracy of every row, with sd and single seeds; beside it the difference from base with its interval."""
    marks, values = [], []
    for row, content in sources.rows.items():
        if content["balanced"] is None:
            continue
        seeds = sources.details.get(row, {}).get("seeds", {}).values()
        points = tuple(seed["metrics"]["balanced"] for seed in seeds) if len(seeds) > 1 else ()
        mean, sd = content["balanced"], content["sd"]["balanced"]
        ends = (None, None) if sd is None else (mean - sd, mean + sd)
        marks.append(Mark(sources.css[row], row, mean, _number("balanced", content), *ends, points))
        values += [mean, *points, *(end for end in ends if end is not None)]
    axis = linear(values, "balanced accuracy, %", percent=True, within=(0, 1))
    spread = "Dot: mean over seeds; line: ± one sd; ticks: single seeds." if len(sources.settings.seeds) > 1 else "One seed, so no spread."
    figures = [figure("Balanced accuracy", dot_list(marks, axis, "balanced accuracy by row"), spread)]
    differences = _differences(sources)
    if differences:
        axis = linear([0.0, *(end for mark in differences for end in (mark.low, mark.high))], "points from base", percent=True)
        chart = dot_list(differences, axis, "difference from base by row", reference=0.0)
        note = "Line: 95 % interval over the choice of test images, paired. Rows whose line crosses 0 are not told apart from base."
        figures.append(figure("Difference from base", chart, note))
    return grid(figures, "two")


def _differences(sources: Sources) -> list[Mark]:
    marks = []
    for row, details in sources.details.items():
        if row == "base" or "base" not in sources.details:
            continue
        found = compare(sources.details["base"], details, "balanced")
        if found.by_image:
            interval = found.by_image
            marks.append(Mark(sources.css[row], row, interval.difference, f"{100 * interval.difference:+.1f}", interval.low, interval.high))
    return marks


def table(sources: Sources) -> str:
    """All headline metrics of every row, mean ± sd, the best of each column marked; the numbers of results/methods, exactly."""
    best = {}
    for name in HEADLINE:
        values = [content[name] for content in sources.rows.values() if content[name] is not None]
        best[name] = (min if name in LOWER_IS_BETTER else max)(values) if values else None
    head = "".join(f'<th scope="col">{TITLES.get(name, name)}{" %" if name in PERCENT else ""}</th>' for name in HEADLINE)
    body = []
    for row, content in sources.rows.items():
        cells = "".join(_cell(name, content, best[name]) for name in HEADLINE)
        body.append(f'<tr data-row="{escape(row)}"><th scope="row"><i class="swatch {sources.css[row]}"></i>{escape(row)}</th>{cells}</tr>')
    groups = (
        '<th></th><th colspan="2" scope="colgroup">accuracy</th><th colspan="3" scope="colgroup">recall by training images</th>'
        '<th colspan="3" scope="colgroup">recall by thirds of the classes</th><th colspan="2" scope="colgroup">calibration</th>'
    )
    return (
        f'<div class="scroll"><table class="results"><thead><tr class="groups">{groups}</tr><tr><th scope="col">row</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(name: str, content: dict, best: float | None) -> str:
    mean, sd = content[name], content["sd"][name]
    if mean is None:
        return '<td class="empty">–</td>'
    data = f' data-metric="{name}" data-mean="{mean}"' + ("" if sd is None else f' data-sd="{sd}"')
    # The bar is for fractions: a loss has no end to measure it against.
    bar = f' style="--share:{100 * mean:.1f}%"' if name in PERCENT and name not in LOWER_IS_BETTER else ""
    return f'<td{data}{" class=best" if mean == best else ""}{bar}>{_number(name, content, small=True)}</td>'


def _number(name: str, content: dict, small: bool = False) -> str:
    scale, digits = (100, 1) if name in PERCENT else (1, 3)
    mean, sd = content[name], content["sd"][name]
    text = f"{scale * mean:.{digits}f}"
    if sd is None:
        return text
    spread = f" ± {scale * sd:.{digits}f}"
    return f"{text}<small>{spread}</small>" if small else text + spread

