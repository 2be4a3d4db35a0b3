"""How stages start: their errors in words, and the note of what they cost."""

import json
import sys
from pathlib import Path

import pytest

from lt import command


def fail_with(error):
    def main():
        raise error

    return main


def test_an_error_is_told_in_words(monkeypatch):
    monkeypatch.delenv("LT_DEBUG", raising=False)
    with pytest.raises(SystemExit, match="error: too few seeds"):
        command.run(fail_with(ValueError("too few seeds")))
    with pytest.raises(SystemExit, match="error: MemoryError"):
        command.run(fail_with(MemoryError()))


def test_debugging_shows_where_an_error_came_from(monkeypatch):
    monkeypatch.setenv("LT_DEBUG", "1")
    with pytest.raises(ValueError):
        command.run(fail_with(ValueError("too few seeds")))


def test_a_finished_stage_notes_its_cost_and_a_failed_one_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LT_DEBUG", raising=False)
    monkeypatch.setattr(sys, "argv", ["/somewhere/stages/retrain.py", "lws", "--seed", "1"])
    with pytest.raises(SystemExit):
        command.run(fail_with(ValueError("no")))
    assert not Path(".cost").exists()
    command.run(lambda: None)
    noted = json.loads(Path(".cost/retrain_lws_seed_1.json").read_text())
    assert noted["stage"] == "retrain" and noted["arguments"] == ["lws", "--seed", "1"]
    assert 0 <= noted["seconds"] < 60 and 5 < noted["peak_rss_mib"] < 100_000


def test_commands_that_are_no_stages_note_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/somewhere/stages/compare.py", "base", "lws"])
    command.run(lambda: None)
    assert not Path(".cost").exists()


def test_cost_that_cannot_be_noted_fails_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(".cost").write_text("in the way")
    command.write_cost("report", [], 1.0)
    assert Path(".cost").read_text() == "in the way"
    Path(".cost").unlink()
    monkeypatch.setenv("RANK", "1")
    command.write_cost("report", [], 1.0)
    assert not Path(".cost").exists()
