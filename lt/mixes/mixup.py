"""Mixup: each image is blended with another one of its batch."""

from typing import Literal

import numpy as np
import torch

from lt.core.options import Positive
from lt.training import mixing
from lt.training.contracts import Mixed
from lt.training.mixing import blend, factors


def make(counts, *, alpha: Positive = 1.0, lam_per: Literal["batch", "example"] = "batch"):
    """Gives f(images (B, 3, H, W), target (B,), epoch, generator) -> Mixed:

        image_i = lam x_i + (1 - lam) x_p(i),    targets y_i and y_p(i) with weights lam and 1 - lam

    with p a random permutation of the batch and lam ~ Beta(alpha, alpha).

    lam_per: one lam for the whole batch, as published, or one per example
    (source: Zhang et al. 2018, mixup: Beyond Empirical Risk Minimization)
    """

    def mix(images: torch.Tensor, target: torch.Tensor, epoch: int, generator: torch.Generator) -> Mixed:
        partner = torch.randperm(len(target), generator=generator, device=images.device)
        lam = factors(alpha, len(target), lam_per, generator).to(images.dtype)
        return Mixed(blend(images, partner, lam), target, target[partner], lam)

    def label_distribution(drawn: np.ndarray, class_weights: np.ndarray, batch_size: int, epoch: int) -> np.ndarray:
        """E[lam] = 1/2 for every pair of classes, so that without class weights q is `drawn`; see lt.mixes."""
        return mixing.label_distribution(drawn, class_weights, mixing.of_a_permutation(drawn, batch_size), lambda own: 0.5)

    mix.label_distribution = label_distribution
    return mix
