"""Which processes are at work in a project: what they hold is no leftover."""

import os
from pathlib import Path

import psutil

TOOLS = ("dvc", "git")
STAGES = "stages."
# Words of a command line among which the tool's name stands: python -m dvc repro.
FIRST = 4


def at_work() -> list[str]:
    """DVC, git and the project's commands that run in the working folder or below, one line each; this process and its parents are left out."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if process.pid not in own and is_tool(words) and Path(process.cwd()).is_relative_to(Path.cwd()):
                found.append(f"process {process.pid}: {' '.join(words)[:80]}")
        except psutil.Error:  # it has ended, or is another user's
            continue
    return found


def is_tool(words: list[str]) -> bool:
    """Whether a command line is of DVC, of git or of one of the project's commands."""
    return any(Path(word).name in TOOLS or word.startswith(STAGES) for word in words[:FIRST])


def is_alive(pid: int, command: str, noted_s: float) -> bool:
    """Whether a process that was noted in a lock's file is still that one, and not a later one with its number.

    command: its sys.argv, as it was noted    noted_s: when the file was written, in seconds since 1970
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or process.create_time() > noted_s + 1:
            return False
        script = Path(command.split(" ")[0])
        name = script.parent.name if script.stem == "__main__" else script.stem
        return name in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
