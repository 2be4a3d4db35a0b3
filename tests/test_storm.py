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
    place = Copy(tmp_path)
    assert place.kill([sys.executable, "-c", PARENT], 5, {})
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
    assert not place.kill([sys.executable, "-c", ""], 30, {}), "it had ended before"


def test_what_differs_is_told(tmp_path, monkeypatch):
    (tmp_path / "made").mkdir()
    command = [sys.executable, "-c", "open('made/a', 'w').write('right'); open('made/b', 'w').write('right')"]
    monkeypatch.setitem(storm.KINDS, "stage", (command, {}, ["made"]))
    storm.finish("stage", Copy(tmp_path))
    expected = storm.hashes(tmp_path, ["made"])
    assert storm.compare("stage", Copy(tmp_path), expected) == []
    assert storm.compare("stage", Copy(tmp_path, lost_edits=1), expected) == ["stage: an edit of the user's"]
    assert storm.compare("stage", Copy(tmp_path), expected | {"made/b": "0", "made/c": "0"}) == ["stage: 2 files differ, such as made/b"]
    monkeypatch.setitem(storm.KINDS, "stage", ([sys.executable, "-c", "raise SystemExit('it is broken')"], {}, ["made"]))
    assert storm.compare("stage", Copy(tmp_path), expected) == ["stage: could not be finished: it is broken\n"]


@pytest.mark.slow
@pytest.mark.pipeline
def test_twenty_kills_lose_nothing():
    done = subprocess.run([sys.executable, "-m", "benchmarks.storm", "--kills", "20"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 kills, seed 0: nothing lost, the same bytes everywhere" in done.stdout
