"""Small pieces of HTML that every section is put together from."""

from html import escape
from typing import Iterable, Sequence


def figure(title: str, content: str, note: str = "", heading: str = "h3") -> str:
    """A figure with its title above and a note below; content is HTML, the others are text."""
    caption = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    return f"<figure><{heading}>{escape(title)}</{heading}>{content}{caption}</figure>"


def grid(figures: Sequence[str], css: str) -> str:
    """Figures side by side where there is room: css two, three or small."""
    return f'<div class="panels {css}">{"".join(figures)}</div>'


def keys(entries: Sequence[tuple[str, str]]) -> str:
    """Legend of lines: (class names, text)."""
    spans = "".join(f'<span><i class="swatch {css}"></i>{escape(text)}</span>' for css, text in entries)
    return f'<p class="keys">{spans}</p>'


def row_keys(css: dict[str, str], rows: Iterable[str]) -> str:
    """Legend of a chart of rows; each entry also works the row's check box (lt.page.build). css: row -> class names."""
    labels = "".join(f'<label for="{box_of(css[row])}"><i class="swatch {css[row]}"></i>{escape(row)}</label>' for row in rows)
    return f'<p class="keys">{labels}</p>'


def box_of(css: str) -> str:
    """Id of the check box that shows and hides a row, from the row's class names, of which the first is its own."""
    return f"show-{css.split()[0]}"


def absent(what: str, command: str) -> str:
    """What stands where an artifact is missing: what it would show, and the command that makes it."""
    then = f"Run <code>{escape(command)}</code>, then <code>python -m stages.page</code>."
    return f'<p class="absent">{escape(what)} {then}</p>'


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction in percent, – for None."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are HTML; the first column names the row."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = [f'<th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}' for first, *rest in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table class="plain"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
