"""Class weights by the effective number of images, from a given epoch on: class-balanced weighting, deferred or not."""

from functools import cache
from typing import Literal

import numpy as np
import torch

from lt.core.counts import effective_number_weights
from lt.core.options import Index, OpenFraction
from lt.training.contracts import Step
from lt.training.distributed import mean


class ClassBalanced:
    """f(step) -> w_y (B,), ones before `start_epoch`; `class_weights` (C,) is what it does to the class prior in the end."""

    def __init__(self, counts: np.ndarray, beta: float, start_epoch: int, normalize: str):
        self.class_weights = effective_number_weights(counts, beta)
        self.weights_on = cache(lambda where, dtype: torch.as_tensor(self.class_weights, dtype=dtype, device=where))
        self.start_epoch, self.normalize = start_epoch, normalize

    def __call__(self, step: Step) -> torch.Tensor:
        if step.epoch < self.start_epoch:
            return torch.ones_like(step.losses())
        losses = step.losses()
        weights = self.weights_on(losses.device, losses.dtype)[step.target]
        return weights / mean(weights) if self.normalize == "batch" else weights


def make(
    counts: np.ndarray,
    *,
    beta: OpenFraction = 0.9999,
    start_epoch: Index = 0,
    normalize: Literal["sum_c", "batch"] = "sum_c",
) -> ClassBalanced:
    """Weights w_c in proportion to (1 - beta) / (1 - beta^n_c), with sum C.

    start_epoch: first epoch with weights, counted from 0; 0: all; 160 of 200 in LDAM-DRW, deferred re-weighting
    normalize: sum_c takes the weights as they are, and long-tailed batches then have a mean weight below 1; batch divides by the
        batch's mean weight, as a weighted cross-entropy of torch does, and as LDAM-DRW was published
    With a mix, an example has the weight of its own class.
    raises ValueError where a class has no example
    (source: Cui et al. 2019, Class-Balanced Loss Based on Effective Number of Samples; Cao et al. 2019, LDAM)
    """
    return ClassBalanced(counts, beta, start_epoch, normalize)
