"""Image files as RGB squares, decoded when asked for: what data sets of files share. Pillow and numpy only."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Sequence

import numpy as np
from PIL import Image, ImageOps

from lt.core.files import expect_regular

# Of ImageNet, which pretrained models expect; image files are most often photographs.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of image files by their names: those a folder is read from, and others.
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".jp2")
OTHER_IMAGES = (".heic", ".heif", ".jxl")
# Raised where `decode` gives other pixels than before: packs of the old ones are made anew.
VERSION = 2
GREY = 128
THREADS = min(8, os.cpu_count() or 1)
SHOWN = 20


def decode(file: Path, image_size: int, crop: int | None = None) -> np.ndarray:
    """One image file as an RGB square: (image_size, image_size, 3) uint8; the short side scaled, the long side cut evenly.

    Transparent parts become white, 16-bit grey is cut to 8 bits, and the EXIF orientation is honoured.
    crop: side of the centre that is kept; None for all
    """
    expect_regular(file)
    with Image.open(file) as image:
        image.draft("RGB", (2 * image_size, 2 * image_size))  # lets the JPEG decoder skip detail that the scaling would drop
        ImageOps.exif_transpose(image, in_place=True)  # which copies only what has to be turned
        image.load()
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    square = np.asarray(_fitted(image.convert("RGB"), image_size))
    edge = (image_size - (crop or image_size)) // 2
    return square[edge : edge + (crop or image_size), edge : edge + (crop or image_size)]


def _fitted(image: Image.Image, size: int) -> Image.Image:
    """The middle square of an image at size x size: first along rows, then along columns.

    ImageOps.fit does both in one call, whose order is Pillow's to choose; its releases differ in it, and the pixels by one level.
    lt/input/square.py does the same on tensors.
    """
    (width, height), side = image.size, min(image.size)
    left, top = (width - side) / 2, (height - side) / 2
    narrow = image.resize((size, height), Image.Resampling.BILINEAR, box=(left, 0, left + side, height))
    return narrow.resize((size, size), Image.Resampling.BILINEAR, box=(0, top, size, top + side))


def attempt(file: Path, image_size: int, crop: int | None = None) -> np.ndarray | str:
    """The image as decode gives it, or why it cannot be decoded."""
    try:
        return decode(file, image_size, crop)
    except Exception as error:  # Pillow meets broken files with many types of errors, also struct.error and SyntaxError
        return f"{type(error).__name__}: {error}".replace(str(file), Path(file).name)


def undecodable(bad: list[tuple[Path, str]], share: float) -> str:
    """Message for files that cannot be decoded, and why. share: of a part, in [0, 1], that would be let pass"""
    allowed = f", more than max_corrupt {share:g} lets pass" if share else ""
    return listing(f"images cannot be decoded{allowed}; replace or delete them", [f"{file}: {reason}" for file, reason in bad])


def listing(what: str, items: list[str], shown: int = SHOWN) -> str:
    """How many items of what, and the first of them, one per line."""
    more = [f"... and {len(items) - shown} more"] if len(items) > shown else []
    return "\n  ".join([f"{len(items)} {what}:", *items[:shown], *more])


class Corrupt:
    """Images of a part that could not be decoded, each told once; the part keeps a grey square in their place.

    files: of the whole part, in its order    share: in [0, 1], of the part, that may be corrupt
    """

    def __init__(self, files: Sequence[Path], share: float):
        self.files, self.share = files, share
        self.found: dict[int, str] = {}

    def add(self, reasons: dict[int, str]) -> None:
        """Takes note of positions and reasons; ValueError that lists all found so far where they are more than the share."""
        new = {position: reason for position, reason in reasons.items() if position not in self.found}
        self.found |= new
        if len(self.found) > self.share * len(self.files):
            raise ValueError(undecodable([(self.files[position], reason) for position, reason in self.found.items()], self.share))
        if new:
            items = [f"{self.files[position]}: {reason}" for position, reason in new.items()]
            what = f"of {len(self.files)} images cannot be decoded (max_corrupt {self.share:g}); grey squares stand for them"
            print(listing(what, items))


class ImageFiles:
    """Image files that are decoded when asked for, by several threads.

    files: in the order of the labels    image_size: side in pixels    max_corrupt: share of the files that may be corrupt
    packed: whether to decode each only once, into one file of all images (lt/data/packed.py)    crop: as decode takes it
    """

    def __init__(
        self, files: Sequence[Path], image_size: int, max_corrupt: float = 0.0, packed: bool = False, crop: int | None = None
    ):
        self.files, self.packed, self.decoding = files, packed, (image_size, crop)
        self.shape = (len(files), crop or image_size, crop or image_size, 3)
        self.corrupt = Corrupt(files, max_corrupt)

    def read(self, index: np.ndarray) -> np.ndarray:
        """Images of the given positions: index (B,) -> (B, H, W, 3) uint8, grey where the file is corrupt.

        Raises ValueError that lists the corrupt files, where they have become more than the share that may be.
        """
        images = np.empty((len(index), *self.shape[1:]), dtype=np.uint8)
        bad = {}
        with ThreadPoolExecutor(THREADS) as pool:
            results = pool.map(lambda i: attempt(self.files[i], *self.decoding), index)
            for row, (position, result) in enumerate(zip(index, results)):
                if isinstance(result, str):
                    bad[int(position)] = result
                images[row] = GREY if isinstance(result, str) else result
        self.corrupt.add(bad)
        return images
