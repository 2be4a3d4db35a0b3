"""A job of a table where it runs: on a worker of a cluster, as a `dvc repro` in a workspace of its own, in a process of its own.

The worker gives the process its job, in JSON, on standard input, which stays open: when it closes, because the worker has died or
the job is not wanted any more, the process ends like a command that got SIGTERM, and its training's state is saved.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, Any, Mapping

from lt.published import likeness, lock, notes, workspace
from lt.published.engine import STOPPED, TOLD_LINES, EngineError, dvc
from lt.published.hold import InUse, held
from lt.published.workspace import RUNS, Workspace

# What a killed job may have left that the next one goes on from; all else in its workspace DVC has in its cache.
KEPT = (".resume", ".cost", ".log", ".lock")
# Before a line that is a message to the worker; others are what a process says before it fails.
MESSAGE = "\x1e"
LOOK_S = 0.5


def describe(dataset: str, dask_worker: Any) -> dict[str, Any]:
    """What a worker is like, for the command to compare: see lt/published/likeness.py."""
    where = f"worker {dask_worker.name} on {socket.gethostname()}, in {Path.cwd()},"
    gpus = dask_worker.state.total_resources.get("GPU", 0)
    return {"versions": likeness.versions(), "code": likeness.digest(Path(), dataset), "gpus": gpus, "where": where}


def run(job: dict[str, Any], before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Does a job, as the worker's task; returns its outcome: see `perform`.

    job: JSON values, of Job and Crew    before: outcome of the job of the same base that came first
    """
    base = f"base@{job['seed']}"
    if before and base in before["failed"]:
        return {"made": [], "failed": {base: f"  it failed for {before['job']}, which has the same base"}, "notes": {}, "job": job["name"]}

    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def tell(what: str, **more: Any) -> None:
        worker.log_event(job["topic"], {"job": job["name"], "what": what, "worker": worker.address} | more)

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state == "executing"

    tell("began")
    command = [sys.executable, "-c", "from lt.published.task import main; main()"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        env=_environment(job, worker), start_new_session=True,
    ) as process:  # fmt: skip
        _close_when_unwanted(process.stdin, is_wanted)
        with contextlib.suppress(OSError, ValueError):  # of a process that has died already, which is told below
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
        said, outcome = deque(maxlen=TOLD_LINES), None
        for line in process.stdout:
            message = json.loads(line[1:]) if line.startswith(MESSAGE) else {}
            outcome = message.get("outcome", outcome)
            if "told" in message:
                tell("told", line=message["told"])
            elif not message:
                said.append(line.rstrip())
    if outcome is None:
        raise EngineError("\n  ".join([f"its process ended with status {process.returncode}", *said]))
    return outcome


def _environment(job: dict[str, Any], worker: Any) -> dict[str, str]:
    """The command's LT_* variables and number of threads; else as many threads as the worker has CPUs for each of its tasks."""
    from dask.system import CPU_COUNT

    found = os.environ | {"OMP_NUM_THREADS": str(max(1, CPU_COUNT // worker.state.nthreads))} | job["environment"]
    for name in ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # dask sets them to 1
        found.pop(name, None)
    if job["devices"]:
        found["CUDA_VISIBLE_DEVICES"] = job["devices"][int(worker.name) % len(job["devices"])]
    return found


def _close_when_unwanted(stdin: IO[str], is_wanted) -> None:
    """Closes a process's input as soon as its task is cancelled."""

    def watch() -> None:
        while is_wanted():
            time.sleep(LOOK_S)
        with contextlib.suppress(OSError, ValueError):
            stdin.close()

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """The process: reads its job, does it, and says what came of it."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_with, args=[sys.stdin], daemon=True).start()
    try:
        outcome = perform(job)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except (ValueError, OSError, RuntimeError) as error:
        outcome = {"made": [], "failed": {"": f"  {str(error) or type(error).__name__}"}, "notes": {}}
    say(outcome=outcome | {"job": job["name"]})


def _stop_with(lifeline: IO[str]) -> None:
    """Ends this process as SIGTERM does when nobody holds the other end any more."""
    lifeline.read()
    os.kill(os.getpid(), signal.SIGTERM)


def say(**message: Any) -> None:
    """A message to the worker, if it is still there."""
    with contextlib.suppress(OSError):
        print(MESSAGE + json.dumps(message), flush=True)


def perform(job: dict[str, Any]) -> dict[str, Any]:
    """Fills the cache with what a job trains, and where the command does not see this cache, the remote.

    Returns made: the stages that are done    failed: stage -> its last lines, under "" where it is none
    notes: key -> what a stage took, see lt/published/notes.py
    """
    where = f"{socket.gethostname()}, {Path.cwd()},"
    likeness.check_versions(job["versions"], likeness.versions(), where)
    space = Workspace(job["name"], job["content"])
    with contextlib.ExitStack() as stack:
        hold = _held(space, stack)
        _clear(space.folder)
        workspace.prepare(space, [job["seed"]], _source(job, where), job["commit"])
        shared = (space.folder / notes.NOTES / job["mark"]).exists()
        if not shared and not workspace.has_remote(space.folder):
            raise EngineError(
                f"{where} has a cache of its own, and the project has no DVC remote through which its trainings would come back: "
                "let both use one cache on a shared file system (`dvc cache dir`), or add a remote (`dvc remote add -d`)"
            )
        failed: dict[str, str] = {}
        try:
            workspace.make(space, ["--keep-going", *job["stages"]], hold, lambda told: say(told=told))
        except EngineError as error:
            failed |= error.failed or {"": str(error)}
        made = lock.read(space.folder)
        if not shared:
            dvc(space.folder, "push", "--run-cache")
        noted = {lock.key(entry): notes.read(space.folder, entry) for entry in made.values()}
        if not failed:
            shutil.rmtree(space.folder, ignore_errors=True)
    return {"made": list(made), "failed": failed, "notes": {key: note for key, note in noted.items() if note}}


def _held(space: Workspace, stack: contextlib.ExitStack) -> IO:
    """Holds a job's workspace, once what a worker that has died left at work there has ended."""
    told = False
    while True:
        try:
            return stack.enter_context(held(space.folder))
        except InUse:
            if not told:
                say(told="waits for what an earlier worker has left at work here")
            told = True
            time.sleep(1)


def _clear(folder: Path) -> None:
    """Removes what an earlier job has left, which a kill may have cut short, but for KEPT."""
    for path in folder.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _source(job: Mapping[str, Any], where: str) -> Path:
    """Where this machine has the command's code: the table's own workspace, which keeps what an edit has changed since, or the project."""
    dataset = job["content"]["dataset"]
    for place in (RUNS / job["table"], Path()):
        if likeness.digest(place, dataset) == job["code"]:
            return place
    raise likeness.other_code(where, dataset)
