"""How LT_NPROC processes start, who of them writes, and that all end together, whatever happens to one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lt import launch
from tests.conftest import ROOT, Project


@pytest.mark.parametrize(
    "text, told", [("x", "got 'x', expected a number"), ("0", "got '0'"), ("-2", "got '-2'"), ("1.5", "got '1.5'")]
)
def test_a_number_of_processes_that_makes_no_sense_is_told(text, told, monkeypatch):
    monkeypatch.setenv("LT_NPROC", text)
    with pytest.raises(ValueError, match=f"LT_NPROC: {told}"):
        launch.start()


def test_there_is_a_gpu_for_each_process_or_none_at_all(monkeypatch):
    monkeypatch.setenv("LT_NPROC", "3")
    assert launch.processes() == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="LT_NPROC: got 3, expected at most 2, one process per GPU"):
        launch.processes()


def test_unset_or_empty_means_one_process(monkeypatch):
    for value in ("", "1"):
        monkeypatch.setenv("LT_NPROC", value)
        launch.start()
    monkeypatch.delenv("LT_NPROC")
    launch.start()
    launch.finish()


@pytest.mark.parametrize(
    "codes, stopped, told",
    [
        ([0, 0], False, None),
        ([1, 1], False, None),  # process 0 has told it already
        ([1, 1], True, None),
        ([3, 1], False, "process 1 of 2 failed with exit code 1; nothing was written\nout of memory"),
        ([-15, 1], False, "process 1 of 2 failed"),
        ([3, -9], False, "process 1 of 2 was ended by SIGKILL"),
        ([1, -9], False, "process 1 of 2 was ended by SIGKILL"),  # process 0 was then asked to stop, and told only that
        ([-6, -9], False, "process 1 of 2 was ended by SIGKILL"),
        ([-6, 0], False, "process 0 of 2 was ended by SIGABRT"),
        ([-9, 3], False, "process 0 of 2 was ended by SIGKILL"),
        ([None, 1], False, "process 1 of 2 failed with exit code 1; nothing was written\nout of memory"),  # 0 hung, and was killed
        ([None, 3], False, "process 1 of 2 failed with exit code 3"),
        ([1, None], False, None),
        ([None, None], True, "stopped; run the same command to continue"),
        ([-15, -15], True, "stopped; run the same command to continue"),
        ([-15, 0], False, "process 0 of 2 was ended by SIGTERM"),
    ],
)
def test_the_first_cause_is_told_once(codes, stopped, told, tmp_path):
    errors = [tmp_path / "0", tmp_path / "1"]
    errors[1].write_text("out of memory\n")
    found = launch._outcome(codes, errors, stopped)
    assert found == any(codes) if told is None else told in found


def test_a_process_that_hangs_after_another_has_failed_is_killed(monkeypatch):
    monkeypatch.setattr(launch, "PATIENCE_S", 0.1)
    monkeypatch.setattr(launch, "GRACE_S", 0.2)
    start = time.monotonic()
    with launch._ending_all() as ranks:
        ranks += [subprocess.Popen(["sh", "-c", command]) for command in ("trap '' TERM; while :; do sleep 0.1; done", "exit 1")]
        assert not launch._wait(ranks, [])
    assert time.monotonic() - start < 10
    assert [process.returncode for process in ranks] == [-signal.SIGKILL, 1]


# Tells who opens which file of the project for writing, and where to find each process.
WATCH = """
import os, sys
from pathlib import Path

