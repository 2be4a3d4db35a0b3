"""Tables on clusters that are real: dask's own on this machine, a SLURM of one machine, and a server that speaks S3.

What is not installed is skipped, with what to install: pip install -e '.[test,test_engines,cluster,s3]', and, as root,
apt-get install slurm-wlm munge.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
import pytest
import yaml

from lt.core.yaml_file import read_yaml
from lt.published import lock
from lt.published.engine import dvc
from lt.published.workspace import Workspace, prepare
from tests.conftest import ROOT
from tests.published.desk import TINY, Desk

pytestmark = [pytest.mark.slow, pytest.mark.pipeline]
needs_dask = pytest.mark.skipif(find_spec("distributed") is None, reason="pip install -e '.[cluster]'")
LIMIT_S = 1200
SLURM = Path(__file__).parent / "slurm.sh"
OPTIONS = {
    "n_workers": 2, "cores": 1, "memory": "1GB", "job_directives_skip": ["--mem"], "walltime": "01:00:00", "security": True,
    "scheduler_options": {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"},
}  # fmt: skip


def new_desk(folder: Path, monkeypatch, real: bool = False) -> Desk:
    """A base and one method; with real stages the base trains long enough to be killed."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("LT_SAVE_EVERY_S", "0")
    desk = Desk(folder, monkeypatch)
    overrides = TINY["overrides"] | {"methods": {"crt": {"steps": 20}}, "teachers": {}}
    if real:
        shutil.rmtree(desk.folder / "stages")
        shutil.copytree(ROOT / "stages", desk.folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "data/digits.json", desk.folder / "data/digits.json")
        overrides |= {"train": {"epochs": 40, "warmup_epochs": 0, "schedule": "step"}}
    desk.recipe(TINY | {"overrides": overrides})
    return desk


