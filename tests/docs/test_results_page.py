"""results/README.md tells what results/tables has: every row at the full budget that a published number stands beside."""

import pytest

from tests.conftest import ROOT
from tests.docs.test_figures import TABLES, told

PAGE = ROOT / "results/README.md"
COLUMNS = ["system", "recipe", "row", "published", "ours", "seeds", "verdict", "commit", "table"]
SYSTEMS = ("Prior-LT", "BALMS", "DRO-LT", "xERM", "Longtail_DA")


def lines_of(page) -> list[list[str]]:
    """Cells of the page's Markdown tables, line by line."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]


def measured(table: dict) -> list[list[str]]:
    """A table's rows as the page tells them, without the system."""
    link = f"[{table['table']}](tables/{table['table']}.md)"
    rows = [
        (name, row, content, recipe["commits"])
        for name, recipe in table["recipes"].items() for row, content in recipe["rows"].items()
        if content["budget"] == 1 and content["status"] == "done" and "balanced" in content["published"]
    ]
    return [
        [
            name, row, " / ".join(f"{100 * one['published']['balanced']:.2f}" for one in (content, *content.get("also", ()))),
            told(content, "balanced")[1] or told(content, "balanced")[0], str(len(content["seeds"])), content["verdict"]["balanced"],
            ", ".join(commits), link,
        ]
        for name, row, content, commits in rows
    ]  # fmt: skip


def told_rows(text: str) -> list[list[str]]:
    """Those of the page's first table, without the system."""
    lines = lines_of(text)
    assert lines[0] == COLUMNS
    return [line[1:] for line in lines[2:] if len(line) == len(COLUMNS)]


def test_the_page_has_every_row_as_it_was_measured_and_no_other():
    assert sorted(told_rows(PAGE.read_text(encoding="utf-8"))) == sorted(row for table in TABLES for row in measured(table))


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_page_speaks_of_each_system(system):
    assert [line for line in lines_of(PAGE.read_text(encoding="utf-8")) if line[0] == system and len(line) == 3]


def test_every_table_is_linked_from_the_page():
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"(tables/{table['table']}.md)" in text for table in TABLES)
    assert all((ROOT / f"results/tables/{table['table']}.md").is_file() for table in TABLES)


def test_a_row_is_told_with_its_second_source():
    content = {
        "budget": 1.0, "status": "done", "published": {"balanced": 0.4545}, "also": [{"published": {"balanced": 0.4641}}],
        "mean": {"balanced": 0.4501}, "sd": {"balanced": None}, "seeds": [0], "verdict": {"balanced": "inside"},
    }  # fmt: skip
    table = {"table": "x", "recipes": {"r": {"commits": ["abc"], "rows": {"base": content, "crt": content | {"budget": 0.1}}}}}
    assert measured(table) == [["r", "base", "45.45 / 46.41", "45.0", "1", "inside", "abc", "[x](tables/x.md)"]]
