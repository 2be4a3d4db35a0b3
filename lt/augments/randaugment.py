"""Crop, flip, and random operations of one strength: RandAugment, with Cutout as an option."""

from functools import cache

import torch

from lt.core.keys import uniform
from lt.core.options import Count, Index
from lt.input.autoaugment_ops import NAMES, SIGNED, apply, strengths
from lt.input.crop_flip_cutout import cutout as cut_out, random_crop, random_flip

# All but invert, and the identity as one of them.
DRAWN = tuple(name for name in NAMES if name != "invert")


def make(
    image_size: int,
    *,
    padding: Index | None = None,
    num_ops: Count = 2,
    magnitude: Index = 9,
    bins: Count = 31,
    fill: Index = 128,
    cutout: Index | None = 0,
):
    """Gives f(images (B, 3, H, W) in [0, 1], keys (B,) int64) -> images of the same shape.

    Each image is cropped and mirrored as by crop_flip; then `num_ops` times one of 14 operations (the identity among them) is
    drawn uniformly and applied at level `magnitude` of 0 to bins - 1, with a random sign where it has a direction.

    padding: of the crop, pixels on each side; None for an eighth of the image
    fill: value, 0 to 255, of what an operation moves in from outside the image
    cutout: side in pixels of a black square around a random pixel; 0 for none; None for half the image
    raises ValueError where magnitude is not below bins, or fill above 255

    The operations are defined on bytes: images are rounded to multiples of 1/255, which data sets hold anyway.
    (source: Cubuk et al. 2020, RandAugment; levels as in torchvision)
    """
    if magnitude >= bins:
        raise ValueError(f"randaugment.magnitude: got {magnitude}, expected less than bins ({bins})")
    if fill > 255:
        raise ValueError(f"randaugment.fill: got {fill}, expected a byte, 0 to 255")
    pad = image_size // 8 if padding is None else padding
    hole = image_size // 2 if cutout is None else cutout
    operations = torch.tensor([NAMES.index(name) for name in DRAWN])
    levels = torch.stack([strengths(name, bins, image_size)[magnitude] for name in DRAWN])
    directed = torch.tensor([name in SIGNED for name in DRAWN])
    tables_on = cache(lambda where: [table.to(where) for table in (operations, levels, directed)])

    def augment(images: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        operation, strength, signed = tables_on(images.device)
        placed, square = uniform(keys, 3), uniform(keys, 2, stream=2)
        draws = uniform(keys, 2 * num_ops, stream=1).view(len(keys), num_ops, 2)
        images = random_flip(random_crop(images, placed[:, :2], pad), placed[:, 2])
        chosen = (draws[:, :, 0] * len(DRAWN)).long()
        negative = signed[chosen] & (draws[:, :, 1] < 0.5)
        amount = strength[chosen] * (1 - 2 * negative.double())
        pixels = (images * 255).round()
        for slot in range(num_ops):
            pixels = apply(pixels, operation[chosen[:, slot]], amount[:, slot], fill)
        return cut_out(pixels / 255, square, hole)

    return augment
