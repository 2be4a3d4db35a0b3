"""Photographs as files: decoding and augmentation against the usual loop, and packed images against files."""

import itertools
import json
import os
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from benchmarks.apart import measure_apart
from benchmarks.timing import Row, medians
from lt.augments import resized_crop
from lt.core import keys, manifest
from lt.core.command import keep_freed_memory
from lt.data.decode import MEAN, STD, ImageFiles, decode
from lt.data.packed import PackedImages, pack
from lt.data.split import Split
from lt.input.augmented import augmented
from lt.input.streamed import Streamed, to_device

BATCH, STORED, SIZE, JITTER = 64, 256, 224, 0.4
# As most images of ImageNet: files of about 100 kB.
LONG_SIDE, SHORT_SIDE, QUALITY = 500, 375, 92
CPU = torch.device("cpu")
# What is measured, and its bar.
JOBS = {
    "decoding": ("decoding and augmentation on one core, against torchvision's transforms", None),
    "augmentation": ("the same from a pack, whose images are decoded once, against torchvision's transforms on files", 1.0),
    "packing": ("packing by one process, against decoding alone", None),
    "epoch": ("an epoch of packed images, against the files", 1.0),
    "checksums": ("reading packed images and comparing their checksums, against reading them alone", None),
}


def rows(quick: bool) -> list[Row]:
    """Images per second, each job in a process of its own, where it is quick the first three; the files are in the system's memory."""
    repeats = 1 if quick else 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photographs(folder, 16 if quick else 256)
        jobs = [*JOBS.items()][: 3 if quick else None]
        return [rates_row(pair, len(files_of(folder)), bar, job, folder, repeats) for job, (pair, bar) in jobs]


def rates_row(pair: str, count: int, bar: float | None, job: str, folder: Path, repeats: int) -> Row:
    """What a job gave, as images per second."""
    measured = measure_apart("benchmarks.images", folder, job, repeats)
    rates = count / measured["ours_s"], count / measured["other_s"]
    return Row(pair, *rates, "images/s", rates[0] / rates[1], bar)


def measure(folder: Path, job: str, repeats: int) -> dict[str, float]:
    """ours_s, other_s: medians, for all photographs of the folder. Freed memory is kept, as in stages, for both ways."""
    keep_freed_memory()
    if job != "epoch":
        torch.set_num_threads(1)
    make = {"decoding": decoding, "augmentation": augmentation, "packing": packing, "epoch": epochs, "checksums": checksums}[job]
    with redirect_stdout(sys.stderr):
        our_s, other_s = medians(repeats, *make(files_of(folder), folder))
    return {"ours_s": our_s, "other_s": other_s}


def files_of(folder: Path) -> list[Path]:
    """The photographs, in order."""
    return sorted(folder.glob("*.jpg"))


def write_photographs(folder: Path, count: int) -> list[Path]:
    """JPEG files, upright and level in turns."""
    random, files = np.random.default_rng(0), [folder / f"{i:05d}.jpg" for i in range(count)]
    for i, file in enumerate(files):
        sides = (LONG_SIDE, SHORT_SIDE) if i % 2 else (SHORT_SIDE, LONG_SIDE)
        photograph(*sides, random).save(file, quality=QUALITY)
    return files


def photograph(width: int, height: int, random: np.random.Generator) -> Image.Image:
    """Noise of many scales, the finer the fainter, as what is photographed has it: as many bytes and as slow to decode."""
    pixels = np.full((height, width, 3), 128.0)
    for cell in (1, 2, 8, 32, 128):
        coarse = random.normal(size=(-(-height // cell), -(-width // cell), 3)).clip(-2, 2)
        noise = Image.fromarray((128 + 63 * coarse).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        pixels += 12 * cell**0.4 * (np.asarray(noise) / 63 - 128 / 63)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def decoding(files: list[Path], folder: Path) -> tuple[Callable, Callable]:
    """From a file to an augmented image: ours in batches, and image by image as a loader's worker does."""
    return lambda: list(ours(files)), lambda: list(plain(files))


def augmentation(files: list[Path], folder: Path) -> tuple[Callable, Callable]:
    """From a pack to an augmented image, which is what a second epoch does, and what a loader's worker does in every epoch."""
    images, augment = packed(files, folder), resized_crop.make(STORED, size=SIZE, jitter=JITTER)

    def augment_all() -> None:
        for index in torch.arange(len(files)).split(BATCH):
            augmented(to_device(images.read(index.numpy()), CPU), augment, 0, index)

    return augment_all, lambda: list(plain(files))


def ours(files: list[Path]) -> Iterator[torch.Tensor]:
    """Augmented batches (B, 3, SIZE, SIZE), decoded one after the other."""
    augment = resized_crop.make(STORED, size=SIZE, jitter=JITTER)
    for start in range(0, len(files), BATCH):
        squares = np.stack([decode(file, STORED) for file in files[start : start + BATCH]])
        yield augmented(to_device(squares, CPU), augment, 0, torch.arange(start, start + len(squares)))


def plain(files: list[Path]) -> Iterator[torch.Tensor]:
    """The same as one worker of the usual loop makes them."""
    transform = transforms.Compose([
        transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(JITTER, JITTER, JITTER), transforms.ToTensor(),
    ])
    for start in range(0, len(files), BATCH):
        yield torch.stack([transform(Image.open(file).convert("RGB")) for file in files[start : start + BATCH]])


def packing(files: list[Path], folder: Path) -> tuple[Callable, Callable]:
    """Packing by one process, and decoding and nothing else."""
    source, numbers = ImageFiles(files, STORED), itertools.count()
    return (
        lambda: pack(source, folder / f"pack-{next(numbers)}", {}, workers=1), lambda: [decode(file, STORED) for file in files]
    )


def packed(files: list[Path], folder: Path) -> PackedImages:
    """The photographs' pack, made where it is not there yet."""
    images = PackedImages(ImageFiles(files, STORED), folder, "photographs", "")
    images.read(np.arange(1))
    return images


def checksums(files: list[Path], folder: Path) -> tuple[Callable, Callable]:
    """All packed images in batches, each compared with its crc32 as stages do, and not compared."""
    images, order = packed(files, folder), np.arange(len(files))

    def reader(verify: str) -> Callable[[], None]:
        def read() -> None:
            os.environ[manifest.VARIABLE] = verify
            for start in range(0, len(files), BATCH):
                images.read(order[start : start + BATCH])

        return read

    return reader("1"), reader("0")


def epochs(files: list[Path], folder: Path) -> tuple[Callable, Callable]:
    """Shuffled batches of all images, read ahead and augmented on all cores as training does, from a pack and from the files."""
    return epoch(packed(files, folder)), epoch(ImageFiles(files, STORED))


def epoch(images: ImageFiles | PackedImages) -> Callable[[], None]:
    """One epoch without the network, as a function."""
    split = Split(images, np.zeros(images.shape[0], dtype=np.int64), ("any",), MEAN, STD)
    streamed, augment = Streamed(split, np.arange(len(split.labels)), CPU), resized_crop.make(STORED, size=SIZE, jitter=JITTER)

    def run() -> None:
        batches = list(torch.randperm(len(streamed), generator=keys.generator("benchmarks", "epoch")).split(BATCH))
        streamed.expect(batches)
        for batch in batches:
            augmented(streamed[batch], augment, 0, batch)

    return run


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
