"""Random resized crop, horizontal flip and colour jitter: what ImageNet-LT and Places-LT are trained with."""

import math

import torch
from torch.nn import functional as F

from lt.core.keys import uniform
from lt.core.options import Count, Fraction, OpenFraction
from lt.input.crop_flip_cutout import random_flip

RATIO = (3 / 4, 4 / 3)
TRIES = 10
# Weights of red, green and blue in grey (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


def make(image_size: int, *, size: Count | None = None, min_area: OpenFraction = 0.08, jitter: Fraction = 0.4):
    """Gives f(images (B, 3, H, H) in [0, 1], keys (B,) int64) -> images (B, 3, size, size).

    A window of a random share of the area, min_area to 1, and of a random ratio of width to height, 3/4 to 4/3 in logarithm, is
    scaled to `size`; it is mirrored with probability 1/2; then brightness, contrast and saturation, in random order, are each
    multiplied by a factor from 1 - jitter to 1 + jitter. A window that does not fit is drawn anew, up to ten times; after that it
    is the whole image. Scaling is bilinear between pixels.

    size: None for image_size
    (source: Szegedy et al. 2015, Going Deeper with Convolutions; as torchvision's RandomResizedCrop and ColorJitter draw them)
    """
    size = size or image_size

    def augment(images: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        left, top, width, height = windows(uniform(keys, 2 * TRIES + 2), min_area).unbind(1)
        images = scaled(images, left, top, width, height, size)
        draws = uniform(keys, 7, stream=1)
        images = random_flip(images, draws[:, 0])
        return jittered(images, draws[:, 1:4].argsort(dim=1), 1 + jitter * (2 * draws[:, 4:] - 1)) if jitter else images

    return augment


def windows(draws: torch.Tensor, min_area: float) -> torch.Tensor:
    """Left, top, width and height of a window of a square of side 1: draws (B, 2 * TRIES + 2) in [0, 1) -> (B, 4)."""
    area = min_area + (1 - min_area) * draws[:, :TRIES]
    low, high = map(math.log, RATIO)
    ratio = torch.exp(low + (high - low) * draws[:, TRIES : 2 * TRIES])
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=2)
    fits = (sides <= 1).all(2)
    first = fits.int().argmax(1)
    chosen = sides[torch.arange(len(draws), device=draws.device), first]
    chosen = torch.where(fits.any(1, keepdim=True), chosen, torch.ones_like(chosen))
    return torch.cat([(1 - chosen) * draws[:, 2 * TRIES :], chosen], dim=1)


def scaled(
    images: torch.Tensor, left: torch.Tensor, top: torch.Tensor, width: torch.Tensor, height: torch.Tensor, size: int
) -> torch.Tensor:
    """Windows, each (B,) in shares of the image's side, scaled to (B, C, size, size)."""
    middles = (2 * torch.arange(size, device=images.device) + 1) / size - 1  # of the result's pixels, from -1 to 1
    # In the image's coordinates, -1 to 1 as well; not by F.affine_grid, a matrix product, which a GPU may round to TF32.
    x = width[:, None] * middles + (2 * left + width - 1)[:, None]
    y = height[:, None] * middles + (2 * top + height - 1)[:, None]
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=3)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False).clamp_(0, 1)


def jittered(images: torch.Tensor, order: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Brightness, contrast and saturation times factors (B, 3), in the order (B, 3) of their numbers 0, 1, 2."""
    for slot in range(3):
        which = order[:, slot].view(-1, 1, 1, 1)
        factor = factors.gather(1, order[:, slot : slot + 1]).view(-1, 1, 1, 1)
        red, green, blue = images.split(1, dim=1)
        grey = (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
        middle = torch.where(which == 1, grey.mean((2, 3), keepdim=True), grey)  # contrast: its mean; saturation: itself
        ground = torch.where(which == 0, torch.zeros_like(middle), middle)
        images = (images * factor).add_(ground.mul_(1 - factor)).clamp_(0, 1)
    return images
