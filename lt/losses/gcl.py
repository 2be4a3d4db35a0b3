"""Gaussian clouded logits: noise pulls the logits of rare classes down while training, so that they learn to stand higher."""

import numpy as np
import torch
from scipy.special import erfcx, ndtr
from torch.nn import functional as F

from lt.core.counts import log_prior, prior
from lt.core.options import NonNegative, Positive
from lt.training.loss import Loss

SAME = {"scale": ("heads.cosine.scale", "both scale the same cosines")}

DEVIATION = 1 / 3  # of the Gaussian, which is cut off at 1, three of them


def make(counts: np.ndarray, *, scale: Positive = 30.0, noise: NonNegative = 0.5, margin: NonNegative = 0.0) -> Loss:
    """CE(z - scale noise r_c min(|e_c|, 1) - scale margin [y = c], y),   r_c = log(n_max / n_c) / log(n_max / n_min),

    with e_c ~ N(0, 1/9), drawn for each example and class: the largest class has none of the noise, the smallest all of it.
    Noise and margin are in units of the cosine, so the logits are expected to be scale * cosine already: use head cosine, and give
    its scale and this one the same value.

    noise: 0.5 in the released first stage for CIFAR-LT    margin: off the true class; 0 there, 0.1 in its second stage

    The logits embody prior_c / E[exp(-scale noise r_c min(|e_c|, 1))], up to the scale: exact in the limit of rare classes, whose
    share of the softmax is small, and the nearer the smaller the noise.

    counts (C,) training images per class, all positive    returns f(logits (B, C), target (B,)) -> (B,), random
    raises ValueError on a class without a training image
    Source: Li et al. 2022, Long-tailed Visual Recognition via Gaussian Clouded Logit Adjustment, equations 8 to 10, with the
        absolute value of the noise, as released.
    """
    return GaussianClouded(counts, scale, noise, margin)


class GaussianClouded(Loss):
    random = True

    def __init__(self, counts: np.ndarray, scale: float, noise: float, margin: float):
        rarity = log_prior(counts).max() - log_prior(counts)
        amplitude = scale * noise * rarity / (rarity.max() or 1)
        super().__init__(counts, logit_prior=prior(counts) / mean_factor(amplitude))
        self.keep("amplitude", amplitude)
        self.penalty = scale * margin

    def per_example(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        clouds = half_normal(self.uniform(logits)) * self.amplitude.to(logits.dtype)
        return F.cross_entropy(logits - clouds - self.penalty * F.one_hot(target, self.num_classes), target, reduction="none")


def half_normal(uniform: torch.Tensor) -> torch.Tensor:
    """min(|e|, 1) with e ~ N(0, DEVIATION^2), by its quantiles: numbers in [0, 1), any shape -> the same shape."""
    return (DEVIATION * 2**0.5 * torch.erfinv(uniform)).clamp(max=1)


def mean_factor(amplitude: np.ndarray) -> np.ndarray:
    """E[exp(-a min(|e|, 1))] with e ~ N(0, DEVIATION^2): a (C,), 0 or more -> (C,) in (0, 1]."""
    cut = 1 / DEVIATION
    steep = amplitude * DEVIATION
    within = erfcx(steep / 2**0.5) - erfcx((steep + cut) / 2**0.5) * np.exp(-cut * steep - cut**2 / 2)
    return within + 2 * ndtr(-cut) * np.exp(-amplitude)
