"""Crop, flip, the AutoAugment policy found on CIFAR-10, and Cutout: the strong CIFAR augmentation of BALMS and DRO-LT."""

from functools import cache

import torch

from lt.core.keys import uniform
from lt.core.options import Index
from lt.input.autoaugment_ops import NAMES, SIGNED, apply, strengths
from lt.input.crop_flip_cutout import cutout as cut_out, random_crop, random_flip

LEVELS = 10

# Two operations each, applied one after the other: (name, probability, level 0 to 9).
POLICY = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("color", 0.9, 9), ("equalize", 0.6, 0)),
    (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
)


def make(image_size: int, *, padding: Index | None = None, fill: Index = 128, cutout: Index | None = None):
    """Gives f(images (B, 3, H, W) in [0, 1], keys (B,) int64) -> images of the same shape.

    Each image is cropped and mirrored as by crop_flip; gets one of 25 pairs of operations, each of the two applied with its own
    probability and, where it has a direction, a random sign; and loses a black square around a random pixel.

    padding: of the crop, pixels on each side; None for an eighth of the image
    fill: value, 0 to 255, of what an operation moves in from outside the image    cutout: side of the square in pixels, cut off
    at the border; 0 for none; None for half the image, which is the usual 16 at 32 pixels
    raises ValueError where fill is above 255

    The operations are defined on bytes: images are rounded to multiples of 1/255, which data sets hold anyway.
    (source: Cubuk et al. 2019, AutoAugment, appendix; DeVries and Taylor 2017, Cutout; in this order in Ren et al. 2020, BALMS)
    """
    if fill > 255:
        raise ValueError(f"autoaugment_cutout.fill: got {fill}, expected a byte, 0 to 255")
    pad = image_size // 8 if padding is None else padding
    hole = image_size // 2 if cutout is None else cutout
    policies = _policy(image_size)
    policies_on = cache(lambda where: [part.to(where) for part in policies])

    def augment(images: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        operation, probability, strength = policies_on(images.device)
        placed, policy, square = uniform(keys, 3), uniform(keys, 5, stream=1), uniform(keys, 2, stream=2)
        images = random_flip(random_crop(images, placed[:, :2], pad), placed[:, 2])
        pair = (policy[:, 0] * len(POLICY)).long()
        drawn = torch.where(policy[:, 1:3] < probability[pair], operation[pair], 0)
        # The second of the last axis is for positive signs; unsigned operations have the same strength in both.
        signed = strength[pair].gather(2, (policy[:, 3:5] >= 0.5).long().unsqueeze(2)).squeeze(2)
        pixels = (images * 255).round()
        for slot in range(2):
            pixels = apply(pixels, drawn[:, slot], signed[:, slot], fill)
        return cut_out(pixels / 255, square, hole)

    return augment


def _policy(image_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """POLICY as tensors: operation (25, 2) int64, probability (25, 2), strength (25, 2, 2) with negative and positive sign."""
    operation = torch.tensor([[NAMES.index(name) for name, _, _ in pair] for pair in POLICY])
    probability = torch.tensor([[chance for _, chance, _ in pair] for pair in POLICY])
    strength = torch.tensor(
        [[strengths(name, LEVELS, image_size)[level].item() for name, _, level in pair] for pair in POLICY], dtype=torch.float64
    )
    sign = torch.tensor([[-1.0 if name in SIGNED else 1.0 for name, _, _ in pair] for pair in POLICY])
    return operation, probability, torch.stack([strength * sign, strength], dim=2)
