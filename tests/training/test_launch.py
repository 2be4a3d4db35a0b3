"""How LT_NPROC processes start, who of them writes, and that all end together, whatever happens to one."""

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from lt.training import launch
from tests.conftest import ROOT, Project


@pytest.mark.parametrize(
    "text, told", [
        ("x", "got 'x', expected a number"), ("0", "got '0'"), ("-2", "got '-2'"), ("1.5", "got '1.5'"),
        ("٢", "got '٢'"), ("²", "got '²'"),
    ],
)
def test_a_number_of_processes_that_makes_no_sense_is_told(text, told, monkeypatch):
    monkeypatch.setenv("LT_NPROC", text)
    with pytest.raises(ValueError, match=f"LT_NPROC: {told}"), launch.processes():
        pytest.fail("trained")


def test_there_is_a_gpu_for_each_process_or_none_at_all(monkeypatch):
    monkeypatch.setenv("LT_NPROC", "3")
    assert launch.requested() == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="LT_NPROC: got 3, expected at most 2, one process per GPU"):
        launch.requested()


def test_unset_or_empty_means_one_process(monkeypatch):
    trained = []
    for value in ("", "1", None):
        monkeypatch.delenv("LT_NPROC", raising=False) if value is None else monkeypatch.setenv("LT_NPROC", value)
        with launch.processes():
            trained.append(value)
    assert trained == ["", "1", None]


SAVED = "KeyboardInterrupt: the state is saved; run the same command to continue"


@pytest.mark.parametrize(
    "codes, words, told",
    [
        ([1, 1], ["ValueError: too large"] * 2, "\nerror: too large\n"),
        ([1, 1], [], 1),  # Python has told process 0's already
        ([130, 130], [SAVED, SAVED], "\nthe state is saved; run the same command to continue\n"),
        ([130, 130], ["KeyboardInterrupt: "] * 2, "\nstopped; run the same command to continue\n"),
        ([3, 130], ["", SAVED], "\nthe state is saved; run the same command to continue\n"),
        ([3, 1], [], "process 1 of 2 failed with exit code 1; nothing was written\nout of memory\n"),
        ([3, 1], ["", "MemoryError: "], "process 1 of 2 failed with exit code 1; nothing was written\nerror: MemoryError\n"),
        ([130, 1], [SAVED, "OSError: no space: /tmp"], "process 1 of 2 failed with exit code 1; nothing was written\nerror: no space: /t"),
        ([-15, 1], [], "process 1 of 2 failed"),
        ([3, -9], [], "process 1 of 2 was ended by SIGKILL"),
        ([130, -9], [SAVED], "process 1 of 2 was ended by SIGKILL"),  # process 0 was then asked to stop
        ([1, -9], [], "process 1 of 2 was ended by SIGKILL"),
        ([-6, -9], [], "process 1 of 2 was ended by SIGKILL"),
        ([-6, 0], [], "process 0 of 2 was ended by SIGABRT"),
        ([-9, 3], [], "process 0 of 2 was ended by SIGKILL"),
        ([None, 1], [], "process 1 of 2 failed with exit code 1; nothing was written\nout of memory"),  # 0 hung, and was killed
        ([None, 3], [], "process 1 of 2 failed with exit code 3"),
        ([1, None], [], 1),
        ([-15, 0], [], "process 0 of 2 was ended by SIGTERM"),
    ],
)
def test_the_first_cause_is_told_once(codes, words, told, tmp_path):
    failures = {}
    for rank, (code, said) in enumerate(itertools.zip_longest(codes, words, fillvalue="")):
        place = tmp_path / "run" / "attempt_0" / str(rank)
        place.mkdir(parents=True)
        if said:
            extra = {"py_callstack": "", "timestamp": str(int(time.time()))}
            (place / "error.json").write_text(json.dumps({"message": {"message": said, "extraInfo": extra}}))
        if code != 0:
            failures[rank] = ProcessFailure(rank, 1, -9 if code is None else code, str(place / "error.json"))
            failures[rank].timestamp += launch.GRACE_S * (code is None)
    (place / "stderr.log").write_text("out of memory\n")
    found = launch._outcome(failures, 2, tmp_path)
    assert found == told if told == 1 or told.startswith("\n") else told in found


