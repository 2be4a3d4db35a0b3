"""Bayias: cross-entropy compensated for the gap between the training and the test prior."""

import numpy as np

from lt.core.counts import log_prior, uniform
from lt.training.loss import Loss, ShiftedCrossEntropy


def make(counts: np.ndarray, *, test_prior: list[float] | None = None) -> Loss:
    """CE(z + log prior - log test_prior, y). The logits embody the test prior: predict with them as they are.

    With the uniform test prior it equals balanced_softmax and logit_adjust at tau = 1, example by example.

    counts (C,) training images per class, all positive    test_prior (C,) positive, sums to 1; None: uniform
    returns f(logits (B, C), target (B,)) -> (B,)
    raises ValueError on a class without a training image, or a test prior of another length, sum or sign
    Source: Xu et al. 2021, Towards Calibrated Model for Long-Tailed Visual Recognition from Prior Perspective (Bayias loss).
    """
    num_classes = len(counts)
    expected = uniform(num_classes) if test_prior is None else np.asarray(test_prior, dtype=np.float64)
    if expected.shape != (num_classes,) or not (expected > 0).all() or abs(expected.sum() - 1) > 1e-6:
        raise ValueError(
            f"test_prior: got {test_prior}, {expected.size} numbers that sum to {expected.sum():g}; "
            f"expected {num_classes} positive numbers that sum to 1, one per class, or null for the uniform prior"
        )
    return ShiftedCrossEntropy(counts, shift=log_prior(counts) - np.log(expected))
