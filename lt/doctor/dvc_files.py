"""DVC's own files: dvc.lock cut short, locks of processes that are gone, empty folders in the run cache."""

import json
import os
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, Iterator

import yaml

from lt.core import artifacts
from lt.core.files import read_regular
from lt.doctor.findings import Finding
from lt.doctor.processes import is_alive

LOCK = Path("dvc.lock")
# What replaces nothing: the damaged file is kept for whoever wants to look at it.
DAMAGED = Path(".dvc/tmp/dvc.lock.damaged")
RWLOCKS = (Path(".dvc/tmp/rwlock"), Path(".dvc/tmp/exps/rwlock"))


def look() -> Iterator[Finding]:
    """What is wrong with DVC's files in the working folder, a project or a workspace."""
    yield from _lock()
    yield from _rwlocks()
    yield from _runs()


def _lock() -> Iterator[Finding]:
    wrong = _wrong(LOCK.read_bytes()) if LOCK.is_file() else None
    if wrong:
        former = _of_git()
        source = "is restored as git has it in HEAD" if former else "is put away"
        todo = f"{source}, and the damaged one kept as {DAMAGED}; then `dvc repro` takes what was made since from its run cache"
        yield Finding(LOCK, f"{wrong}: a kill while DVC wrote it", todo, partial(_put_back, former))


def _wrong(content: bytes) -> str | None:
    """What keeps DVC from reading a dvc.lock; None where nothing does."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # half a second, and only where there is one
    from voluptuous import Invalid

    try:
        found = yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        COMPILED_LOCKFILE_SCHEMA(found)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        return f"cut short or no YAML, {len(content)} bytes"
    except Invalid:
        return f"cut short or not in DVC's form, {len(content)} bytes"
    return None


def _of_git() -> bytes | None:
    """The file as the last commit has it, if it has one that can be read."""
    done = subprocess.run(["git", "show", f"HEAD:./{LOCK}"], capture_output=True)
    return done.stdout if done.returncode == 0 and not _wrong(done.stdout) else None


def _put_back(former: bytes | None) -> None:
    DAMAGED.parent.mkdir(parents=True, exist_ok=True)
    if former:
        shutil.copy2(LOCK, DAMAGED)
        artifacts.write_text(LOCK, former.decode())
    else:
        os.replace(LOCK, DAMAGED)


def _rwlocks() -> Iterator[Finding]:
    for path in RWLOCKS:
        if not path.is_file():
            continue
        dead = _dead(path)
        if dead is None:
            yield Finding(path, "empty or cut short: a kill while DVC wrote it; every command of DVC fails", "is removed", path.unlink)
        elif dead:
            what = f"names {', '.join(dead)}, which {'is' if len(dead) == 1 else 'are'} gone; it blocks as soon as another process has the number"
            yield Finding(path, what, "is removed", path.unlink)


def _dead(path: Path) -> list[str] | None:
    """Processes in a lock's file that are gone; [] where there is none, or one that is alive; None where it cannot be read."""
    try:
        content = json.loads(path.read_bytes())
        holders = [*content.get("write", {}).values(), *(one for many in content.get("read", {}).values() for one in many)]
        noted: dict[int, str] = {int(holder["pid"]): str(holder["cmd"]) for holder in holders}
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        return None
    alive = [pid for pid, command in noted.items() if is_alive(pid, command, path.stat().st_mtime)]
    return [] if alive else [f"process {pid}" for pid in noted]


def _runs() -> Iterator[Finding]:
    for folder in sorted(_cache().glob("runs/*/*")):
        if folder.is_dir() and not any(folder.iterdir()):
            yield Finding(folder, "an empty folder of the run cache: a kill while DVC noted a run; `dvc repro` may fail on it", "is removed", folder.rmdir)


def _cache() -> Path:
    """DVC's cache, which .dvc/config.local or .dvc/config may put elsewhere; relative paths start at .dvc."""
    folder = Path(".dvc")
    for settings in (_settings(folder / "config.local"), _settings(folder / "config")):
        if "dir" in settings:
            return folder / settings["dir"]
    return folder / "cache"


def _settings(path: Path) -> dict[str, Any]:
    """The block [cache] of one of DVC's settings files; {} where there is none."""
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_regular(path).decode())
    except (OSError, configparser.Error, UnicodeDecodeError):
        return {}
    return dict(parser["cache"]) if parser.has_section("cache") else {}
