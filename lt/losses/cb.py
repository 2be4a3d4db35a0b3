"""Class-balanced loss: examples are weighted by the inverse effective number of images of their class."""

import numpy as np
import torch

from lt.core.counts import effective_number_weights, prior
from lt.core.options import NonNegative, OpenFraction
from lt.training.loss import Loss, focal_loss


def make(counts: np.ndarray, *, beta: OpenFraction = 0.9999, focal_gamma: NonNegative | None = None) -> Loss:
    """w_y * CE(z, y), or w_y * focal(z, y) where focal_gamma is set; w_c in proportion to (1 - beta) / (1 - beta^n_c), sum C.

    The mean over a batch is the plain mean: it is not divided by the batch's sum of weights, as torch's weighted mean would be.
    The logits embody prior * w, close to uniform for beta close to 1.

    counts (C,) training images per class, all positive    returns f(logits (B, C), target (B,)) -> (B,)
    raises ValueError on a class without a training image
    Source: Cui et al. 2019, Class-Balanced Loss Based on Effective Number of Samples.
    """
    return ClassBalanced(counts, beta, focal_gamma or 0.0)


class ClassBalanced(Loss):
    def __init__(self, counts: np.ndarray, beta: float, focal_gamma: float):
        weights = effective_number_weights(counts, beta)
        super().__init__(counts, logit_prior=prior(counts) * weights)
        self.keep("weights", weights)
        self.focal_gamma = focal_gamma

    def per_example(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.weights.to(logits.dtype)[target] * focal_loss(logits, target, self.focal_gamma)
