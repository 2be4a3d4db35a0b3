"""Balanced softmax: the class counts are part of the softmax while training, and absent from it at test time."""

import numpy as np

from lt.core.counts import log_prior
from lt.core.options import NonNegative
from lt.training.loss import Loss, ShiftedCrossEntropy


def make(counts: np.ndarray, *, tau: NonNegative = 1.0) -> Loss:
    """-log( n_y^tau e^{z_y} / sum_c n_c^tau e^{z_c} ), the cross-entropy of z + tau log n.

    With tau = 1 the logits embody the uniform prior: predict with them as they are. In general it is prior^(1 - tau); tau = 0.25
    is the paper's margin-theory variant, tau = 0 is cross-entropy.

    counts (C,) training images per class, all positive    returns f(logits (B, C), target (B,)) -> (B,)
    raises ValueError on a class without a training image
    Source: Ren et al. 2020, Balanced Meta-Softmax for Long-Tailed Visual Recognition, theorem 1 (tau = 0.25: corollary 2.1).
    """
    # Frequencies for counts: the softmax does not see a common factor.
    return ShiftedCrossEntropy(counts, shift=tau * log_prior(counts))
