"""Writes a small data set of JPEG files with text lists, whose classes can be learnt: images of mixed sizes, grey and CMYK too.

python -m benchmarks.jpeg_tree data/listfile
"""

import colorsys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lt.core.command import command_line

PATTERNS = 5
SIDES = (48, 160)
GREY_EVERY, CMYK_EVERY = 11, 23


@dataclass(frozen=True)
class Sizes:
    """Images of the parts: train in all, falling from head to tail by `imbalance`, and of each class in val and test."""

    classes: int = 40
    train: int = 2000
    imbalance: float = 50.0
    val_per_class: int = 5
    test_per_class: int = 20

    def counts(self) -> np.ndarray:
        """Train images per class (C,), `train` in all."""
        falling = self.imbalance ** (-np.arange(self.classes) / max(self.classes - 1, 1))
        counts = np.maximum((falling * self.train / falling.sum()).astype(np.int64), 1)
        counts[0] += self.train - counts.sum()
        return counts


def write(folder: Path, sizes: Sizes = Sizes(), corrupt: int = 1, seed: int = 0) -> None:
    """Writes <part>/<class>/<number>.jpg for train, val and test, and the lists <part>.txt, into `folder`.

    corrupt: train images of the largest class that are cut short. The same arguments give the same pixels.
    """
    random = np.random.default_rng(seed)
    held = {"val": sizes.val_per_class, "test": sizes.test_per_class}
    number = 0
    for part in ("train", "val", "test"):
        counts = sizes.counts() if part == "train" else np.full(sizes.classes, held[part])
        names = [f"{part}/{label:03d}/{i:05d}.jpg" for label in range(sizes.classes) for i in range(counts[label])]
        labels = np.repeat(np.arange(sizes.classes), counts)
        for name, label in zip(names, labels):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(label, sizes.classes, number, random).save(path, quality=90)
            number += 1
        lines = [f"{name} {label}\n" for name, label in zip(names, labels)]
        (folder / f"{part}.txt").write_text("".join(lines), encoding="utf-8")
    for i in range(corrupt):
        path = folder / f"train/000/{i:05d}.jpg"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def picture(label: int, num_classes: int, number: int, random: np.random.Generator) -> Image.Image:
    """One image of a class, which has a hue and a pattern of its own; brightness, scale, place and noise vary.

    number: of the image among all; every GREY_EVERY-th is grey, every CMYK_EVERY-th in CMYK
    """
    height, width = random.integers(*SIDES, size=2)
    hue = (label // PATTERNS) / -(-num_classes // PATTERNS)
    colour = 255 * np.array(colorsys.hsv_to_rgb(hue, 0.75, random.uniform(0.6, 1.0)))
    ground = random.uniform(40, 110)
    inside = pattern(label % PATTERNS, height, width, random)[:, :, None]
    pixels = np.where(inside, colour, ground) + random.normal(scale=20, size=(height, width, 1))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if number % GREY_EVERY == 0:
        return image.convert("L")
    return image.convert("CMYK") if number % CMYK_EVERY == 0 else image


def pattern(kind: int, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Mask (H, W): upright, level or slanting stripes, a checkerboard, or a disc, at a random scale and place."""
    rows, columns = np.mgrid[:height, :width] + random.uniform(0, 50, size=(2, 1, 1))
    period = random.uniform(0.2, 0.35) * min(height, width)
    across, down = (columns % period) < period / 2, (rows % period) < period / 2
    if kind == 0:
        return across
    if kind == 1:
        return down
    if kind == 2:
        return ((rows + columns) % period) < period / 2
    if kind == 3:
        return across ^ down
    centre = random.uniform(0.35, 0.65, size=2) * (height, width)
    rows, columns = np.mgrid[:height, :width]
    return np.hypot(rows - centre[0], columns - centre[1]) < random.uniform(0.25, 0.4) * min(height, width)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    write(folder)
    lines = {part: len((folder / f"{part}.txt").read_text().splitlines()) for part in ("train", "val", "test")}
    print(f"{folder}: {lines}")


if __name__ == "__main__":
    main()
