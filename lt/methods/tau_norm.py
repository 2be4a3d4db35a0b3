"""tau-normalisation: class vectors are divided by a power of their length; nothing is trained."""

import numpy as np
import torch

from lt.contracts import Inputs, Retrained
from lt.options import NonNegative
from lt.retraining import linear_parts


def fit(inputs: Inputs, *, tau: NonNegative = 1.0) -> Retrained:
    """w_c <- w_c / |w_c|^tau, without bias: long class vectors are what head classes win by.

    tau = 0 keeps the base head's vectors, 1 makes them of unit length. The best tau depends on the data: choose it on a
    validation part, not on the test set.
    The rule has no probabilistic derivation; its `logit_prior` is an approximation: base prior^(1 - tau), uniform for tau >= 1.

    raises ValueError where the base head is not linear, or a class vector is zero
    (source: Kang et al. 2020, Decoupling, equation 4)
    """
    for part in linear_parts(inputs.head, "tau_norm"):
        with torch.no_grad():
            part.weight.copy_(normalised(part.weight, tau))
            if part.bias is not None:
                part.bias.zero_()
    embodied = np.asarray(inputs.logit_prior, dtype=np.float64) ** max(1 - tau, 0.0)
    return Retrained(inputs.head, logit_prior=embodied / embodied.sum())


def normalised(weight: torch.Tensor, tau: float) -> torch.Tensor:
    """w_c / |w_c|^tau: class vectors (C, D) -> (C, D); ValueError where one has no direction."""
    norms = weight.norm(dim=1, keepdim=True)
    if not (norms > 0).all():
        bad = torch.nonzero(~(norms[:, 0] > 0)).flatten().tolist()[:10]
        raise ValueError(
            f"tau_norm: the class vectors of classes {bad} are zero or not a number; train the base model with less weight decay"
        )
    return weight / norms**tau
