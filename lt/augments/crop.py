"""Random crop after zero padding: for images that must not be mirrored, such as digits."""

import torch

from lt.core.keys import uniform
from lt.core.options import Index
from lt.input.crop_flip_cutout import random_crop


def make(image_size: int, *, padding: Index | None = None):
    """Gives f(images (B, 3, H, W) in [0, 1], keys (B,) int64) -> images of the same shape.

    Each image is padded with black on every side and cut back to its size at a random place.

    padding: pixels on each side; None for an eighth of the image, which is the usual 4 at 32 pixels
    """
    pad = image_size // 8 if padding is None else padding

    def augment(images: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        return random_crop(images, uniform(keys, 2), pad)

    return augment
