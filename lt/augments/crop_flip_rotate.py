"""Random crop, horizontal flip and rotation: what RIDE, and xERM on it, train CIFAR with."""

import torch

from lt.core.keys import uniform
from lt.core.options import Index, NonNegative
from lt.input.autoaugment_ops import WARPS, warp
from lt.input.crop_flip_cutout import random_crop, random_flip


def make(image_size: int, *, padding: Index | None = None, degrees: NonNegative = 15.0):
    """Gives f(images (B, 3, H, W) in [0, 1], keys (B,) int64) -> images of the same shape.

    Crop and flip as crop_flip has them, from the same draws; then each image is turned around its centre by an angle drawn
    uniformly from -degrees to degrees, to the nearest pixels, with black where it leaves its frame.

    padding: pixels on each side; None for an eighth of the image, which is the usual 4 at 32 pixels
    Source: Wang et al. 2021, Long-tailed Recognition by Routing Diverse Distribution-Aware Experts, released code.
    """
    pad = image_size // 8 if padding is None else padding

    def augment(images: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        draws = uniform(keys, 4)
        images = random_flip(random_crop(images, draws[:, :2], pad), draws[:, 2])
        angles = degrees * (2 * draws[:, 3].double() - 1)
        return warp(images, *WARPS["rotate"](angles.view(-1, 1, 1), *images.shape[2:]), fill=0)

    return augment
