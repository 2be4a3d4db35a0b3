"""Feature extraction against plain inference of the same network."""

import numpy as np
import torch

from benchmarks import sizes
from benchmarks.timing import Row, medians
from lt.augments import crop_flip
from lt.features import fill_views

SIZE = 512


def rows(quick: bool) -> list[Row]:
    """One augmented view of every image, cut from bytes to stored features, against forward passes of ready batches."""
    images, _ = sizes.images(128 if quick else 6 * SIZE)
    model = sizes.resnet32().eval()
    batches = [batch.float() / 255 for batch in images.split(SIZE)]
    views = np.empty((1, len(images), sizes.FEATURE_DIM), np.float32)

    @torch.no_grad()
    def plain() -> None:
        for batch in batches:
            model(batch)

    ours_s, plain_s = medians(1 if quick else 5, lambda: fill_views(views, model, images, crop_flip.make(32), SIZE, 0), plain)
    pair = "feature extraction with augmentation, against plain inference"
    return [Row(pair, ours_s, plain_s, "s", ours_s / plain_s, 1.15, at_least=False)]
