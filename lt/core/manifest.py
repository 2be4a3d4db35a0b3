"""manifest.json of an artifact's folder: which files belong to it, and their hashes, compared when one of them is read."""

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Iterable

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from lt.core.files import read_regular, sha256, stamp
from lt.core.options import Index
from lt.core.row_names import evaluation

NAME = "manifest.json"
# LT_VERIFY=0 believes what is there.
VARIABLE = "LT_VERIFY"
CHUNK = 2**22  # numbers that are looked at together


class ArtifactError(ValueError):
    """An artifact is missing, incomplete or not what it should be."""


class Entry(BaseModel):
    """One file; shape and dtype of an array."""

    model_config = ConfigDict(strict=True, extra="forbid")

    bytes: int
    sha256: str
    shape: list[Index] | None = None
    dtype: str | None = None


class Manifest(BaseModel):
    """All files of a folder but the manifest itself, by their paths in it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    files: dict[str, Entry]


def describe(folder: Path) -> str:
    """The manifest of a folder as JSON; ArtifactError where an array holds a number that is not finite."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    entries = {path.relative_to(folder).as_posix(): _entry(path) for path in paths}
    content = Manifest(files=entries).model_dump(exclude_none=True)
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def _entry(path: Path) -> Entry:
    facts = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    if path.suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        check_finite(array, path.name)
        facts |= {"shape": list(array.shape), "dtype": str(array.dtype)}
    return Entry(**facts)


def check_finite(array: np.ndarray, name: str) -> None:
    """ArtifactError where a float array holds NaN or infinity, naming its first such place. A part of it is read at a time."""
    flat = array.reshape(-1) if np.issubdtype(array.dtype, np.floating) else array[:0].reshape(-1)
    for start in range(0, len(flat), CHUNK):
        finite = np.isfinite(flat[start : start + CHUNK])
        if not finite.all():
            place = start + int(np.argmin(finite))
            where = tuple(map(int, np.unravel_index(place, array.shape)))
            raise ArtifactError(
                f"{name}: got {flat[place]} at {where}, expected finite numbers; nothing was written: the training has diverged, "
                f"or the features are too large for their dtype"
            )


def check(path: Path) -> None:
    """Compares a file with the manifest beside it, and that all files of the manifest are there; once per file and process.

    LT_VERIFY=0: nothing is compared; nor where there is no manifest, outside of artifacts/. Raises ArtifactError that names the
    file and the command that fetches or makes it again, also for a folder of artifacts/ that has no manifest.
    """
    if wanted() and path.name != NAME:
        _check(path.parent, [path.name])


def wanted() -> bool:
    """Whether what is read shall be compared with what was written."""
    return os.environ.get(VARIABLE) != "0"


def check_all(folder: Path) -> None:
    """Compares all files of an artifact with its manifest, whatever LT_VERIFY says; raises as `check` does."""
    _check(folder)


def _check(folder: Path, names: Iterable[str] | None = None) -> None:
    """names: of the files that are hashed, None for all; all are looked for"""
    listing = folder / NAME
    if not listing.is_file():
        if _is_artifact(folder):
            raise ArtifactError(
                f"{folder} has no {NAME}: an older version of this project made it, or it was copied in part; make it again: "
                f"dvc repro {stage_of(folder)} (without DVC: run its stage again); {VARIABLE}=0 takes it as it is"
            )
        return
    expected = _read(listing, stamp(listing)).files
    for name, entry in expected.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != entry.bytes:
            got = "nothing" if size is None else f"{size} bytes"
            raise damaged(path, f"got {got}, expected {entry.bytes} bytes")
    for path in (folder / name for name in (expected if names is None else names)):
        if path.name not in expected:
            raise damaged(path, f"it is not in {listing}, which lists {', '.join(expected)}")
        if _hash(path, stamp(path)) != expected[path.name].sha256:
            raise damaged(path, f"its sha256 is not that in {listing}")


def _is_artifact(folder: Path) -> bool:
    """Whether a stage writes this folder as a whole."""
    return folder.is_dir() and folder.parts[:1] == ("artifacts",) and len(folder.parts) > 1


def forget() -> None:
    """Makes the next reading compare everything again."""
    _read.cache_clear()
    _hash.cache_clear()


def damaged(path: Path, reason: str) -> ArtifactError:
    """The error for a file that is not as it was written: what to do about it."""
    return ArtifactError(f"{path} is damaged: {reason}; {mend(path.parent)}")


def mend(folder: Path) -> str:
    """How an artifact's folder, such as artifacts/retrain/crt/0, is fetched or made again.

    DVC believes a cached file that is read-only, and looks at one that is not.
    """
    if not _is_artifact(folder):
        return f"delete {folder} and make it again"
    return (
        f"fetch it again: dvc checkout --force {folder}; if it comes back like this, it is damaged in DVC's cache as well, make it "
        f"again: chmod -R u+w .dvc/cache/files && dvc repro --force --single-item {stage_of(folder)} (without DVC: run its stage again)"
    )


def stage_of(folder: Path) -> str:
    """The name that DVC has for the stage that makes artifacts/<kind>/..."""
    kind, *rest = folder.parts[1:]
    if kind == "evaluate" and len(rest) == 2:
        return evaluation(*rest)
    return "subsample" if kind == "data" else f"{kind}@{'-'.join(rest)}"


def again(path: Path) -> str:
    """How a file that is whole, but of another shape than is read now, is made again."""
    kind, *rest = path.parts if not path.is_absolute() else ("",)
    if kind == "artifacts" and len(rest) > 1:
        return f"run: dvc repro {stage_of(path.parent)} (without DVC: its stage)"
    if kind == "results":
        return "run: dvc repro (without DVC: python -m stages.report)"
    if kind == "data" and len(rest) == 1:
        return f"run: python -m stages.index {path.stem}"
    return "delete it and make it again"


@lru_cache(maxsize=1024)
def _read(listing: Path, mark: tuple) -> Manifest:
    try:
        return Manifest.model_validate_json(read_regular(listing))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise damaged(listing, f"{where}: {first['msg']}" if where else first["msg"]) from None


@lru_cache(maxsize=1024)
def _hash(path: Path, mark: tuple) -> str:
    return sha256(path)
