"""What a stage's run took and who made it, kept beside DVC's run cache, so that it is known wherever DVC restores the stage."""

from pathlib import Path
from typing import Any

from lt.core import artifacts
from lt.core.command import cost_file
from lt.core.schemas import Note
from lt.published import lock

# A link in the workspace to the notes of all workspaces that share a cache.
NOTES = ".notes"
# The project's commit when the workspace got its code.
COMMIT = ".commit"


def link(folder: Path, cache: Path) -> None:
    """Notes of this workspace lie in the cache's folder; `dvc gc` leaves them alone."""
    (cache / "cost").mkdir(parents=True, exist_ok=True)
    (folder / NOTES).unlink(missing_ok=True)
    (folder / NOTES).symlink_to((cache / "cost").resolve(), target_is_directory=True)


def take(folder: Path, made: dict[str, dict[str, Any]]) -> None:
    """Turns the costs that stages have left in the workspace into notes of what was made."""
    for entry in made.values():
        path = folder / cost_file(lock.command(entry))
        if path.is_file():
            if cost := _known(path):
                write(folder, lock.key(entry), cost | {"commit": (folder / COMMIT).read_text(encoding="utf-8")})
            path.unlink()


def read(folder: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """The note of a stage: seconds, device, versions, commit; kept, where it was made by other code than dvc.lock says. {} where
    it came from elsewhere, and nobody knows."""
    return _known(folder / NOTES / f"{lock.key(entry)}.json")


def _known(path: Path) -> dict[str, Any]:
    """What a file tells, {} where there is none, or it is no note: what a run took is worth no error."""
    try:
        return artifacts.read_json(path, Note)
    except artifacts.ArtifactError:
        return {}


def write(folder: Path, key: str, content: dict[str, Any]) -> None:
    """Replaces the note of a stage, made here or elsewhere, that has this key of lt/published/lock.py."""
    artifacts.write_json(folder / NOTES / f"{key}.json", content)
