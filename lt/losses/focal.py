"""Focal loss: examples that the model already has right count less."""

import numpy as np
import torch

from lt.core.options import NonNegative
from lt.training.loss import Loss, focal_loss


def make(counts: np.ndarray, *, gamma: NonNegative = 2.0) -> Loss:
    """-(1 - p_y)^gamma log p_y with p = softmax(z); gamma = 0 is cross-entropy. The logits embody the training prior.

    counts (C,) training images per class, all positive    returns f(logits (B, C), target (B,)) -> (B,)
    raises ValueError on a class without a training image
    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, equation 4, in its softmax form.
    """
    return Focal(counts, gamma)


class Focal(Loss):
    def __init__(self, counts: np.ndarray, gamma: float):
        super().__init__(counts)
        self.gamma = gamma

    def per_example(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return focal_loss(logits, target, self.gamma)
