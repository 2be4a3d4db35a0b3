"""A workspace that a command holds, so that no other one changes it meanwhile."""

import contextlib
import os
from pathlib import Path
from typing import IO, Iterator

from lt.published.engine import EngineError


class InUse(EngineError):
    """A workspace that another command holds."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[IO]:
    """Holds a workspace for this command, and the DVC that it starts, also where the command itself is killed.

    DVC's own lock is free while a stage runs, when another command's code would take the place of this one's. Raises InUse
    where another one holds it. Yields the lock's file, to be inherited. Without effect on Windows.
    """
    path = folder / ".lock"
    folder.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ModuleNotFoundError:
            pass
        except BlockingIOError:
            raise _in_use(folder) from None
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
            raise _in_use(folder)  # it was, and has been removed since the file was opened
        yield file


def _in_use(folder: Path) -> InUse:
    return InUse(f"{folder} is in use by another command, or by a DVC that it left: wait for it, or end it")
