"""CutMix: a box of each image is replaced by that of another one of its batch."""

import math

import numpy as np
import torch

from lt.core.options import Fraction, Positive
from lt.training import mixing
from lt.training.contracts import Mixed
from lt.training.mixing import beta


def make(counts, *, alpha: Positive = 1.0, probability: Fraction = 0.5):
    """Gives f(images (B, 3, H, W), target (B,), epoch, generator) -> Mixed; every image has a box and a lam of its own.

    The box is sqrt(1 - lam) of the image's height and width, with lam ~ Beta(alpha, alpha), around a random pixel, cut off at
    the border; lam then becomes the share of pixels outside it. The other image comes from a random permutation of the batch.

    probability: share of images that get a box at all; published for CIFAR: 0.5
    (source: Yun et al. 2019, CutMix; there one box, and one choice whether to cut, for the whole batch)
    """

    def mix(images: torch.Tensor, target: torch.Tensor, epoch: int, generator: torch.Generator) -> Mixed:
        partner = torch.randperm(len(target), generator=generator, device=images.device)
        lam = beta(alpha, len(target), generator)
        chance, *centre = torch.rand(3, len(target), generator=generator, dtype=torch.float64, device=images.device)
        lam = torch.where(chance < probability, lam, 1.0)
        inside = boxes(lam, torch.stack(centre, dim=1), *images.shape[2:])
        outside = 1 - inside.double().mean(dim=(1, 2))
        mixed = torch.where(inside.unsqueeze(1), images[partner], images)
        return Mixed(mixed, target, target[partner], outside.to(images.dtype))

    def label_distribution(drawn: np.ndarray, class_weights: np.ndarray, batch_size: int, epoch: int) -> np.ndarray:
        """E[lam] = own_share for every pair of classes, so that without class weights q is `drawn`; see lt.mixes."""
        share = own_share(alpha, probability)
        return mixing.label_distribution(drawn, class_weights, mixing.of_a_permutation(drawn, batch_size), lambda own: share)

    mix.label_distribution = label_distribution
    return mix


def own_share(alpha: float, probability: float) -> float:
    """Mean share of an image outside its box, in the limit of many pixels:

        1 - probability E[(s - s^2 / 4)^2],    s^2 ~ Beta(alpha, alpha)

    A box of side s around a uniform centre keeps s - s^2 / 4 of it inside the image, on average, in each direction.
    """

    def moment(power: float) -> float:
        """E[x^power] of x ~ Beta(alpha, alpha)."""
        return math.exp(math.lgamma(alpha + power) + math.lgamma(2 * alpha) - math.lgamma(alpha) - math.lgamma(2 * alpha + power))

    return 1 - probability * (moment(1) - moment(1.5) / 2 + moment(2) / 16)


def boxes(lam: torch.Tensor, centre: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Masks of the boxes: lam (B,), centre (B, 2) in [0, 1) as shares of height and width -> (B, height, width) bool.

    A box has floor(height * sqrt(1 - lam)) rows, rounded down to an even number, and columns alike: half on each side of the
    centre pixel's upper left corner.
    """

    def covered(length: int, middle: torch.Tensor) -> torch.Tensor:
        half = (length * (1 - lam).sqrt()).long() // 2
        place = torch.arange(length, device=lam.device)
        middle = (middle * length).long()
        return (place >= (middle - half).unsqueeze(1)) & (place < (middle + half).unsqueeze(1))

    return covered(height, centre[:, 0]).unsqueeze(2) & covered(width, centre[:, 1]).unsqueeze(1)
