"""Bad inputs: that the judge tells silence, tracebacks and hangs, that every damage is one, and that commands meet none badly."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bad_inputs, damage
from benchmarks.bad_case import Case
from tests.conftest import ROOT


@pytest.fixture
def judge(tmp_path, monkeypatch):
    """judge(main): the verdict on a command that reads input.txt, which is bad, and writes output.txt."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good" / "digits").mkdir(parents=True)
    (tmp_path / "good" / "digits" / "input.txt").write_text("good")
    monkeypatch.setattr(bad_inputs, "HANG_CPU_S", 0.3)

    def of(main):
        monkeypatch.setattr("stages.doctor.main", main)
        case = Case("any", "words", ["doctor"], lambda folder: (folder / "input.txt").write_text("bad"), ("input.txt",))
        return bad_inputs.Trial(tmp_path / "good").judge(case)[0]

    return of


def read():
    return Path("input.txt").read_text() == "good"


def refuse(words):
    def main():
        if not read():
            raise ValueError(words)

    return main


def hang():
    is_good = read()  # once: a file that is open when time is up would be warned of
    while not is_good:
        pass


def wait():
    time.sleep(0 if read() else 60)


def test_verdicts(judge, monkeypatch):
    assert judge(refuse("input.txt: got bad, expected good")) == "refused"
    assert judge(refuse("it is bad")) == "UNNAMED"
    assert judge(lambda: {}["key"]) == "TRACEBACK"
    assert judge(hang) == "HANG"
    monkeypatch.setattr(bad_inputs, "HANG_WAIT_S", 0.1)
    assert judge(wait) == "HANG"
    assert judge(lambda: Path("output.txt").write_text(Path("input.txt").read_text())) == "SILENT"
    assert judge(lambda: print(Path("input.txt").read_text())) == "SILENT"
    assert judge(lambda: Path("output.txt").write_text("the same")) == "same"


@pytest.mark.parametrize(
    "kind", [damage.of_place("a"), damage.of_bytes(random.Random(0), 7), damage.of_json(random.Random(0), 7)], ids=["place", "bytes", "json"]
)
def test_every_damage_makes_another_file(tmp_path, kind):
    content = json.dumps({"a": 1.5, "b": [1, {"c": "d"}]}).encode()
    for number, (what, change) in enumerate(kind):
        path = tmp_path / f"{number}.json"
        path.write_bytes(content)
        change(path)
        assert not path.is_file() or path.read_bytes() != content, what


def test_every_damaged_array_is_another(tmp_path):
    path = tmp_path / "a.npy"
    for what, change in damage.of_array(renewed=False):
        np.save(path, np.arange(6, dtype=np.float32).reshape(2, 3))
        before = path.read_bytes()
        change(path)
        assert path.read_bytes() != before, what


@pytest.mark.slow
def test_two_hundred_bad_inputs_do_no_harm():
    command = [sys.executable, "-m", "benchmarks.bad_inputs", "--count", "200", "--processes", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 faults; 3 tried in processes of their own" in done.stdout
