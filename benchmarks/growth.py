"""How time and memory grow with twice the images and twice the classes."""

from typing import Callable

import numpy as np

from benchmarks import sizes
from benchmarks.heads import fit
from benchmarks.timing import Row, medians, peak_mib
from lt.augments import crop_flip
from lt.features import fill_views

IMAGES, CLASSES = 10_847, 100


def rows(quick: bool) -> list[Row]:
    """Time and memory of the doubled size by those of the plain one."""
    steps, repeats = (50, 1) if quick else (500, 5)
    found = []
    for method in ("crt", "balms"):
        once = fit(method, sizes.features(IMAGES, CLASSES), steps, {})
        for what, size in (("images", (2 * IMAGES, CLASSES)), ("classes", (IMAGES, 2 * CLASSES))):
            found += compared(f"{method}, twice the {what}", fit(method, sizes.features(*size), steps, {}), once, repeats)
    count = 64 if quick else 1024
    return found + compared("feature extraction, twice the images", extraction(2 * count), extraction(count), repeats)


def extraction(count: int) -> Callable[[], None]:
    """One view of `count` images, as a function."""
    images, _ = sizes.images(count)
    model, views = sizes.resnet32().eval(), np.empty((1, count, sizes.FEATURE_DIM), np.float32)
    return lambda: fill_views(views, model, images, crop_flip.make(32), 256, 0)


def compared(pair: str, twice: Callable, once: Callable, repeats: int) -> list[Row]:
    """Time and memory of both."""
    twice_s, once_s = medians(repeats, twice, once)
    twice_mib, once_mib = peak_mib(twice), peak_mib(once)
    return [
        Row(f"{pair}: time", twice_s, once_s, "s", twice_s / once_s, 2.2, at_least=False),
        Row(f"{pair}: memory", twice_mib, once_mib, "MiB", twice_mib / once_mib),
    ]
