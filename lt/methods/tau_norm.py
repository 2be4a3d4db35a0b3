"""tau-normalisation: class vectors are divided by a power of their length; nothing is trained."""

import numpy as np

from lt.contracts import Inputs, Retrained
from lt.decoupling import normalise
from lt.options import NonNegative


def fit(inputs: Inputs, *, tau: NonNegative = 1.0) -> Retrained:
    """w_c <- w_c / |w_c|^tau, without bias: long class vectors are what head classes win by.

    tau = 0 keeps the base head's vectors, 1 makes them of unit length. The best tau depends on the data: choose it on a
    validation part, not on the test set.
    The rule has no probabilistic derivation; its `logit_prior` is an approximation: base prior^(1 - tau), uniform for tau >= 1.

    raises ValueError where the base head is not linear, or a class vector is zero
    (source: Kang et al. 2020, Decoupling, equation 4)
    """
    normalise(inputs.head, tau, "tau_norm")
    embodied = np.asarray(inputs.logit_prior, dtype=np.float64) ** max(1 - tau, 0.0)
    return Retrained(inputs.head, logit_prior=embodied / embodied.sum())
