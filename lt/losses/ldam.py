"""Label-distribution-aware margin (LDAM) loss: rarer classes must win by a larger margin."""

import numpy as np
import torch
from torch.nn import functional as F

from lt.core.options import NonNegative, Positive
from lt.training.loss import Loss, margin_penalty

SAME = {"scale": ("heads.cosine.scale", "both scale the same cosines")}


def make(counts: np.ndarray, *, max_margin: NonNegative = 0.5, scale: Positive = 30.0) -> Loss:
    """CE(z - scale m_y e_y, y) with the margin m_c = max_margin (n_min / n_c)^(1/4). The logits embody the training prior.

    Margins are in units of the cosine, so the logits are expected to be scale * cosine already: use head cosine, and give its
    scale and this one the same value. Deferred re-weighting (DRW) is the weighting's part.

    counts (C,) training images per class, all positive    returns f(logits (B, C), target (B,)) -> (B,)
    raises ValueError on a class without a training image
    Source: Cao et al. 2019, Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss.
    """
    return LDAM(counts, max_margin, scale)


class LDAM(Loss):
    def __init__(self, counts: np.ndarray, max_margin: float, scale: float):
        super().__init__(counts)
        self.keep("penalty", margin_penalty(counts, max_margin, scale))

    def per_example(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        penalty = F.one_hot(target, self.num_classes) * self.penalty.to(logits.dtype)
        return F.cross_entropy(logits - penalty, target, reduction="none")
