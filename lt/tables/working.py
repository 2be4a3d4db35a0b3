"""Working in a run folder: the code as it was when the command began, one command at a time, one stage after another."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Iterator

import yaml

from lt.core import artifacts
from lt.core.command import COST
from lt.report.words import in_words
from lt.tables.graph import Stage
from lt.tables.runs import TRAINING, Run

CODE = ("lt", "stages")
LOGS = ".log"
SHOWN = 3
STOPPED = "stopped; give the same command again to continue"


class RunError(RuntimeError):
    """A run folder that is in use, has stages that are out of date, or in which a stage failed."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[IO]:
    """Holds a folder for this command, and the stages that it starts, also where the command itself is killed.

    Raises RunError where another one holds it. Yields the lock's file, to be inherited. Without effect on Windows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ModuleNotFoundError:
            pass
        except BlockingIOError:
            raise RunError(f"{folder} is in use by another command, or by a stage that it left: wait for it, or end it") from None
        yield file


def prepare(run: Run, lock: IO) -> None:
    """Makes the run's folder ready: a copy of the project's code, its hashes, and the project's data.

    Stages run from the copy, so that an edit in the middle of a long run does not reach a part of it.
    """
    if not (run.folder / "params.yaml").is_file():
        for other, keys in run.others().items():
            print(f"{run.folder} is new: {other} has another {', '.join(keys)}, and is left as it is")
    for name in CODE:
        shutil.rmtree(run.folder / name, ignore_errors=True)
        shutil.copytree(name, run.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    data = run.folder / "data"
    if data.is_symlink():
        data.unlink()
    data.symlink_to(Path("data").resolve(), target_is_directory=True)
    call(run, ("code",), lock)


def write_params(run: Run, seeds: list[int]) -> None:
    """Writes the run's params.yaml."""
    text = yaml.safe_dump(run.content | {"seeds": seeds}, sort_keys=False)
    artifacts.write_text(run.folder / "params.yaml", f"# Written by python -m stages.table: {run.name}\n{text}")


def out_of_date(run: Run, plan: list[Stage]) -> list[str]:
    """The trainings of a plan that are out of date, one line each: what they took, and what has changed since."""
    lines = []
    for stage in plan:
        changed = run.changed(plan, stage) or {}
        if any(changed.values()) and stage.command[0] in TRAINING:
            names = [name for kind in changed.values() for name in kind]
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            took = in_words(run.note(stage)["seconds"])
            lines.append(f"{run.folder}: {' '.join(stage.command)} ({took}), changed since: {', '.join(names[:SHOWN])}{more}")
    return lines


def refuse_stale(plans: list[tuple[Run, list[Stage]]]) -> None:
    """Raises RunError where trainings are out of date: they are run again, or kept, only where that is asked for."""
    lines = [line for run, plan in plans for line in out_of_date(run, plan)]
    if lines:
        raise RunError(
            "trainings that are out of date; nothing was run:\n  " + "\n  ".join(lines)
            + "\nAdd --stale again to run them again, or --stale keep to keep those of which only the code has changed, which "
            "the table then says; or undo the change."
        )


def execute(run: Run, plan: list[Stage], keep: bool, commit: str, lock: IO) -> None:
    """Runs what is due of a plan, one line per stage. RunError where a stage fails, whose own message stands above it."""
    number = 0
    while todo := run.due(plan, keep):
        stage, number = todo[0], number + 1
        label = f"{run.name} [{number}/{number + len(todo) - 1}] {' '.join(stage.command)}"
        print(f"{label} ...", end="", flush=True)
        depends_on = run.depends_on(plan, stage)
        cost = run.folder / COST / f"{stage.name}.json"
        cost.unlink(missing_ok=True)
        start = time.monotonic()
        stopped = call(run, stage.command, lock)
        seconds = time.monotonic() - start
        noted = artifacts.read_json(cost) if cost.is_file() else {}
        run.write_note(stage, {"seconds": round(seconds, 1), **noted, **depends_on, "commit": commit})
        # On a terminal, a training's progress bar has been written over the label.
        print(f"\r{label} ... {in_words(seconds)}" if sys.stdout.isatty() else f" {in_words(seconds)}", flush=True)
        if stopped:
            raise KeyboardInterrupt(STOPPED)


def call(run: Run, command: tuple[str, ...], lock: IO) -> bool:
    """Runs one stage script in the run's folder; what it prints goes to .log/, its errors and progress bars where ours go.

    Ctrl-C reaches the stage by itself, SIGTERM is handed on, and the stage saves its state. Returns whether there was one of
    them although the stage came to its end. Raises KeyboardInterrupt where it did not, RunError where the stage failed.
    """
    folder = run.folder
    script, *arguments = command
    env = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder.resolve()), env.get("PYTHONPATH")]))
    (folder / LOGS).mkdir(exist_ok=True)
    stopped = False
    inherited = {"pass_fds": [lock.fileno()]} if os.name == "posix" else {}
    name = "_".join(part.lstrip("-") for part in command)
    with open(folder / LOGS / f"{name}.txt", "w", encoding="utf-8") as log:
        stage = subprocess.Popen(
            [sys.executable, "-m", f"stages.{script}", *arguments], cwd=folder, env=env, stdout=log, **inherited
        )

        def hand_on(*_) -> None:
            nonlocal stopped
            stopped = True
            stage.terminate()

        before = signal.signal(signal.SIGTERM, hand_on)
        while (code := stage.poll()) is None:
            try:
                stage.wait()
            except KeyboardInterrupt:
                stopped = True
        signal.signal(signal.SIGTERM, before)
    if code and stopped:
        raise KeyboardInterrupt(STOPPED)
    if code:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else "failed, see above"
        raise RunError(f"{folder}: {' '.join(command)} {how}; mend it, and give the same command again to continue")
    return stopped


def commit() -> str:
    """The project's commit in 12 digits, and whether its code differs from it; 'unknown' without git."""
    try:
        last = _git("rev-parse", "--short=12", "HEAD")
        return f"{last} with changes" if _git("status", "--porcelain", "--", *CODE, "dvc.yaml") else last
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
