"""Logit-adjusted cross-entropy: a margin between classes that grows with the logarithm of their frequency ratio."""

import numpy as np

from lt.core.counts import log_prior
from lt.core.options import NonNegative
from lt.training.loss import Loss, ShiftedCrossEntropy


def make(counts: np.ndarray, *, tau: NonNegative = 1.0) -> Loss:
    """CE(z + tau log prior, y). The logits embody prior^(1 - tau): uniform with tau = 1, an inverted prior with tau > 1.

    Nothing is subtracted at test time: that belongs to the post-hoc form, for logits trained with plain cross-entropy.

    counts (C,) training images per class, all positive    returns f(logits (B, C), target (B,)) -> (B,)
    raises ValueError on a class without a training image
    Source: Menon et al. 2021, Long-Tail Learning via Logit Adjustment, equation 10.
    """
    return ShiftedCrossEntropy(counts, shift=tau * log_prior(counts))
