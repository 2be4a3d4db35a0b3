"""Random crop after padding and horizontal flip: the plain CIFAR augmentation."""

from typing import Literal

import torch

from lt.core.keys import uniform
from lt.core.options import Index
from lt.input.crop_flip_cutout import random_crop, random_flip


def make(image_size: int, *, padding: Index | None = None, padding_mode: Literal["constant", "reflect"] = "constant"):
    """Gives f(images (B, 3, H, W) in [0, 1], keys (B,) int64) -> images of the same shape.

    Each image is padded on every side, cut back to its size at a random place, and mirrored with probability 1/2.

    padding: pixels on each side; None for an eighth of the image, which is the usual 4 at 32 pixels
    padding_mode: constant, black; reflect, the image mirrored at its outermost pixels, as Longtail_DA's release has it
    """
    pad = image_size // 8 if padding is None else padding

    def augment(images: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        draws = uniform(keys, 3)
        return random_flip(random_crop(images, draws[:, :2], pad, padding_mode), draws[:, 2])

    return augment
