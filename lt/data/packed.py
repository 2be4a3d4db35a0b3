"""Decoded images in one memory-mapped file, packed once, so that later epochs read them at the speed of the disk. No torch."""

import hashlib
import json
import multiprocessing
import os
import shutil
import zlib
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import PIL
from tqdm import tqdm

from lt.core import artifacts, json_text, manifest
from lt.core.environment import whole_number
from lt.core.schemas import PackFile, PackedChunk
from lt.data.decode import GREY, VERSION, ImageFiles, attempt

IMAGES, SUMS = "images.npy", "crc32.npy"
CHUNK = 256  # images that a worker decodes at a time; what a killed packing may have to do again


class PackedImages:
    """The images of `source`, from <folder>/<name>-<image_size>px-<key>/images.npy, (N, H, W, 3) uint8; packed at the first read.
    Beside it, in crc32.npy, (N,) uint32, is a checksum of each, compared whenever the image is read.

    name: of the data set and part    index: sha256 of the data set's index. The key is a hash of it and of how images are
    decoded: other files, another size or another decoder, another pack.
    """

    def __init__(self, source: ImageFiles, folder: Path, name: str, index: str):
        self.source, self.shape = source, source.shape
        self.facts = {"index": index, "images": len(source.files), "decoding": list(source.decoding), "decoder": VERSION}
        key = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:12]
        self.folder = Path(folder) / f"{name}-{source.shape[1]}px-{key}"
        self._images = self._sums = None

    def read(self, index: np.ndarray) -> np.ndarray:
        """Images of the given positions: index (B,) -> (B, H, W, 3) uint8, grey where the file is corrupt.

        Raises ValueError where the disk has no room, or more files are corrupt than may be; ArtifactError where an image is not
        what was packed, unless LT_VERIFY=0.
        """
        if self._images is None:
            self._images, self._sums = self._open()
        images = np.asarray(self._images)[index]
        if manifest.wanted():
            for position, image in zip(index, images):
                if zlib.crc32(image) != self._sums[position]:
                    raise artifacts.ArtifactError(
                        f"{self.folder / IMAGES} is damaged: the checksum of image {position}, of {self.source.files[int(position)]}, is not "
                        f"that in {SUMS}; delete {self.folder}, and the images are packed again"
                    )
        return images

    def _open(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.folder.is_dir():
            pack(self.source, self.folder, self.facts)
        facts = artifacts.read_json(self.folder / "pack.json", PackFile)
        if {key: facts.get(key) for key in self.facts} != self.facts:
            raise artifacts.ArtifactError(f"{self.folder}/pack.json does not fit its folder's name; delete the folder")
        if any(int(position) >= len(self.source.files) for position in facts["corrupt"]):
            raise artifacts.ArtifactError(f"{self.folder}/pack.json: corrupt: positions beyond {len(self.source.files)} images; delete the folder")
        if not (self.folder / SUMS).is_file():
            raise artifacts.ArtifactError(
                f"{self.folder} has no {SUMS}: an older version of this project made it; delete the folder, and the images are packed again"
            )
        self.source.corrupt.add({int(position): reason for position, reason in facts["corrupt"].items()})
        images = artifacts.read_array(self.folder / IMAGES, shape=self.shape, dtype="uint8", mmap=True)
        return images, artifacts.read_array(self.folder / SUMS, shape=self.shape[:1], dtype="uint32")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_images": None, "_sums": None}  # another process maps the file itself


def pack(source: ImageFiles, folder: Path, facts: dict[str, Any], workers: int | None = None) -> None:
    """Decodes every image once, in several processes, into folder/images.npy; facts and corrupt files go into folder/pack.json.

    The folder appears when it is whole. What a killed packing has done is kept in <folder>.part and taken up again; of several
    processes that want the same pack one makes it, and the others wait.

    workers: processes; None for the environment variable LT_WORKERS, or as many as there are cores
    raises ValueError where the disk has no room, or more files are corrupt than may be
    """
    workers = workers or whole_number("LT_WORKERS", "a number of processes, 1 or more") or os.cpu_count() or 1
    part = folder.with_name(f"{folder.name}.part")
    with _alone(folder):
        if folder.is_dir():
            return
        images, done = _begin(source, part)
        source.corrupt.add({position: reason for found in done.values() for position, reason in found.items()})
        print(f"packing {len(source.files)} images into {folder}, {images.nbytes / 2**30:.1f} GiB, with {workers} processes")
        starts = [start for start in range(0, len(source.files), CHUNK) if start not in done]
        total = len(source.files)
        with open(part / "done.jsonl", "a", encoding="utf-8") as progress, tqdm(total=total, unit="image", disable=None) as bar:
            bar.update(min(CHUNK * len(done), total))
            for start, found in _decoded(source, part / IMAGES, starts, workers):
                progress.write(json.dumps({"start": start, "corrupt": found}) + "\n")
                progress.flush()
                source.corrupt.add(found)
                bar.update(min(CHUNK, total - start))
        reasons = {str(position): source.corrupt.found[position] for position in sorted(source.corrupt.found)}
        artifacts.write_json(part / "pack.json", facts | {"corrupt": reasons, "pillow": PIL.__version__})
        (part / "done.jsonl").unlink()
        os.replace(part, folder)


def _begin(source: ImageFiles, part: Path) -> tuple[np.ndarray, dict[int, dict]]:
    """The array to be filled, and what is filled already: start of a chunk -> its corrupt images."""
    path, total = part / IMAGES, len(source.files)
    try:
        images = artifacts.read_array(path, shape=source.shape, dtype="uint8", mmap=True)
        artifacts.read_array(part / SUMS, shape=source.shape[:1], dtype="uint32")
        entries = list(_entries(part / "done.jsonl", total))
        artifacts.write_text(part / "done.jsonl", "".join(json.dumps(entry) + "\n" for entry in entries))
        return images, {e["start"]: {int(position): reason for position, reason in e["corrupt"].items()} for e in entries}
    except (artifacts.ArtifactError, FileNotFoundError):
        shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    needed, free = int(np.prod(source.shape)), shutil.disk_usage(part).free
    if needed > free:
        raise ValueError(
            f"{part.parent}: got {free / 2**30:.1f} GiB free, expected {needed / 2**30:.1f} GiB for {total} images "
            f"of {source.shape[1]} pixels; free some, link that folder to another disk, or set packed: false"
        )
    images = artifacts.new_array(path, source.shape, np.uint8)
    artifacts.new_array(part / SUMS, source.shape[:1], np.uint32)
    (part / "done.jsonl").touch()
    return images, {}


def _entries(path: Path, total: int) -> Iterator[dict]:
    """What is done of `total` images, up to the line that a kill cut short, or that is of another shape."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json_text.parse(line, path, PackedChunk)
        except artifacts.ArtifactError:
            return
        chunk = range(entry["start"], min(entry["start"] + CHUNK, total))
        if entry["start"] % CHUNK or not chunk or any(int(position) not in chunk for position in entry["corrupt"]):
            return
        yield entry


def _decoded(source: ImageFiles, path: Path, starts: list[int], workers: int) -> Iterator[tuple[int, dict[int, str]]]:
    """Fills the chunks that begin at `starts`, in order: yields each start and its corrupt images."""
    if min(workers, len(starts)) < 2:
        yield from ((start, fill(path, start, _names(source, start), *source.decoding)) for start in starts)
        return
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    pool = ProcessPoolExecutor(min(workers, len(starts)), mp_context=multiprocessing.get_context(method))
    try:
        pending = deque()
        for start in starts:
            pending.append((start, pool.submit(fill, path, start, _names(source, start), *source.decoding)))
            if len(pending) > 2 * workers:
                begun, future = pending.popleft()
                yield begun, future.result()
        yield from ((begun, future.result()) for begun, future in pending)
    finally:
        pool.shutdown(cancel_futures=True)


def _names(source: ImageFiles, start: int) -> list[str]:
    return [str(source.files[i]) for i in range(start, min(start + CHUNK, len(source.files)))]


def fill(path: Path, start: int, names: list[str], image_size: int, crop: int | None) -> dict[int, str]:
    """Decodes files into the array at `path` from position `start` on, and their checksums into the one beside it; gives
    positions and reasons of the corrupt ones."""
    images, sums, corrupt = np.load(path, mmap_mode="r+"), np.load(path.with_name(SUMS), mmap_mode="r+"), {}
    for position, name in enumerate(names, start):
        found = attempt(Path(name), image_size, crop)
        if isinstance(found, str):
            corrupt[position] = found
        images[position] = GREY if isinstance(found, str) else found
        sums[position] = zlib.crc32(images[position])
    images.flush()
    sums.flush()
    return corrupt


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lets one process at a time pass, where the system has locks on files; they end with the process."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f"{folder.name}.lock"), "w") as file:
        try:
            import fcntl  # not on Windows
        except ImportError:
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
