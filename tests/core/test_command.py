"""How stages start: their errors in words, and the note of what they cost."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lt.core import command, params
from stages import start
from tests.conftest import ROOT


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


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_has_enough_ends_a_command_without_a_word(lines, tmp_path):
    (tmp_path / "talk.py").write_text(f"from lt.core.command import run\nrun(lambda: print('line\\n' * {lines}, end=''))\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", "python talk.py 2> words | true"], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "words").read_text() == ""


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "", "4294967296", "9" * 5000, "\u0662"])
def test_a_seed_that_is_none_is_told(text, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["base", f"--seed={text}"])
    with pytest.raises(SystemExit):
        command.arguments("doc")
    assert "expected a whole number from 0 to 4294967295" in capsys.readouterr().err


def test_the_largest_seed_is_one(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["base", "--seed", "4294967295"])
    assert command.arguments("doc").seed == 2**32 - 1


@pytest.mark.parametrize(
    "arguments, told",
    [
        ("retrain dro_lt", "methods: got 'dro_lt', expected a block of methods in params.yaml: .*nearest: 'dro_l'"),
        ("distill crt", "teachers: got 'crt', expected a block of teachers in params.yaml: pc"),
    ],
)
def test_a_row_that_params_do_not_have_is_told_with_the_nearest_names(arguments, told, monkeypatch):
    plain = params.load(ROOT / "params.yaml")
    settings = plain.model_copy(update={"methods": {"dro_l": {}, "crt": {}}, "teachers": {"pc": plain.teachers["pc"]}})
    monkeypatch.setattr(params, "load", lambda: settings)
    name, row = arguments.split()
    monkeypatch.setattr(sys, "argv", [name, row, "--seed", "0"])
    with pytest.raises(params.ParamsError, match=told):
        importlib.import_module(f"stages.{name}").main()
    with pytest.raises(params.ParamsError, match="got 'dro_lt'.*nearest: 'dro_l'"):
        settings.options("methods", "dro_lt")


def test_a_finished_stage_notes_its_cost_and_a_failed_one_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LT_DEBUG", raising=False)
    monkeypatch.setattr(sys, "argv", ["/somewhere/stages/retrain.py", "lws", "--seed", "1"])
    monkeypatch.setenv("DVC_STAGE", "retrain@lws-1")
    with pytest.raises(SystemExit):
        command.run(fail_with(ValueError("no")))
    assert not Path(".cost").exists()
    command.run(lambda: None)
    noted = json.loads(Path(".cost/retrain_lws_seed_1.json").read_text())
    assert noted["stage"] == "retrain" and noted["arguments"] == ["lws", "--seed", "1"]
    assert 0 <= noted["seconds"] < 60 and 5 < noted["peak_rss_mib"] < 100_000


def test_a_stage_that_is_run_by_hand_is_checked_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    content = (ROOT / "params.yaml").read_text()
    Path("params.yaml").write_text(content.replace("\nloss: ce\n", "\nloss: bayes\n"))
    monkeypatch.setattr(sys, "argv", ["/somewhere/stages/retrain.py", "lws", "--seed", "1"])
    with pytest.raises(SystemExit) as stopped:
        start.run(fail_with(AssertionError("the stage has run")))
    assert "loss: got 'bayes'" in str(stopped.value) and "nearest" in str(stopped.value)


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
