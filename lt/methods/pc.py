"""PC, post-hoc compensation: the base head's logits, moved from the prior they embody to another."""

import numpy as np

from lt.core.counts import uniform
from lt.core.options import NonNegative, Positive
from lt.retrain.contracts import Inputs, Retrained

STATISTICS = "frozen"


def fit(inputs: Inputs, *, tau: NonNegative = 1.0, target_prior: list[Positive] | None = None) -> Retrained:
    """logits + tau * (log target - log base prior); the head is not changed.

    A base model trained with cross-entropy embodies the training prior, and this is logits - tau log prior up to a constant.
    One whose loss has compensated already embodies the uniform prior, and nothing is added to it: the offset is exactly zero.

    target_prior: one number per class, summing to 1; null is uniform
    `logit_prior` of the result: base prior^(1 - tau) * target^tau, normalised, which is the target for tau = 1
    raises ValueError where target_prior is no distribution over the classes
    (source: Menon et al. 2021, Long-tail learning via logit adjustment, equation 9; Hong et al. 2021, LADE: PC softmax)
    """
    source = np.asarray(inputs.logit_prior, dtype=np.float64)
    target = checked_target(target_prior, len(source))
    # Equal priors may differ in the last digit, from how they were normalised; what is equal must not be moved at all.
    shift = np.where(np.isclose(source, target, rtol=1e-9, atol=0), 0.0, np.log(target) - np.log(source))
    log_embodied = np.log(source) + tau * shift
    embodied = np.exp(log_embodied - log_embodied.max())
    return Retrained(inputs.head, logit_prior=embodied / embodied.sum(), offset=tau * shift)


def checked_target(target_prior: list[float] | None, num_classes: int) -> np.ndarray:
    """The target prior (C,) float64, uniform if None; ValueError where it does not fit."""
    if target_prior is None:
        return uniform(num_classes)
    target = np.asarray(target_prior, dtype=np.float64)
    if target.shape != (num_classes,) or not (target > 0).all() or abs(target.sum() - 1) > 1e-6:
        raise ValueError(
            f"pc.target_prior: got {len(target)} numbers, smallest {target.min(initial=np.inf):g}, sum {target.sum():g}; "
            f"expected {num_classes}, one per class, all positive, summing to 1"
        )
    return target / target.sum()
