"""The only reader and writer of artifacts: atomic, without pickle, checked for name, shape and dtype."""

import csv
import errno
import glob
import json
import math
import os
import shutil
import tempfile
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tokenize import TokenError
from typing import Iterable

import numpy as np
from pydantic import BaseModel

from lt.core import attest, files, json_text, manifest
from lt.core.manifest import ArtifactError
from lt.core.row_names import maker

ROOT = Path("artifacts")
RESULTS = Path("results")
IN_MEMORY_BYTES = 2**29


def stage_dir(stage: str, *parts: int | str) -> Path:
    """Folder of a stage's output, such as artifacts/retrain/balms/0."""
    return ROOT.joinpath(stage, *map(str, parts))


def row_dir(row: str, seed: int) -> Path:
    """Folder that holds a table row's test logits."""
    stage, method = maker(row)
    return stage_dir(stage, *([method] if method else []), seed)


def measured_dir(row: str, seed: int) -> Path:
    """Folder that holds what was measured on a table row."""
    return stage_dir("evaluate", row, seed)


@contextmanager
def writing(folder: Path):
    """Yields an empty folder that takes the place of `folder`, with a manifest, when the block ends without an error.

    The new folder takes the old one's place in one step: after a crash, a full disk or a kill the one or the other is there,
    whole. What a killed run has left is cleaned up at the start. Raises ArtifactError where a file cannot be written or an array
    is not finite, attest.ChangedError where the stage's code or settings were edited in the meantime; the old folder then stays.
    """
    folder = Path(folder)
    aside = folder.with_name(f".{folder.name}.old.part")
    part = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        files.restore(folder, aside)
        part = _empty_part(folder.parent, folder.name)
        yield part
        write_text(part / manifest.NAME, manifest.describe(part))
        attest.check()
        files.replace_folder(part, folder, aside)
    except OSError as error:
        raise ArtifactError(f"could not write {folder}: {reason(error)}") from error
    finally:
        if part:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def writing_together(folder: Path, name: str):
    """Yields an empty folder; the files in it take their places in `folder`, under the same relative paths, when the block ends.

    name: of the writer, no two of which may run at the same time

    All of them are written before the first one is moved: a full disk leaves the old ones. They are moved in the order of their
    paths; after a kill in between those that come first are new, and the others old, each of them whole. What another stage
    reads has to be one file, therefore, and stands first: details/ before methods/. Raises as `writing` does.
    """
    folder = Path(folder)
    part = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = _empty_part(folder, name)
        yield part
        attest.check()
        for path in sorted(path for path in part.rglob("*") if path.is_file()):
            target = folder / path.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
    except OSError as error:
        raise ArtifactError(f"could not write {name} into {folder}: {reason(error)}") from error
    finally:
        if part:
            shutil.rmtree(part, ignore_errors=True)


def _empty_part(parent: Path, name: str) -> Path:
    """A new folder beside what it is to replace; those that killed runs have left are removed."""
    for leftover in parent.glob(f".{glob.escape(name)}.*.part"):
        files.remove(leftover)
    part = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".part", dir=parent))
    part.chmod(0o755)
    return part


