"""A compact index of very many files: for each thousand of them their sizes as one hash, and the contents of one of them."""

import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy as np

from lt.core.files import sha256

BLOCK = 1000
# In place of a size: there is no such file, or a link leads out of the folder.
MISSING, OUTSIDE = -1, -2
TOLD = {MISSING: "missing", OUTSIDE: "a link leads out of the folder"}
THREADS = 8  # what a disk over a network answers at once


def make(part: str, folder: Path, names: Sequence[str], contents: bool = False) -> list[dict[str, Any]]:
    """The index of a part's files, one entry for BLOCK names in a row; see differences for what it is compared by.

    names: paths relative to `folder`    contents: whether every file is read and hashed
    returns entries {part, first: position of its first name, files, bytes: of all its files, sizes: hash of its files' sizes,
    sample: sha256 of the first file, sample_bytes: its size} and, if asked for, contents: hash of all its files' contents;
    ValueError where problems(...) finds any
    """
    found = sizes(folder, names)
    if wrong := problems(found, names):
        raise ValueError("\n".join(wrong))
    return [
        {"part": part, **_facts(found, start), "sample": sha256(folder / names[start]), "sample_bytes": int(found[start])}
        | ({"contents": _contents(folder, names[start : start + BLOCK])} if contents else {})
        for start in range(0, len(names), BLOCK)
    ]


def differences(folder: Path, names: Sequence[str], indexed: list[dict[str, Any]], full: bool) -> list[str]:
    """What is not as the index of the same names has it, one line per file or block.

    full: every file's presence and size, and the contents of one file in BLOCK, or of every file where the index has them;
    otherwise that one file's presence and size
    """
    blocks = [(entry["first"], entry["files"]) for entry in indexed]
    if blocks != [(start, min(BLOCK, len(names) - start)) for start in range(0, len(names), BLOCK)]:
        return [f"changed: the index has {sum(files for _, files in blocks)} images, in blocks that are not those of the list's {len(names)}"]
    if not full:
        samples = [names[entry["first"]] for entry in indexed]
        found = sizes(folder, samples)
        changed = [name for name, size, entry in zip(samples, found.tolist(), indexed) if size != entry["sample_bytes"]]
        return problems(found, samples) or [f"changed: {name}" for name in changed]
    found = sizes(folder, names)
    if wrong := problems(found, names):
        return wrong
    told = []
    for entry in indexed:
        start, last = entry["first"], entry["first"] + entry["files"]
        if any(entry[key] != value for key, value in _facts(found, start).items()):
            told.append(f"changed: the sizes of images {start + 1} to {last} of the {entry['part']} list")
        elif sha256(folder / names[start]) != entry["sample"]:
            told.append(f"changed: {names[start]}")
        elif entry.get("contents") and entry["contents"] != _contents(folder, names[start:last]):
            told.append(f"changed: the contents of images {start + 1} to {last} of the {entry['part']} list")
    return told


def problems(found: np.ndarray, names: Sequence[str]) -> list[str]:
    """One line for each name whose size, in `found`, is MISSING or OUTSIDE."""
    return [f"{TOLD[int(found[i])]}: {names[i]}" for i in np.flatnonzero(found < 0)]


def sizes(folder: Path, names: Sequence[str]) -> np.ndarray:
    """Size in bytes of each file, or MISSING or OUTSIDE: (N,) int64; links inside the folder are followed."""
    root = os.path.realpath(folder)
    inside: dict[str, bool] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        blocks = (names[start : start + BLOCK] for start in range(0, len(names), BLOCK))
        found = [size for block in pool.map(lambda block: list(_block_sizes(root, block, inside)), blocks) for size in block]
    return np.array(found, dtype=np.int64)


def _block_sizes(root: str, names: Sequence[str], inside: dict[str, bool]) -> Iterator[int]:
    """Sizes of one block; `inside` keeps what is known of folders, of which there are few."""
    for name in names:
        within, path = os.path.dirname(name), f"{root}/{name}"
        if within not in inside:
            inside[within] = _is_inside(f"{root}/{within}", root)
        try:
            facts = os.lstat(path)
            if stat.S_ISLNK(facts.st_mode):
                facts = os.stat(path)
                outside = not _is_inside(path, root)
            else:
                outside = not inside[within]
        except OSError:
            yield MISSING
        else:
            yield OUTSIDE if outside else facts.st_size if stat.S_ISREG(facts.st_mode) else MISSING


def _is_inside(path: str, root: str) -> bool:
    return f"{os.path.realpath(path)}/".startswith(f"{root.rstrip('/')}/")


def _contents(folder: Path, names: Sequence[str]) -> str:
    with ThreadPoolExecutor(THREADS) as pool:
        return hashlib.sha256("".join(pool.map(lambda name: sha256(folder / name), names)).encode()).hexdigest()


def _facts(found: np.ndarray, start: int) -> dict[str, Any]:
    block = found[start : start + BLOCK]
    digest = hashlib.sha256(block.astype("<i8").tobytes()).hexdigest()[:16]
    return {"first": start, "files": len(block), "bytes": int(block.sum()), "sizes": digest}
