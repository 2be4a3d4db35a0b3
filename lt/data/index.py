"""The tracked index of a data set's raw files, data/<name>.json: how it is made, and how data that differ from it are refused."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lt.core import artifacts
from lt.core.files import sha256
from lt.core.plugins import module_of, with_defaults
from lt.core.schemas import IndexFile
from lt.data.contracts import ListsImages, Prepares
from lt.data.decode import listing

FOLDER = Path("data")
# Above it, only a full check reads every byte; a quick one compares names and sizes.
QUICK_BYTES = 2**30
SHOWN = 10


class RawDataError(ValueError):
    """The raw data are missing, or not those of the index."""


def data_root() -> Path:
    """Folder of the raw data: data/ of the project, which DVC names in DVC_ROOT, also where it works in a temporary copy."""
    return Path(os.environ["DVC_ROOT"]) / "data" if os.environ.get("DVC_ROOT") else FOLDER


def index_path(name: str) -> Path:
    """The tracked index of a data set, under the folder that the stage works in."""
    return FOLDER / f"{name}.json"


def make(name: str, root: Path, options: dict[str, Any], full: bool = False) -> dict:
    """Downloads what is missing, checks what is there, and lists the raw files.

    A data set in lt/datasets/<name>.py defines, beside open_split, raw_files(root, **options) -> {name in the index: file};
    what else it may define is in lt/data/contracts.py.

    full: reads and hashes also every image of a compact index, instead of one in a thousand
    returns {"dataset", "files": [{"path", "sha256", "size" in bytes}], "images": what list_images gave}, files sorted by path
    raises ValueError where the download fails, or listing all images that cannot be decoded, or are missing
    """
    options = with_defaults("datasets", name, options)
    module = module_of("datasets", name)
    if isinstance(module, Prepares):
        module.prepare(root, **options)
    files = sorted(module.raw_files(root, **options).items())
    with ThreadPoolExecutor() as pool:
        hashes = pool.map(sha256, [file for _, file in files])
        listed = [{"path": path, "sha256": sha, "size": file.stat().st_size} for (path, file), sha in zip(files, hashes)]
    compact = {"images": module.list_images(root, full, **options)} if isinstance(module, ListsImages) else {}
    return {"dataset": name, "files": listed, **compact}


def write(index: dict) -> Path:
    """Writes what make returned to data/<name>.json, one file per line, so that a diff shows the files that changed."""
    path, blocks = index_path(index["dataset"]), []
    for key in ("files", "images"):
        if key in index:
            lines = ",\n".join(" " + json.dumps(entry, sort_keys=True) for entry in index[key])
            blocks.append(f'"{key}": [\n{lines}\n]')
    artifacts.write_text(path, f'{{"dataset": {json.dumps(index["dataset"])}, {", ".join(blocks)}}}\n')
    return path


def read(name: str) -> dict[str, tuple[int, str]]:
    """Reads data/<name>.json: path of each raw file -> (size in bytes, sha256)."""
    path = index_path(name)
    if not path.is_file():
        raise RawDataError(f"{path} is missing: there is no index of the raw data of {name}; run `python -m stages.index {name}`")
    try:
        index = artifacts.read_json(path, IndexFile)
    except artifacts.ArtifactError as error:
        raise RawDataError(f"{path} is not an index of raw data ({error})") from None
    if index["dataset"] != name:
        raise RawDataError(f"{path} is the index of {index['dataset']!r}; run `python -m stages.index {name}`")
    files = {file["path"]: (file["size"], file["sha256"]) for file in index["files"]}
    if len(files) < len(index["files"]):
        raise RawDataError(f"{path} lists a file twice; run `python -m stages.index {name}`")
    return files


def depth(index: dict) -> str:
    """How much of the raw data an index knows, in words: of a list's images it has all contents only where it was made with full."""
    sampled = [block for block in index.get("images", []) if not block.get("contents")]
    return "the sizes of all images and the contents of one in a thousand" if sampled else "the contents of every file"


def fingerprint(name: str) -> str:
    """sha256 of data/<name>.json, and so of all raw files."""
    return sha256(index_path(name))


def verify(name: str, root: Path, options: dict[str, Any], full: bool = True) -> None:
    """Raises one RawDataError that tells all raw files that are missing, changed or not in the index; silent if there is none.

    full: compare every file's sha256; otherwise only if all files together are below a GiB, and names and sizes above that;
    of images in a compact index, all sizes and the contents of one in a thousand, or of all where the index was made with
    full, otherwise that one's size
    """
    indexed, module, options = read(name), module_of("datasets", name), with_defaults("datasets", name, options)
    files = module.raw_files(root, **options)
    sizes = {path: file.stat().st_size for path, file in files.items() if file.is_file()}
    differences = [f"missing: {path}" for path in sorted(indexed.keys() - sizes.keys())]
    differences += [f"extra: {path}" for path in sorted(sizes.keys() - indexed.keys())]
    both = sorted(indexed.keys() & sizes.keys())
    changed = {path for path in both if sizes[path] != indexed[path][0]}
    if full or sum(sizes.values()) < QUICK_BYTES:
        same_size = [path for path in both if path not in changed]
        with ThreadPoolExecutor() as pool:
            hashes = pool.map(sha256, [files[path] for path in same_size])
            changed |= {path for path, sha in zip(same_size, hashes) if sha != indexed[path][1]}
    differences += [f"changed: {path}" for path in sorted(changed)]
    if not differences and isinstance(module, ListsImages):  # other lists name other images
        differences = module.compare_images(root, artifacts.read_json(index_path(name), IndexFile).get("images", []), full, **options)
    if differences:
        told = listing(f"differences from {index_path(name)}", differences, SHOWN)
        raise RawDataError(
            f"raw data of {name}: {told}\nRestore the files; or, to take them as they are now, and to download what can be "
            f"downloaded: python -m stages.index {name}"
        )