def reason(error: OSError) -> str:
    """Why something could not be written, and what to do about it."""
    if error.errno in (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # numpy tells the bytes that were missing, without a number
        return f"{error.strerror or error}; free some space, then run the stage again"
    return str(error)


def write_text(path: Path, text: str) -> None:
    """Writes one small file atomically, once nothing that the stage depends on was edited since its start (lt/core/attest.py)."""
    path = Path(path)
    attest.check()
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
            files.remove(leftover)
        handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(part, 0o644)
        os.replace(part, path)
    except OSError as error:
        raise ArtifactError(f"could not write {path}: {reason(error)}; the old file, if any, is kept") from error
    finally:
        if part:
            Path(part).unlink(missing_ok=True)


def write_json(path: Path, content: dict, sealed: bool = False) -> None:
    """Writes JSON with sorted keys and no NaN: a value that is not defined is null.

    sealed: with a hash of its content, for a file that has no manifest beside it; read_json compares it
    """
    write_text(path, json.dumps(json_text.sealed(content) if sealed else content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path, kind: type[BaseModel] | None = None) -> dict:
    """Reads a JSON object. kind: of lt/core/schemas.py, what has to be in it

    Raises ArtifactError where the file is missing, or as json_text.parse.
    """
    return json_text.parse(_existing(path).read_bytes(), path, kind)


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes a .npy file."""
    np.save(path, np.ascontiguousarray(array), allow_pickle=False)


def new_array(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
    """A .npy file of zeros to be filled in place, through memory mapping; OSError where the disk has no room for it.

    Its space is taken at once: a disk that is full only when a page is written ends the process without a word.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with open(path, "r+b") as file:
        _reserve(file, os.path.getsize(path))
    return array


def temporary_array(shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
    """An array in an unnamed file, which goes with the array, for what memory may not hold; ArtifactError on a full disk."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with tempfile.TemporaryFile() as file:
        try:
            _reserve(file, size)
        except OSError as error:
            folder = tempfile.gettempdir()
            raise ArtifactError(f"no room for {size / 2**20:.0f} MiB in {folder} ({reason(error)}); TMPDIR names another folder") from error
        return np.memmap(file, dtype, mode="r+" if size else "w+", shape=shape)


def joined(blocks: Iterable[np.ndarray], rows: int) -> np.ndarray:
    """One array of all blocks of rows, as many as told: in memory, or above IN_MEMORY_BYTES in an unnamed file."""
    blocks = iter(blocks)
    first = next(blocks)
    shape = (rows, *first.shape[1:])
    fits = math.prod(shape) * first.itemsize <= IN_MEMORY_BYTES
    array = np.empty(shape, first.dtype) if fits else temporary_array(shape, first.dtype)
    done = 0
    for block in chain([first], blocks):
        array[done : done + len(block)] = block
        done += len(block)
    return array


def _reserve(file, size: int) -> None:
    """Takes the space of a file, where the system has a call for that; OSError where the disk has no room."""
    if hasattr(os, "posix_fallocate") and size:  # not on macOS and Windows
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


def read_array(path: Path, shape: tuple[int | None, ...] | None = None, dtype: str | None = None, mmap: bool = False) -> np.ndarray:
    """Reads a .npy file; `shape` may hold None for any length, `dtype` is a numpy kind such as 'int64' or 'float'.

    Raises ArtifactError where the file is missing, cut short, or of another shape or dtype.
    """
    path = _existing(path)
    try:
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)  # np.load takes other kinds of files, too
        array = np.load(path, allow_pickle=False, mmap_mode="r" if mmap else None)
    except (ValueError, EOFError, OverflowError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError) as error:
        raise ArtifactError(f"{path} is not a whole .npy file ({error}); {manifest.again(Path(path))}") from None
    if shape is not None and (len(shape) != array.ndim or any(want not in (None, got) for want, got in zip(shape, array.shape))):
        raise ArtifactError(f"{path}: got shape {array.shape}, expected {shape}; run its stage again")
    if dtype is not None and not (np.issubdtype(array.dtype, np.floating) if dtype == "float" else array.dtype == np.dtype(dtype)):
        raise ArtifactError(f"{path}: got dtype {array.dtype}, expected {dtype}; run its stage again")
    return array


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """Writes a log as CSV: one line per dict, all with the same keys; floats with nine digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        if rows:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({key: f"{value:.9g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows)


def read_log(path: Path) -> list[dict[str, float]]:
    """Reads what write_log wrote, every value as a float, which may be NaN; ArtifactError where a line is not of as many numbers as its head says."""
    with open(_existing(path), newline="", encoding="utf-8") as file:
        try:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
            if any(np.isinf(value) for row in rows for value in row.values()):
                raise ValueError("it holds infinity")
            return rows
        except (ValueError, TypeError, csv.Error) as error:
            raise ArtifactError(f"{path} is not a log of numbers ({error}); {manifest.again(Path(path))}") from None


def write_weights(path: Path, module) -> None:
    """Writes a torch module's parameters and buffers as safetensors; ArtifactError where one is not finite."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise ArtifactError(f"{Path(path).name}: got NaN or infinity in {name}, expected finite weights; try a lower learning rate")
    try:
        save_file(state, path)
    except SafetensorError as error:  # its own kind, also where the disk is full
        raise OSError(f"{Path(path).name}: {error}") from error


def read_weights(path: Path, module) -> None:
    """Loads parameters and buffers into `module`; ArtifactError where names, shapes or dtypes differ, or one is not finite."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state, own = load_file(_existing(path)), module.state_dict()
        if others := [name for name in state.keys() & own.keys() if state[name].dtype != own[name].dtype]:
            raise RuntimeError(f"{min(others)} is {state[min(others)].dtype}, expected {own[min(others)].dtype}")
        if others := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
            raise RuntimeError(f"{min(others)} holds NaN or infinity")
        module.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        raise ArtifactError(f"{path} does not fit {type(module).__name__}: {error}; run its stage again") from None


def _existing(path: Path) -> Path:
    """The path of a file that is there, and as its manifest, if its folder has one, says; ArtifactError otherwise."""
    path = Path(path)
    manifest.check(path)
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; run the stage that writes it (dvc repro, or python -m stages.<name>)")
    return path
