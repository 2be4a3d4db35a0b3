"""Files by their paths: only regular ones are read, and a folder takes the place of another in one step."""

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Iterator

# Of Linux's renameat2: paths are taken as they are, and the two swap places.
AT_FDCWD, RENAME_EXCHANGE = -100, 2
READ_AT_ONCE = 2**20


def expect_regular(path: Path) -> None:
    """OSError unless there is a regular file: of something else, such as a pipe, a reader would wait for ever."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        number, told = (errno.EISDIR, os.strerror(errno.EISDIR)) if stat.S_ISDIR(mode) else (errno.EINVAL, "it is no regular file")
        raise OSError(number, told, str(path))


def read_regular(path: Path) -> bytes:
    """Content of a regular file; OSError where there is none."""
    expect_regular(path)
    return Path(path).read_bytes()


def sha256(path: Path) -> str:
    """sha256 of a regular file, in hex digits; OSError where there is none."""
    expect_regular(path)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(READ_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """A folder as the working folder, for a block: contextlib.chdir, which Python 3.10 lacks."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def stamp(path: Path) -> tuple[int, int, int]:
    """Changes when a file is written, or another one takes its place."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def swap(new: Path, old: Path) -> bool:
    """Exchanges two folders in one step; False where the system has no call for that. OSError where it fails."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if call is None:
        return False
    if call(AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(old), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):  # not on this file system
        return False
    raise OSError(number, os.strerror(number), str(old))


def replace_folder(new: Path, old: Path, aside: Path) -> None:
    """Puts folder `new` in the place of `old`, if there is one. A kill leaves the one or the other, whole, at `old`.

    Where folders cannot be exchanged, a kill between two renamings leaves none there, and the old one at `aside`: see `restore`.
    """
    if not old.exists():
        os.rename(new, old)
    elif swap(new, old):
        remove(new)
    else:
        os.rename(old, aside)
        try:
            os.rename(new, old)
        except OSError:
            os.rename(aside, old)
            raise
        remove(aside)


def restore(old: Path, aside: Path) -> None:
    """Ends what a killed replace_folder began: the folder aside goes back where nothing has taken its place, else away."""
    if aside.exists() and not old.exists():
        os.rename(aside, old)
    remove(aside)


def remove(path: Path) -> None:
    """Removes a folder or a file, as far as it can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
