"""Figures that pages tell stand in results/tables."""

import json
import re

from tests.conftest import ROOT
from tests.docs.markdown import PAGES

TABLES = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "results/tables").glob("*.json")]
SECTIONS = [section for table in TABLES for section in table["recipes"].values()]
RECIPES = next(table for table in TABLES if table["table"] == "digits")["recipes"]
DIGITS = RECIPES["digits_full"]["rows"]
COLUMNS = {"balanced %": "balanced", "head %": "head", "mid %": "mid", "tail %": "tail", "nll": "nll", "ece %": "ece"}


def told(row, metric):
    """A metric of a row as a table tells it: percent with one digit, or the nll with three; and its sd, where there is one."""
    factor, digits = (1, 3) if metric == "nll" else (100, 1)
    mean, sd = row["mean"][metric], row["sd"].get(metric)
    return f"{factor * mean:.{digits}f}", None if sd is None else f"{factor * mean:.{digits}f} ± {factor * sd:.{digits}f}"


EVERY = {told(row, metric) for section in SECTIONS for row in section["rows"].values() for metric in row["mean"]}
MEANS, WITH_SD = {mean for mean, _ in EVERY}, {both for _, both in EVERY if both}


def test_the_readmes_table_is_that_of_the_digits():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    head = next(line for line in lines if line[0] == "row")
    rows = [line for line in lines if len(line) == len(head) and line[0] in DIGITS]
    assert len(rows) >= 5
    for row in rows:
        for title, cell in zip(head, row):
            if title in COLUMNS:
                assert cell == told(DIGITS[row[0]], COLUMNS[title])[1], (row[0], title)


def test_means_and_deviations_are_measured_ones():
    for page in PAGES:
        found = re.findall(r"\d+\.\d+ ± \d+\.\d+", page.read_text(encoding="utf-8"))
        assert not {*found} - WITH_SD, page


def test_percentages_of_the_readme_are_measured_ones():
    for page in (ROOT / "README.md", ROOT / "docs/published.md"):
        found = re.findall(r"(\d+\.\d) (?:%|to)", page.read_text(encoding="utf-8"))
        assert found and not {*found} - MEANS, page


def test_which_method_when():
    """What the README says of the tables in words."""
    mean = {row: content["mean"] for row, content in DIGITS.items()}
    heads = ("crt", "pc", "balanced_softmax", "balms")  # those of its own table
    assert {*sorted(heads, key=lambda row: mean[row]["tail"])[-2:]} == {"balanced_softmax", "balms"}
    for teacher in ("balms", "pc"):
        assert all(mean[f"xerm_{teacher}"][metric] < mean[teacher][metric] for metric in ("nll", "ece"))
    for recipe in ("digits_unimix_bayias", "digits_lade"):
        assert RECIPES[recipe]["rows"]["base"]["mean"]["balanced"] > 0.04 + max(row["balanced"] for row in mean.values())
    assert all(row["tail"] > 0.1 + mean["base"]["tail"] for name, row in mean.items() if name in heads)