folder = os.environ.get("WATCH_FOLDER")
if folder and "RANK" in os.environ:
    Path(folder, "pid" + os.environ["RANK"]).write_text(str(os.getpid()))
    log = os.open(folder + "/opened" + os.environ["RANK"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def hook(event, arguments):
        if event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            os.write(log, (str(arguments[0]) + chr(10)).encode())
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            os.write(log, (str(arguments[0]) + chr(10)).encode())

    sys.addaudithook(hook)
"""
SMALL = {
    "train.epochs": 12, "train.warmup_epochs": 0, "train.batch_size": 32, "features.views": 1,
    "methods.dro_lt": {"epochs": 1, "batch_size": 100, "head_epochs": 1},
}


class Scratch:
    """A project folder in which stages run as commands, in two processes."""

    def __init__(self, folder: Path, watch: Path):
        self.folder, self.watch = folder, watch
        self.environment = {"LT_NPROC": "2", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(watch), "WATCH_FOLDER": str(watch)}

    def run(self, *stage: str, ok: bool = True) -> subprocess.CompletedProcess:
        """A stage, to its end."""
        for path in self.watch.glob("*[01]"):
            path.unlink()
        return Project(self.folder).run("python", "-m", *stage, ok=ok, **self.environment)

    def start(self, *stage: str) -> subprocess.Popen:
        """A stage that saves its state whenever it can, once it has done so."""
        environment = {**os.environ, **self.environment, "LT_SAVE_EVERY_S": "-1"}
        environment.pop("DVC_ROOT", None)
        before = self.saved()
        process = subprocess.Popen(
            [sys.executable, "-m", *stage], cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 60
        while self.saved() == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()[0]
        return process

    def saved(self) -> list[int]:
        """When states were written."""
        return [path.stat().st_mtime_ns for path in self.folder.glob(".resume/*.pt")]

    def pid(self, rank: int) -> int:
        return int((self.watch / f"pid{rank}").read_text())

    def written(self, rank: int) -> set[str]:
        """Files that a process opened for writing, made, moved or removed."""
        return {*(self.watch / f"opened{rank}").read_text().splitlines()} - {os.devnull}

    def artifact(self, stage: str) -> dict[str, bytes]:
        root = self.folder / "artifacts" / stage
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


BASE = "stages.base", "--seed", "0"


@pytest.fixture(scope="module")
def scratch(stages_in, tmp_path_factory):
    """A project folder after subsample."""
    folder, watch = stages_in(SMALL, "subsample"), tmp_path_factory.mktemp("watch")
    (watch / "sitecustomize.py").write_text(WATCH)
    for name in ("lt", "stages"):
        (folder / name).symlink_to(ROOT / name)
    return Scratch(folder, watch)


@pytest.fixture(scope="module")
def base(scratch) -> dict[str, bytes]:
    """The base artifact, trained by two processes without a stop; only one of them reports and writes."""
    done = scratch.run(*BASE)
    assert done.stdout.count("base, seed 0: ") == 1 and "2 processes" in done.stdout
    assert any("test_logits.npy" in name for name in scratch.written(0)) and not scratch.written(1)
    assert [path.name for path in (scratch.folder / ".cost").iterdir()] == ["base_seed_0.json"]
    assert not scratch.saved()
    return scratch.artifact("base")


def test_only_one_process_reports_and_writes(base):
    assert {Path(name).name for name in base} == {"row.json", "weights.safetensors", "log.csv", "test_logits.npy"}


def test_a_dead_process_and_ctrl_c_end_all_and_the_run_goes_on_to_the_same_bytes(scratch, base):
    process = scratch.start(*BASE)
    other = scratch.pid(0)
    os.kill(scratch.pid(1), signal.SIGKILL)
    start = time.monotonic()
    printed, _ = process.communicate(timeout=60)
    assert time.monotonic() - start < 20
    assert process.returncode == 1
    assert "error: process 1 of 2 was ended by SIGKILL" in printed and "nothing was written" in printed
    assert "Traceback" not in printed
    with pytest.raises(ProcessLookupError):
        os.kill(other, 0)

    process = scratch.start(*BASE)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "continues in epoch" in printed
    assert printed.count("the state is saved; run the same command to continue") == 1 and "Traceback" not in printed

    assert scratch.artifact("base") == base, "what was written before is kept"
    (scratch.folder / "artifacts/base/0/test_logits.npy").unlink()
    assert "continues in epoch" in scratch.run(*BASE).stdout
    assert scratch.artifact("base") == base
    assert not scratch.saved()


def test_an_error_that_all_have_is_told_once(scratch, base):
    Project(scratch.folder).set({"train.lr": 1.0e30})
    done = scratch.run(*BASE, ok=False)
    Project(scratch.folder).set({"train.lr": 0.1})
    assert done.returncode == 1
    assert done.stderr.count("error: base, seed 0: the loss is nan in batch") == 1 and "Traceback" not in done.stderr


def test_a_method_that_trains_the_backbone_runs_in_several_processes_and_others_do_not(scratch, base, stages_in, monkeypatch):
    stages_in({}, "features --seed 0")
    done = scratch.run("stages.retrain", "dro_lt", "--seed", "0")
    assert "DRO-LT, seed 0: eager" in done.stdout and "2 processes" in done.stdout
    written = {Path(name).name for name in scratch.artifact("retrain/dro_lt")}
    assert {"backbone.safetensors", "backbone_log.csv", "eps.npy"} <= written
    assert not scratch.written(1)
    monkeypatch.setenv("LT_NPROC", "2")
    monkeypatch.setattr(launch, "_run_all", lambda count: pytest.fail("started processes"))
    stages_in({}, "retrain pc --seed 0")
