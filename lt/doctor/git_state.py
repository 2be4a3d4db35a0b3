"""What a killed `dvc exp run` leaves in git: locks, a HEAD that is on no branch, edits that it had put aside."""

import re
import subprocess
from functools import partial
from pathlib import Path
from typing import Iterator

from lt.doctor.findings import Finding

# DVC's copy of the edits and of -S while an experiment is started; it is removed where the experiment ends by itself.
STARTED = "refs/exps/exec/EXEC_MERGE"
QUEUED = "refs/exps/stash"
# What DVC packs beside the edits.
DVCS_OWN = ":(exclude).dvc/tmp"
MOVED = re.compile(r"checkout: moving from (\S+) to [0-9a-f]{40}")


def look() -> Iterator[Finding]:
    """What is wrong in the git repository that the working folder is; nothing where it is none."""
    if not Path(".git").exists() or (folders := _git("rev-parse", "--git-dir", "--git-common-dir")) is None:
        return
    yield from _locks(sorted({Path(folder) for folder in folders.split("\n")}))
    yield from _head()
    yield from _put_aside()


def _locks(folders: list[Path]) -> Iterator[Finding]:
    inside = {path for folder in folders for path in (*folder.glob("*.lock"), *(folder / "refs").rglob("*.lock"))}
    for path in sorted(inside):
        yield Finding(path, "a lock of git, and no git is at work here: left by a kill; git refuses to write", "is removed", path.unlink)


def _head() -> Iterator[Finding]:
    head, last = _git("rev-parse", "HEAD"), _git("log", "-g", "-1", "--format=%gs", "HEAD")
    if head is None or _git("symbolic-ref", "--quiet", "HEAD") is not None:
        return
    match = MOVED.fullmatch(last or "")
    branch = match[1] if match else None
    if branch and _git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}") == head:
        what = f"on no branch, at the commit of {branch}: a killed `dvc exp run` leaves it so, and what you commit would be on no branch"
        todo = f"is put on {branch} again; no file changes: what `-S` has set is still in params.yaml (git diff)"
        yield Finding("HEAD of git", what, todo, partial(_git, "symbolic-ref", "HEAD", f"refs/heads/{branch}"))
    else:
        what = f"on no branch, at {head[:10]}; you went there, or a killed `dvc exp run` did"
        yield Finding("HEAD of git", what, f"git switch {branch or 'main'} goes back, and takes your edits along", harmless=True)


def _put_aside() -> Iterator[Finding]:
    for line in filter(None, (_git("stash", "list") or "").split("\n")):
        name, _, told = line.partition(": ")
        what = f"{told}: edits that you, or a `dvc exp run` that was then killed, have put aside"
        yield Finding(f"git's {name}", what, f"git stash show -p {name} shows them, git stash pop --index {name} takes them back", harmless=True)
    for ref in (STARTED, QUEUED):
        # what is in the files as well needs no telling
        if _git("rev-parse", "--verify", "--quiet", ref) and _git("diff", "--quiet", ref, "--", ".", DVCS_OWN) is None:
            what = "edits, and what `-S` has set, of a `dvc exp run` that was killed; the files are not like that (any more)"
            todo = f"git diff {ref} shows what differs (+ is what the files have), git checkout {ref} -- FILE takes a file from there, git update-ref -d {ref} forgets them"
            yield Finding(f"git's {ref}", what, todo, harmless=True)


def _git(*arguments: str) -> str | None:
    """What a command of git prints; None where it fails, or there is no git."""
    try:
        done = subprocess.run(["git", "--no-optional-locks", *arguments], capture_output=True, text=True, errors="replace")
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