def launched_by(launcher, monkeypatch) -> str | int:
    """What is told where torch's launcher does as `launcher(config)`."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("LT_DEBUG", "1")  # leaves this process's logging as it is
    monkeypatch.setattr("torch.distributed.launcher.elastic_launch", lambda config, *_: lambda *_: launcher(config))
    return launch._run_all(2)


def test_what_was_stopped_before_it_could_say_so_is_told(monkeypatch):
    def stopped(config):
        raise SignalException("", signal.SIGTERM)

    assert launched_by(stopped, monkeypatch) == "\nstopped; run the same command to continue\n"


def test_ctrl_c_that_was_ignored_is_ignored(monkeypatch):
    handled = []
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert launched_by(lambda config: handled.append(config.signals_to_handle), monkeypatch) == 0
    finally:
        signal.signal(signal.SIGINT, old)
    assert launched_by(lambda config: handled.append(config.signals_to_handle), monkeypatch) == 0
    assert handled == ["SIGTERM", "SIGTERM,SIGINT"]


def test_a_launcher_that_is_too_old_is_refused(monkeypatch):
    monkeypatch.setattr("torch.distributed.launcher.LaunchConfig", lambda nproc_per_node, signals_to_handle: None)
    with pytest.raises(ValueError, match="LT_NPROC: got 2, but the launcher of torch .* does not know shutdown_timeout, and may hang"):
        launch._run_all(2)


# Two processes; what they do is told by the last argument.
ROLES = """
import signal, sys, time
from lt.core import command
from lt.training import distributed, launch

def main():
    with launch.processes():
        print("process", distributed.rank(), "of", distributed.world_size(), "torch.distributed.launcher" in sys.modules)
        if distributed.rank() == 1:
            raise ValueError("no room")
        if sys.argv[1] == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        distributed.equal(0)

