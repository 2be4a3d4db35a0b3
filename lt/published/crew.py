"""A table's jobs on a cluster: handed out, followed in the terminal, and their outcomes as they come."""

import contextlib
import os
import time
import uuid
from pathlib import Path
from typing import Any, Iterator

from lt.published import cluster, likeness, notes, task, workspace
from lt.published.engine import STOPPED, EngineError, stops
from lt.published.jobs import Job
from lt.published.progress import Progress

# Seconds between two looks at the jobs, and at the workers.
LOOK_S, WORKERS_S = 0.2, 5.0
# Variables that a training reads; those of this command hold for all.
VARIABLES, THREADS = "LT_", "OMP_NUM_THREADS"


def outcomes(where: str, jobs: list[Job]) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Runs jobs on the cluster that --cluster names; yields each with its outcome (lt/published/task.py) as soon as it has ended.

    jobs: at least one, whose tables' workspaces are prepared. EngineError where the cluster is lost or a worker is not like this
    command; KeyboardInterrupt on a stop signal: what is at work is then told to save its state.
    """
    with stops(_stop), cluster.connected(where) as crew, _marked(jobs[0].space.folder) as mark:
        progress = Progress([job.name for job in jobs], crew.client.dashboard_link)
        topic = f"table-{uuid.uuid4()}"
        crew.client.subscribe_topic(topic, lambda event: progress.note(event[1]))
        while not crew.client.nthreads():  # workers that come later are given work as they come
            progress.lack_workers()
            time.sleep(LOOK_S)
        has_gpus = cluster.check_workers(crew, jobs[0].space.content["dataset"])
        common = {"topic": topic, "mark": mark, **_of_this_command(crew, where)}
        futures: dict[str, Any] = {}
        for job in jobs:
            futures[job.name] = crew.client.submit(
                task.run, _as_json(job) | common, *([futures[job.after]] if job.after else []), key=f"{job.name}-{topic}", pure=False,
                resources={"GPU": 1} if has_gpus else {},
            )  # fmt: skip
        try:
            yield from _follow(crew, jobs, futures, progress)
        finally:
            with contextlib.suppress(Exception):  # of a cluster that is gone
                crew.client.cancel([*futures.values()], force=True)


def _follow(crew: cluster.Crew, jobs: list[Job], futures: dict[str, Any], progress: Progress) -> Iterator[tuple[Job, dict[str, Any]]]:
    waiting, looked_s = list(jobs), time.monotonic()
    while waiting:
        for job in [job for job in waiting if futures[job.name].status != "pending"]:
            outcome = _outcome(job, futures[job.name])
            waiting.remove(job)
            progress.end(job.name, bool(outcome["failed"]))
            for key, note in outcome["notes"].items():
                notes.write(job.space.folder, key, note)
            yield job, outcome
        if time.monotonic() - looked_s > WORKERS_S:
            with contextlib.suppress(OSError, RuntimeError):  # a scheduler that is gone cancels its futures
                progress.look(set(crew.client.nthreads()))
                crew.replace()
            looked_s = time.monotonic()
        time.sleep(LOOK_S)


def _outcome(job: Job, future: Any) -> dict[str, Any]:
    """What came of a job; EngineError where the scheduler is gone."""
    if future.status == "finished":
        return future.result()
    if future.status != "error":
        raise EngineError("the scheduler is gone; give the same command again to continue, once there is one")
    error = future.exception()
    return {"job": job.name, "made": [], "notes": {}, "failed": {"": f"  {error or type(error).__name__}"}}


def _as_json(job: Job) -> dict[str, Any]:
    """What a worker needs of a job."""
    content = job.space.content
    code = likeness.digest(job.space.folder, content["dataset"])
    stages = list(dict.fromkeys(job.trained.values()))
    return {"name": job.name, "table": job.space.name, "seed": job.seed, "content": content, "stages": stages, "code": code}


def _of_this_command(crew: cluster.Crew, where: str) -> dict[str, Any]:
    """What all jobs have in common."""
    found = {key: value for key, value in os.environ.items() if key.startswith(VARIABLES) or key == THREADS}
    if where.startswith("local:") and THREADS not in found:
        found[THREADS] = str(max(1, (os.cpu_count() or 1) // int(where.partition(":")[2])))
    return {"environment": found, "devices": crew.devices, "versions": likeness.versions(), "commit": workspace.commit()}


@contextlib.contextmanager
def _marked(folder: Path) -> Iterator[str]:
    """The name of a file beside this cache's notes, by which a worker sees whether it has the same cache."""
    path = folder / notes.NOTES / f"command-{uuid.uuid4()}"
    path.touch()
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)


def _stop(number: int, frame: Any) -> None:
    """Ends this command as Ctrl-C does."""
    raise KeyboardInterrupt(STOPPED)
