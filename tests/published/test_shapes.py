"""Files of a workspace that a kill has cut short, or that hold something else: told, or, where they are worth no error, passed over."""

import json
from pathlib import Path

import pytest

from lt.core import artifacts, command
from lt.page.sources import _read_cost
from lt.published import lock, notes

ENTRY = {"cmd": "python -m stages.base --seed 0", "outs": [{"path": "artifacts/base/0"}]}
WRONG = ["", "[]", "null", "{", '{"seconds": "long"}', '{"seconds": null}', '{"torch": 2}', '{"arguments": 3, "seconds": 1, "peak_rss_mib": 2}']


@pytest.mark.parametrize("text", WRONG)
def test_a_cost_that_is_none_is_no_error(text, tmp_path):
    (tmp_path / "base.json").write_text(text)
    assert _read_cost(tmp_path / "base.json") is None


@pytest.mark.parametrize("text", WRONG[:-1])
def test_a_note_that_is_none_is_no_error(text, tmp_path):
    (tmp_path / notes.NOTES).mkdir()
    (tmp_path / command.COST).mkdir()
    (tmp_path / notes.NOTES / f"{lock.key(ENTRY)}.json").write_text(text)
    assert notes.read(tmp_path, ENTRY) == {}
    (tmp_path / command.COST / "base_seed_0.json").write_text(text)
    notes.take(tmp_path, {"base@0": ENTRY})
    assert notes.read(tmp_path, ENTRY) == {} and not any((tmp_path / command.COST).iterdir())


@pytest.mark.parametrize("text", ["", "stages:", "stages: []", "stages:\n  a: {}", "stages:\n  a:\n    cmd: x\n    deps: [1]", "a: [", "\x07"])
def test_a_lock_that_was_cut_short_is_told_with_what_mends_it(text, tmp_path):
    (tmp_path / "dvc.lock").write_text(text)
    with pytest.raises(ValueError, match="dvc.lock was cut short, as by a kill .*run: python -m stages.doctor --mend"):
        lock.read(tmp_path)


def test_a_cost_is_written_in_one_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    replaced = []
    monkeypatch.setattr(artifacts.os, "replace", lambda part, path: replaced.append(Path(path).name) or Path(part).rename(path))
    command.write_cost("base", ["--seed", "0"], 1.5)
    assert replaced == ["base_seed_0.json"] and json.loads((tmp_path / ".cost/base_seed_0.json").read_text())["seconds"] == 1.5