command.run(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize("other", ["waits", "hang"])
def test_an_error_of_one_process_ends_the_others(other, tmp_path):
    (tmp_path / "roles.py").write_text(ROLES)
    start = time.monotonic()
    done = Project(tmp_path).run("python", "roles.py", other, ok=False, LT_NPROC="2", PYTHONPATH=str(ROOT))
    assert time.monotonic() - start < 30 + launch.GRACE_S * (other == "hang")
    assert done.returncode == 1
    assert done.stdout == "process 0 of 2 False\n", "process 0 alone talks, and has not loaded the launcher"
    assert done.stderr.endswith("\nerror: process 1 of 2 failed with exit code 1; nothing was written\nerror: no room\n\n")
    assert "Traceback" not in done.stderr and "elastic" not in done.stderr


# Tells who opens which file of the project for writing, and where to find each process.
WATCH = """
import os, sys
from collections.abc import Callable
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
        before = self.saved()
        process = self._start(*stage, LT_SAVE_EVERY_S="-1")
        self.wait_for_a_save(before, process)
        return process

    def start_agents(self, **environment: str) -> list[subprocess.Popen]:
        """The base stage as two torchruns, of one process each, that stand for two machines."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        torchrun = "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint={address}"
        return [self._start(*torchrun, "-m", *BASE, **environment, LT_NPROC="") for _ in range(2)]

    def _start(self, *module: str, **changes: str) -> subprocess.Popen:
        environment = {**os.environ, **self.environment, **changes}
        environment.pop("DVC_ROOT", None)
        return subprocess.Popen(
            [sys.executable, "-m", *module], cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )

    def wait_for_a_save(self, before: list[int], *processes: subprocess.Popen) -> None:
        """Waits until a state was written after `before`; none of the processes may end before that."""
        deadline = time.monotonic() + 60
        while self.saved() == before and all(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(0.01)
        for process in processes:
            assert process.poll() is None, process.communicate()[0]

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


@pytest.mark.slow
def test_only_one_process_reports_and_writes(base):
    assert {Path(name).name for name in base} == {"manifest.json", "row.json", "weights.safetensors", "log.csv", "test_logits.npy"}


@pytest.mark.slow
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


@pytest.mark.slow
def test_processes_whose_launcher_was_killed_save_their_state_and_end(scratch, base):
    process = scratch.start(*BASE)
    ranks = [scratch.pid(rank) for rank in range(2)]
    process.kill()
    before, deadline = scratch.saved(), time.monotonic() + 30
    printed, _ = process.communicate(timeout=60)  # until the last process that may print has ended
    while any(Path("/proc", str(rank)).exists() for rank in ranks) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path("/proc", str(rank)).exists() for rank in ranks)
    assert scratch.saved() > before


@pytest.mark.slow
def test_two_machines_train_to_the_same_bytes_and_one_that_is_lost_ends_the_other(scratch, base):
    gone = "since what had started a process of it is gone; the state is saved; run the same command to continue"
    lose_each_machine_in_turn(scratch, base, lambda agent: agent.kill(), gone)
    assert not scratch.saved()


@pytest.mark.slow
def test_a_machine_that_is_gone_with_all_its_processes_ends_the_other_and_the_run_goes_on(scratch, base):
    def lose(agent: subprocess.Popen) -> None:
        trainers = {parent_of(scratch.pid(rank)): scratch.pid(rank) for rank in range(2)}
        os.kill(trainers[agent.pid], signal.SIGKILL)
        agent.kill()

    lose_each_machine_in_turn(scratch, base, lose, "process [01] has lost another one")


def lose_each_machine_in_turn(scratch, base: dict[str, bytes], lose: Callable[[subprocess.Popen], None], told: str) -> None:
    """Lose the first of two machines, then the second, each in mid-training; both together then go on to the bytes of `base`."""
    for lost in range(2):
        before = scratch.saved()
        agents = scratch.start_agents(LT_SAVE_EVERY_S="-1")
        scratch.wait_for_a_save(before, *agents)
        lose(agents[lost])
        printed, _ = agents[1 - lost].communicate(timeout=60)
        agents[lost].communicate(timeout=60)
        assert agents[1 - lost].returncode == 1
        assert re.search(told, printed), printed
        assert scratch.artifact("base") == base, "what was written before is kept"
    (scratch.folder / "artifacts/base/0/test_logits.npy").unlink()
    agents = scratch.start_agents()
    printed = [agent.communicate(timeout=120)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], printed
    assert all("continues in epoch" in text for text in printed)
    assert scratch.artifact("base") == base


def parent_of(process: int) -> int:
    """Whose child a process is, by Linux's own account."""
    return int(Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
def test_an_error_that_all_have_is_told_once(scratch, base):
    Project(scratch.folder).set({"train.lr": 1.0e30})
    done = scratch.run(*BASE, ok=False)
    Project(scratch.folder).set({"train.lr": 0.1})
    assert done.returncode == 1
    assert done.stderr.count("error: base, seed 0: the loss is nan in batch") == 1 and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_method_that_trains_the_backbone_runs_in_several_processes_and_others_do_not(scratch, base, stages_in, monkeypatch):
    stages_in({}, "features --seed 0")
    done = scratch.run("stages.retrain", "dro_lt", "--seed", "0")
    assert "DRO-LT, seed 0: 342 images" in done.stdout and "2 processes" in done.stdout
    written = {Path(name).name for name in scratch.artifact("retrain/dro_lt")}
    assert {"backbone.safetensors", "backbone_log.csv", "eps.npy"} <= written
    assert not scratch.written(1)
    monkeypatch.setenv("LT_NPROC", "2")
    monkeypatch.setattr(launch, "_run_all", lambda count: pytest.fail("started processes"))
    stages_in({}, "retrain pc --seed 0")


@pytest.mark.parametrize("name", ["WORLD_SIZE", "LOCAL_RANK"])
def test_numbers_of_torchrun_that_are_none_are_named(name, monkeypatch):
    from lt.input.device import local_rank

    monkeypatch.setenv(name, "abc")
    with pytest.raises(ValueError, match=f"{name}: got 'abc', expected a number of"):
        local_rank()
        with launch.processes():
            pass
