"""Label-aware smoothing: frequent classes, on which a model grows over-confident, have their labels smoothed more."""

from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from lt.core.counts import prior
from lt.core.options import Fraction
from lt.training.loss import Loss


def make(counts: np.ndarray, *, head: Fraction = 0.4, tail: Fraction = 0.1, over: Literal["all", "others"] = "all") -> Loss:
    """Cross-entropy with the smoothed label (1 - s_y) e_y + s_y u, where u is uniform and

        s_c = tail + (head - tail) sin( pi/2 (n_c - n_min) / (n_max - n_min) ),   s_c = tail where all counts are equal.

    over: u spreads over 'all' classes, the true one among them (the released code), or the C - 1 'others' (the paper)
    The logits embody the training prior, up to the smoothing.

    counts (C,) training images per class, all positive    returns f(logits (B, C), target (B,)) -> (B,)
    raises ValueError on a class without a training image
    Source: Zhong et al. 2021, Improving Calibration for Long-Tailed Recognition (MiSLAS), concave form.
    """
    return LabelAwareSmoothing(counts, head, tail, over)


class LabelAwareSmoothing(Loss):
    def __init__(self, counts: np.ndarray, head: float, tail: float, over: str):
        super().__init__(counts)
        frequency = prior(counts)
        spread = np.ptp(frequency)
        rank = (frequency - frequency.min()) / spread if spread > 0 else np.zeros(self.num_classes)
        smoothing = tail + (head - tail) * np.sin(np.pi / 2 * rank)
        # Spreading s over the C - 1 other classes is spreading s C / (C - 1) over all of them.
        self.keep("smoothing", smoothing * (self.num_classes / (self.num_classes - 1) if over == "others" else 1))

    def per_example(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        log_probs = F.log_softmax(logits, dim=1)
        smoothing = self.smoothing.to(logits.dtype)[target]
        return (1 - smoothing) * F.nll_loss(log_probs, target, reduction="none") - smoothing * log_probs.mean(dim=1)
