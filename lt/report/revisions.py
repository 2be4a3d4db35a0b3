"""Rows as they are in results/, or were at a git revision or a DVC experiment."""

import subprocess

from lt.core import artifacts, json_text
from lt.core.schemas import Details


def details_of(name: str) -> dict:
    """Details of ROW from results/, or of REV:ROW from the git commit, branch, tag or DVC experiment REV."""
    revision, _, row = name.rpartition(":")
    path = artifacts.RESULTS / "details" / f"{row}.json"
    if not revision:
        return artifacts.read_json(path, Details)
    text = _git("show", f"{_commit_of(revision)}:./{path.as_posix()}")
    if text is None:
        raise artifacts.ArtifactError(f"{name}: {path} is not in {revision}; was it committed, and is the row's name right?")
    return json_text.parse(text, path, Details)


def _commit_of(revision: str) -> str:
    """Hash of a git revision, or of the newest DVC experiment of that name (which git keeps under refs/exps)."""
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if commit is None:
        experiments = _git("for-each-ref", "--sort=-committerdate", "--format=%(objectname) %(refname)", "refs/exps") or ""
        named = [line.split()[0] for line in experiments.splitlines() if line.endswith(f"/{revision}")]
        if not named:
            raise ValueError(f"{revision!r} is neither a git revision nor a DVC experiment; see git log and dvc exp list --all")
        commit = named[0]
    return commit.strip()


def _git(*arguments: str) -> str | None:
    """Output of a git command, None where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None
