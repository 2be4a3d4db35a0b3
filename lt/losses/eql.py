"""Equalization loss: rare classes are left out of the softmax of other classes' examples, at random."""

import numpy as np
import torch
from torch.nn import functional as F

from lt.core.counts import prior
from lt.core.options import Fraction, OpenFraction
from lt.training.loss import Loss


def make(counts: np.ndarray, *, threshold: Fraction = 0.005, gamma: OpenFraction = 0.9) -> Loss:
    """-log( e^{z_y} / sum_c w_c e^{z_c} ),   w_c = 1 - beta T_c (1 - [y = c]),   T_c = [prior_c < threshold],

    with beta drawn for each example and class, 1 with probability gamma: a rare class is spared most of the gradients by which
    others push it down. The logits embody prior / (1 - gamma) in the rare classes and prior in the rest, up to the scale: these
    minimise the expected loss for every draw of beta at once, where images tell nothing about the class.

    threshold: share of the training part, lambda in the paper: 5e-3 for CIFAR-100-LT, 4.3e-4 for ImageNet-LT; where no class has
        less, this is cross-entropy
    gamma: probability that a rare class is left out

    counts (C,) training images per class, all positive    returns f(logits (B, C), target (B,)) -> (B,), random
    raises ValueError on a class without a training image
    Source: Tan et al. 2020, Equalization Loss for Long-Tailed Object Recognition, section 3.4 (softmax equalization loss).
    """
    return Equalization(counts, threshold, gamma)


class Equalization(Loss):
    random = True

    def __init__(self, counts: np.ndarray, threshold: float, gamma: float):
        rare = prior(counts) < threshold
        super().__init__(counts, logit_prior=prior(counts) / np.where(rare, 1 - gamma, 1))
        self.keep("chance", gamma * rare)

    def per_example(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        own = F.one_hot(target, self.num_classes).bool()
        is_left_out = (self.uniform(logits) < self.chance.to(logits.dtype)) & ~own
        return F.cross_entropy(logits.masked_fill(is_left_out, -torch.inf), target, reduction="none")
