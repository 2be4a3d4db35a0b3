"""DVC at work in a folder: its commands, each stage that it runs told in a line, and a stop that lets a stage save its state."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, Callable, Iterator

import psutil

from lt.report.words import in_words

LOG = ".log"
STOPPED = "stopped; give the same command again to continue"
TOLD_LINES = 15
RUNNING, RESTORED = "Running stage '", " is cached - skipping run"
# What a training says that goes on from a saved state.
CONTINUES = ": continues in epoch "
# What DVC says of a stage that it goes on without, and in the end of all that have failed.
FAILED = ("WARNING: failed to ", "WARNING: [Errno", "ERROR: failed to reproduce")


class EngineError(RuntimeError):
    """A command of DVC, or a stage, that failed. failed: stage -> its last lines, where stages have"""

    def __init__(self, told: str, failed: dict[str, str] | None = None):
        super().__init__(told)
        self.failed = failed or {}


def dvc(folder: Path, *arguments: str) -> str:
    """What a command of DVC prints; EngineError with its words where it fails."""
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise EngineError(f"{folder}: `dvc {' '.join(arguments)}` failed:\n{_last(done.stderr.splitlines())}")
    return done.stdout


def repro(folder: Path, *arguments: str, show: Callable[[str], None] = print, hold: IO | None = None) -> None:
    """`dvc repro` with these arguments. show: told of every stage that ran, and of those restored from the cache

    All that DVC and the stages print is in <folder>/.log; on a terminal, errors and progress bars come here as well.
    hold: a lock's file, which DVC inherits.

    Ctrl-C and SIGTERM are handed to the stage as SIGTERM, which saves its state; DVC then ends by itself, and a KeyboardInterrupt
    follows. A stage that ends well in spite of it is still recorded. EngineError with the last lines of each stage that failed,
    of which there may be several with --keep-going.
    """
    (folder / LOG).mkdir(exist_ok=True)
    path = folder / LOG / "repro.txt"
    asked: list[int] = []
    with open(path, "w", encoding="utf-8") as log, stops(lambda number, frame: asked.append(number)):
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", *arguments], cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=None if sys.stderr.isatty() else subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True, pass_fds=[hold.fileno()] if hold and os.name == "posix" else (),
        )  # fmt: skip
        told = _Told(process.stdout, log, show)
        handed_on: dict[int, int] = {}
        while process.poll() is None:
            _hand_on(process.pid, len(asked), handed_on)
            time.sleep(0.1)
        told.join()  # a stage may outlive DVC by the time that it takes to save
    if asked:
        raise KeyboardInterrupt(STOPPED)
    if process.returncode:
        failed = {stage: _last(lines) for stage, lines in told.failed.items()} or {told.stage or "dvc repro": _last(told.lines)}
        raise EngineError("\n".join(f"{folder}: {stage} failed; the last lines of {path}:\n{last}" for stage, last in failed.items()), failed)
    told.finish()


def environment(folder: Path) -> dict[str, str]:
    """This process's, for a stage of the project in `folder`, whatever stage of another project this process may be."""
    env = {key: value for key, value in os.environ.items() if key not in ("DVC_ROOT", "DVC_STAGE")}
    before = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(folder.resolve())}
    joined = {name: os.pathsep.join(filter(None, [first, env.get(name)])) for name, first in before.items()}
    return env | joined | {"PYTHONUNBUFFERED": "1"}


class _Told(threading.Thread):
    """Reads what DVC prints until nobody holds its output; knows the stage at work, the lines since it began, and which stages failed."""

    def __init__(self, output: IO[str], log: IO[str], show: Callable[[str], None]):
        super().__init__(daemon=True)
        self.stage, self.lines, self.failed, self._began = "", [], {}, 0.0
        self._output, self._log, self._show = output, log, show
        self.start()

    def run(self) -> None:
        with self._output:
            for line in self._output:
                self._log.write(line)
                self._log.flush()
                if line.startswith((RUNNING, "Stage '")):
                    self.finish()
                if line.startswith(RUNNING):
                    self.stage, self.lines, self._began = _name(line), [], time.monotonic()
                elif RESTORED in line:
                    self._show(f"{_name(line)} restored")
                elif CONTINUES in line:
                    self._show(line.strip())
                self.lines.append(line.rstrip())
                if self.stage and line.startswith(FAILED):
                    self.failed[self.stage], self.stage = self.lines, ""

    def finish(self) -> None:
        """The stage at work has ended well."""
        if self.stage:
            self._show(f"{self.stage} {in_words(time.monotonic() - self._began)}")
        self.stage, self.lines = "", []


@contextlib.contextmanager
def stops(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Hands Ctrl-C, SIGTERM and the closing of the terminal to a handler, where they are not ignored already."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: former for number, former in before.items() if former is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _hand_on(pid: int, times: int, handed_on: dict[int, int]) -> None:
    """Ends the processes of DVC's stages that have not been told as often as this one; DVC is left to record what is done."""
    if not times:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            if handed_on.get(process.pid, 0) < times:
                handed_on[process.pid] = times
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.terminate()


def _name(line: str) -> str:
    """The stage in a line of DVC's, which has it in quotes."""
    return line.split("'")[1]


def _last(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for line in [line for line in lines if line.strip()][-TOLD_LINES:])
