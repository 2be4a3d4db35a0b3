"""The storm of kills: that it kills all that it should, sees what is lost, and that nothing is."""

import subprocess
import sys

import psutil
import pytest

from benchmarks import storm
from benchmarks.storm_project import Copy
from tests.conftest import ROOT

PARENT = """
import subprocess, sys, time
from pathlib import Path
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
Path("child").write_text(str(child.pid))
Path("child").rename("pid")
time.sleep(60)
"""


def test_a_kill_ends_a_command_and_what_it_has_started_in_sessions_of_their_own(tmp_path):
    place = Copy(tmp_path / "project")
    place.folder.mkdir()
    assert place.kill([sys.executable, "-c", PARENT], 5, {}) is None
    assert not psutil.pid_exists(int((place.folder / "pid").read_text()))
    assert place.kill([sys.executable, "-c", "raise SystemExit('it is broken')"], 30, {}) == 1, "it had ended before"
    assert place.said() == "it is broken\n"


def compared(kind, place, expected):
    found = storm.Found()
    storm.compare(kind, place, expected, found)
    return found


def test_what_differs_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "made").mkdir()
    command = [sys.executable, "-c", "open('made/a', 'w').write('right'); open('made/b', 'w').write('right')"]
    monkeypatch.setitem(storm.KINDS, "stage", storm.Kind(command, ("made",)))
    found = storm.Found()
    storm.finish("stage", Copy(tmp_path), found)
    expected = storm.hashes(tmp_path, ["made"])
    same = compared("stage", Copy(tmp_path), expected)
    assert not found.lost and not same.lost and same.files == 2 and same.ended == {"stage": 1}
    others = compared("stage", Copy(tmp_path), expected | {"made/b": "0", "made/c": "0"})
    assert others.lost == ["stage: 2 files differ, such as made/b"] and others.files == 1
    (tmp_path / ".a.x.part").touch()
    assert compared("stage", Copy(tmp_path), expected).lost == ["stage: left half written, 1 in all, such as .a.x.part"]
    assert "1 compared, 2 files the same, 1 lost" in capsys.readouterr().out


def test_a_command_that_fails_after_a_kill_is_told(tmp_path, monkeypatch):
    place, found = Copy(tmp_path / "project"), storm.Found()
    place.folder.mkdir()
    monkeypatch.setitem(storm.KINDS, "stage", storm.Kind([sys.executable, "-c", "raise SystemExit('it is broken')"], ("made",)))
    assert not storm.kill_once("stage", place, 30, found)
    storm.finish("stage", place, found)
    assert found.lost == ["stage: failed after a kill, with exit code 1: it is broken\n", "stage: could not be finished: it is broken\n"]


@pytest.mark.slow
@pytest.mark.pipeline
def test_twenty_kills_lose_nothing():
    done = subprocess.run([sys.executable, "-m", "benchmarks.storm", "--kills", "20"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 kills, seed 0: nothing lost, the same bytes everywhere" in done.stdout
