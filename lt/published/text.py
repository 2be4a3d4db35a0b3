"""A table as Markdown, for reading as text as well: one section for each recipe, which are never ranked together."""

from typing import Any, Collection

from lt.published.recipes import percent
from lt.report.words import aligned, in_words, number

SHOWN = ("balanced", "train_prior", "many", "medium", "few", "nll", "ece")
HEAD = (
    "row", "seeds", "budget", "balanced %", "published %", "difference", "verdict", "train_prior %", "many %", "medium %", "few %",
    "nll", "ece %",
)  # fmt: skip
NOTE = (
    "ours: mean ± sd over the seeds, of the last epoch's weights. many, medium, few: classes with more than 100, 20 to 100, and "
    "fewer than 20 training images. train_prior: expected accuracy on test data with the class shares of the training part. "
    "difference: ours minus published, in points. nll and ece: lower is better. Each section is a protocol of its own: rows "
    "of different sections are not to be compared."
)


def markdown(table: dict[str, Any]) -> str:
    """Content of results/tables/<name>.md, from that of the JSON file."""
    sections = [_section(name, recipe) for name, recipe in table["recipes"].items()]
    return "\n\n".join([f"# {table['table']}", f"`{table['command']}`", NOTE, f"Verdict: {table['band']}", *sections]) + "\n"


def _section(name: str, recipe: dict[str, Any]) -> str:
    source = recipe["source"]
    code = f" Code: {source['repository']}." if source["repository"] else ""
    parts = [
        f"## {name}",
        f"{recipe['summary']}. Source: {source['paper']}.{code}",
        aligned(HEAD, [_row(row, content) for row, content in recipe["rows"].items()]),
        *_sources(recipe["rows"]),
        *_others(recipe["rows"]),
        f"Protocol: {recipe['protocol']}",
        "What differs here:\n\n" + "\n".join(f"- {line}" for line in recipe["differs"]),
        *_made_by(recipe),
    ]
    return "\n\n".join(parts)


def _row(row: str, content: dict[str, Any]) -> list[str]:
    published = content["published"].get("balanced")
    shown = "-" if published is None else percent(published)
    if content["status"] != "done":
        return [row, "-", f"{content['budget']:g}", content["status"], shown, *("-" for _ in range(len(SHOWN) + 1))]
    difference = content["difference"].get("balanced")
    numbers = [number(name, content) for name in SHOWN]
    return [
        row, str(len(content["seeds"])), f"{content['budget']:g}", numbers[0], shown,
        "-" if difference is None else f"{100 * difference:+.1f}", _verdict(content, "balanced"), *numbers[1:],
    ]


def _verdict(content: dict[str, Any], metric: str) -> str:
    """inside, above, below; why there is none at a reduced budget; - where nothing is published."""
    if metric not in content["difference"]:
        return "-"
    return content["verdict"].get(metric, "reduced budget")


def _sources(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Where the published numbers stand, each place once with its rows; the row's second source is marked [2], and so on."""
    places: dict[str, list[str]] = {}
    for row, content in rows.items():
        for mark, numbers in _marked(content):
            if numbers["source"]:
                places.setdefault(numbers["source"], []).append(row + mark)
    if not places:
        return ["Published: no number that could be checked."]
    return ["Published: " + "; ".join(f"{', '.join(found)}: {place}" for place, found in places.items()) + "."]


def _marked(content: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The published numbers of a row by source: (no mark, the first), ( [2], the second) and so on."""
    return [("", content), *((f" [{number}]", also) for number, also in enumerate(content["also"], start=2))]


def _others(rows: dict[str, dict[str, Any]]) -> list[str]:
    """A second table, of the published numbers other than the first source's balanced accuracy, where there are any."""
    lines = []
    for row, content in rows.items():
        for mark, numbers in _marked(content):
            for name, difference in numbers.get("difference", {}).items():
                if name != "balanced" or mark:
                    ours = [number(name, content), percent(numbers["published"][name]), f"{100 * difference:+.1f}"]
                    lines.append([row + mark, name, *ours, _verdict(numbers, name)])
    return [aligned(["row", "metric", "ours %", "published %", "difference", "verdict"], lines)] if lines else []


def _made_by(recipe: dict[str, Any]) -> list[str]:
    """Versions, device, commits and time; nothing where no row is done."""
    if not recipe["seconds"]:
        return []
    versions = "; ".join(f"{key} {', '.join(map(str, found))}" for key, found in recipe["versions"].items() if found)
    how = "; ".join(f"{block}: compile {found['compile']}, {found['precision']}" for block, found in recipe["how"].items())
    seconds = [f"{script} {_time(found.values())}" for script, found in recipe["seconds"].items()]
    return [
        f"Made by: {versions}; {how}; commit {', '.join(recipe['commits'])}.",
        f"Time in all (runs), without imports, of a run that continued a killed one the last part: {', '.join(seconds)}.",
    ]


def _time(seconds: Collection[float | None]) -> str:
    """Time of several runs, and of how many it is not known."""
    known = [value for value in seconds if value is not None]
    unknown = f", {len(seconds) - len(known)} of them unknown" if len(known) < len(seconds) else ""
    return f"{in_words(sum(known))} ({len(seconds)}{unknown})"
