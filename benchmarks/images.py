"""Photographs as files: decoding and augmentation against the usual loop, and packed images against files."""

import itertools
import sys
import tempfile
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from benchmarks.timing import Row, medians
from lt import keys
from lt.augments import resized_crop
from lt.data import Split
from lt.decode import MEAN, STD, ImageFiles, decode
from lt.engine import augmented
from lt.packed import PackedImages, pack
from lt.streamed import Streamed, to_device

BATCH, STORED, SIZE, JITTER = 64, 256, 224, 0.4
# As most images of ImageNet: files of about 100 kB.
LONG_SIDE, SHORT_SIDE, QUALITY = 500, 375, 92
CPU = torch.device("cpu")


def rows(quick: bool) -> list[Row]:
    """Images per second from files on one core; packing; an epoch of a pack and of files, which the system has in memory."""
    repeats = 1 if quick else 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_photographs(folder, 16 if quick else 256)
        return [decoding_row(files, repeats), packing_row(files, folder, repeats), epoch_row(files, folder, repeats)]


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


def decoding_row(files: list[Path], repeats: int) -> Row:
    """From a file to an augmented image on one core: ours in batches, and image by image as a loader's worker does."""
    with one_thread():
        our_s, plain_s = medians(repeats, lambda: list(ours(files)), lambda: list(plain(files)))
    rates = len(files) / our_s, len(files) / plain_s
    pair = "decoding and augmentation on one core, against torchvision's transforms"
    return Row(pair, *rates, "images/s", rates[0] / rates[1])


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch use one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


def packing_row(files: list[Path], folder: Path, repeats: int) -> Row:
    """Packing by one process, against decoding and nothing else."""
    source, numbers = ImageFiles(files, STORED), itertools.count()

    def packing() -> None:
        with redirect_stdout(sys.stderr):
            pack(source, folder / f"pack-{next(numbers)}", {}, workers=1)

    pack_s, decode_s = medians(repeats, packing, lambda: [decode(file, STORED) for file in files])
    rates = len(files) / pack_s, len(files) / decode_s
    return Row("packing by one process, against decoding alone", *rates, "images/s", rates[0] / rates[1])


def epoch_row(files: list[Path], folder: Path, repeats: int) -> Row:
    """Shuffled batches of all images, read ahead and augmented on all cores as training does, from a pack and from the files."""
    source = ImageFiles(files, STORED)
    packed = PackedImages(source, folder, "photographs", "")
    with redirect_stdout(sys.stderr):
        packed.read(np.arange(1))  # packs them
    packed_s, files_s = medians(repeats, epoch(packed), epoch(source))
    rates = len(files) / packed_s, len(files) / files_s
    return Row("an epoch of packed images, against the files", *rates, "images/s", rates[0] / rates[1], 1.0)


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