@pytest.fixture
def make_desk(tmp_path_factory, monkeypatch):
    """make_desk(real): a desk of its own, in which this process then is."""
    return lambda real=False: new_desk(tmp_path_factory.mktemp("desk"), monkeypatch, real)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """What the table of real stages is without a cluster."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        desk = new_desk(tmp_path_factory.mktemp("desk"), monkeypatch, real=True)
        desk.table("tiny_a", "--seeds", "0", "1")
        return made_by(desk)


def made_by(desk: Desk) -> dict:
    """Everything that a table's numbers are made of, by its bytes, and what DVC knows of it."""
    space = desk.folder / "runs/tiny_a"
    files = [path for name in ("artifacts", "results") for path in (space / name).rglob("*") if path.is_file()]
    hashes = {str(path.relative_to(space)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert any("retrain/crt/1" in name for name in hashes) and "artifacts/evaluate/base/0/measured.json" in hashes
    rows = {row: [content["mean"], content["sd"]] for row, content in desk.rows().items()}
    return {"bytes": hashes, "lock": lock.read(space), "rows": rows}


def told(desk: Desk) -> str:
    return (desk.folder / "told").read_text()


def wait_until(condition, process: subprocess.Popen, desk: Desk):
    """The first true value of a condition, while the command is at work."""
    end = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert process.poll() is None and time.monotonic() < end, told(desk)
        time.sleep(0.1)
    return found


def saved(desk: Desk) -> list[Path]:
    return list(desk.folder.glob("runs/tiny_a@*/.resume/*.pt"))


def task_in(folder: Path) -> psutil.Process:
    """The process of a job, of which DVC is at work in this folder."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()) == folder:
                for parent in process.parents():
                    if "lt.published.task" in " ".join(parent.cmdline()):
                        return parent
    raise AssertionError(f"nothing is at work in {folder}")


@needs_dask
def test_a_worker_that_is_killed_changes_nothing(make_desk, plain):
    desk = make_desk(real=True)
    command = desk.start("tiny_a", "--seeds", "0", "1", "--cluster", "local:2")
    state = wait_until(lambda: saved(desk), command, desk)[0]
    worker = task_in(state.parent.parent).parent()
    worker.send_signal(signal.SIGKILL)
    assert command.wait(LIMIT_S) == 0, told(desk)
    job = state.parent.parent.name
    assert f"{job}: its worker" in told(desk) and "is gone, another one takes it up" in told(desk)
    assert f"{job}: base, seed {job[-1]}: continues in epoch" in told(desk)
    assert "2 trainings on the cluster; dashboard: http://127.0.0.1:" in told(desk)
    assert made_by(desk) == plain
    assert [path.name for path in (desk.folder / "runs").iterdir()] == ["tiny_a"], "what is in the cache needs no second place"
    # The same command has nothing to do, and starts no cluster.
    again = desk.start("tiny_a", "--seeds", "0", "1", "--cluster", "local:2")
    assert again.wait(LIMIT_S) == 0 and "on the cluster" not in told(desk) and made_by(desk) == plain


@needs_dask
def test_a_training_that_fails_leaves_the_others_and_a_base_is_trained_once(make_desk):
    desk = make_desk()
    (desk.folder / "fail").write_text("retrain crt --seed 1")
    arguments = ["tiny", "--seeds", "0", "1", "--cluster", "local:2"]
    assert desk.start(*arguments).wait(LIMIT_S) == 1
    assert "tiny_a@1: retrain@crt-1 failed; its last lines:\n" in told(desk) and "the raw data are missing" in told(desk)
    assert "error: tiny_a@1: retrain@crt-1 failed" in told(desk) and "mend it, and give the same command again" in told(desk)
    rows = desk.json("tiny")["recipes"]["tiny_a"]["rows"]
    assert (rows["base"]["seeds"], rows["crt"]["seeds"]) == ([0, 1], [0])
    assert desk.json("tiny")["recipes"]["tiny_b"]["rows"]["ncm"]["seeds"] == [0, 1]
    ran = desk.ran()
    shared = [f"{stage} --seed {seed}" for stage in ("base", "features") for seed in (0, 1)] + ["subsample"]
    assert {name: ran.count(name) for name in shared} == dict.fromkeys(shared, 1)
    assert (desk.folder / "runs/tiny_a@1/.log/repro.txt").is_file() and not (desk.folder / "runs/tiny_a@0").exists()
    (desk.folder / "fail").unlink()
    (desk.folder / "ran").unlink()
    assert desk.start(*arguments).wait(LIMIT_S) == 0, told(desk)
    assert set(desk.ran()) == {"retrain crt --seed 1", "evaluate crt --seed 1"} and desk.json("tiny")["recipes"]["tiny_a"]["seconds"]["base"] == {
        "--seed 0": 1.5, "--seed 1": 1.5
    }


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def dask(command: str, *arguments: str, folder: Path):
    """A process of dask's own, as on another machine; killed in the end."""
    with open(folder / f"{command}.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{command}", *arguments, "--dashboard-address", "127.0.0.1:0"],
            cwd=folder, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": str(folder)},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@needs_dask
def test_a_worker_with_a_cache_of_its_own_works_through_the_remote(make_desk, tmp_path_factory, monkeypatch):
    desk, other = make_desk(), make_desk()
    monkeypatch.chdir(desk.folder)
    port = str(free_port())
    arguments = ["tiny_a", "--cluster", f"tcp://127.0.0.1:{port}"]
    worker = [f"tcp://127.0.0.1:{port}", "--nthreads", "1"]
    assert desk.start(*arguments).wait(LIMIT_S) == 1 and "no scheduler answers at tcp://" in told(desk)
    with dask("scheduler", "--host", "127.0.0.1", "--port", port, folder=other.folder), dask("worker", *worker, folder=other.folder):
        assert desk.start(*arguments).wait(LIMIT_S) == 1
        assert "has a cache of its own, and the project has no DVC remote" in told(desk)
        store = tmp_path_factory.mktemp("store")
        for place in (desk, other):
            dvc(place.folder, "remote", "add", "--quiet", "--default", "store", str(store))
        assert desk.start(*arguments).wait(LIMIT_S) == 0, told(desk)
        assert "base --seed 0" in other.ran() and {line.split()[0] for line in desk.ran()} == {"subsample", "evaluate"}, "nothing is trained here"
        assert desk.json()["recipes"]["tiny_a"]["seconds"]["base"] == {"--seed 0": 1.5} and desk.rows()["crt"]["status"] == "done"
        other.edit("lt/losses/ce.py")
        assert desk.start("tiny_a", "--seeds", "0", "1", *arguments[1:]).wait(LIMIT_S) == 1
        assert "has other code than the command" in told(desk) and str(other.folder) in told(desk)


@needs_dask
def test_a_scheduler_that_is_killed_and_a_command_that_is_stopped_leave_nothing_at_work(make_desk):
    desk = make_desk()
    (desk.folder / "hold").write_text("base --seed 0")
    port = str(free_port())
    with dask("scheduler", "--host", "127.0.0.1", "--port", port, folder=desk.folder) as scheduler:
        with dask("worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1", folder=desk.folder):
            command = desk.start("tiny_a", "--rows", "base", "--cluster", f"tcp://127.0.0.1:{port}")
            stage = stage_at_work(desk, command)
            scheduler.kill()
            assert command.wait(LIMIT_S) == 1
            assert told(desk).strip().splitlines()[-1] == "error: the scheduler is gone; give the same command again to continue, once there is one"
    psutil.wait_procs([stage], timeout=60)
    assert not stage.is_running(), "its worker has ended"
    for number in (signal.SIGINT, signal.SIGTERM):
        command = desk.start("tiny_a", "--rows", "base", "--cluster", "local:1")
        stage = stage_at_work(desk, command)
        command.send_signal(number)
        assert command.wait(LIMIT_S) == 1 and "stopped; give the same command again to continue" in told(desk)
        psutil.wait_procs([stage], timeout=60)
        assert not stage.is_running()
    (desk.folder / "hold").unlink()
    assert desk.start("tiny_a", "--rows", "base", "--cluster", "local:1").wait(LIMIT_S) == 0, told(desk)


def stage_at_work(desk: Desk, command: subprocess.Popen) -> psutil.Process:
    """The process of the stage that waits, as it was told to."""
    wait_until((desk.folder / "held").is_file, command, desk)
    found = psutil.Process(int((desk.folder / "held").read_text()))
    (desk.folder / "held").unlink()
    return found


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A SLURM of this machine."""
    missing = [name for name in ("slurmctld", "slurmd", "munged", "scancel") if shutil.which(name) is None]
    if missing or os.geteuid():
        pytest.skip("as root: apt-get install slurm-wlm munge")
    pytest.importorskip("dask_jobqueue", reason="pip install -e '.[cluster]'")
    monkeypatch.setenv("SLURM_PORT", str(free_port()))
    monkeypatch.setenv("SLURMD_PORT", str(free_port()))
    folder = tmp_path / "slurm"
    subprocess.run([SLURM, "start", folder], check=True)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    yield
    subprocess.run([SLURM, "stop", folder], check=True)


def slurm_jobs() -> list[str]:
    return subprocess.run(["squeue", "--noheader", "--format=%i", "--states=RUNNING"], capture_output=True, text=True, check=True).stdout.split()


def test_a_slurm_job_that_is_killed_is_replaced_and_changes_nothing(make_desk, plain, slurm, tmp_path):
    desk = make_desk(real=True)
    (tmp_path / "options.yaml").write_text(yaml.safe_dump(OPTIONS | {"shared_temp_directory": str(tmp_path)}))
    command = desk.start("tiny_a", "--seeds", "0", "1", "--cluster", f"slurm:{tmp_path / 'options.yaml'}")
    state = wait_until(lambda: saved(desk), command, desk)[0]
    environment = task_in(state.parent.parent).environ()
    first = slurm_jobs()
    subprocess.run(["scancel", "--signal=KILL", environment["SLURM_JOB_ID"]], check=True)
    assert command.wait(LIMIT_S) == 0, told(desk)
    assert "is gone, another one takes it up" in told(desk) and f"{state.parent.parent.name}: base, seed" in told(desk)
    assert environment["SLURM_JOB_ID"] in first and made_by(desk) == plain
    assert list((desk.folder / "runs/.log").glob("dask-worker-*.err"))


@pytest.fixture
def s3(monkeypatch):
    """The address of a server that speaks S3, on this machine, with a bucket longtail; and the server."""
    pytest.importorskip("dvc_s3", reason="pip install -e '.[s3]'")
    servers = pytest.importorskip("moto.server", reason="pip install -e '.[test_engines]'")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = servers.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    urlopen(Request(f"http://{host}:{port}/longtail", method="PUT")).close()
    yield f"http://{host}:{port}", server
    server.stop()


def test_what_one_clone_has_pushed_to_s3_another_restores(make_desk, s3, monkeypatch):
    address, server = s3
    first, second = make_desk(), make_desk()
    for place in (first, second):
        dvc(place.folder, "remote", "add", "--quiet", "--default", "store", "s3://longtail/store")
        dvc(place.folder, "remote", "modify", "--quiet", "store", "endpointurl", address)
    monkeypatch.chdir(first.folder)
    assert first.start("tiny_a").wait(LIMIT_S) == 0 and "base --seed 0" in first.ran(), told(first)
    dvc(Path("runs/tiny_a"), "push", "--quiet", "--run-cache")
    space = Workspace("tiny_a", read_yaml(Path("runs/tiny_a/params.yaml")))
    committed = Path("runs/tiny_a/dvc.lock").read_bytes()
    monkeypatch.chdir(second.folder)
    prepare(space, [0])
    (space.folder / "dvc.lock").write_bytes(committed)
    dvc(space.folder, "pull", "--quiet", "--run-cache", "subsample", *space.trainings(space.rows(), 0).values(), "features@0")
    server.stop()
    dvc(second.folder, "remote", "remove", "store")
    assert second.start("tiny_a").wait(LIMIT_S) == 0, told(second)
    assert set(second.ran()) == {"evaluate base --seed 0", "evaluate crt --seed 0"} and second.rows()["crt"]["status"] == "done"
