"""The robust loss of DRO-LT: examples of a class gather at a centroid that is known only up to a radius eps."""

import numpy as np
import torch
from torch.nn import functional as F

from lt.counts import prior

ROWS_AT_ONCE = 8192


def robust_loss(
    features: torch.Tensor,
    target: torch.Tensor,
    centroids: torch.Tensor,
    eps: torch.Tensor,
    temperature: float,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Negative log-likelihood of a class's examples, among all of the batch, given its centroid, in the worst case within eps:

        s_ci  = -( |m_c - f_i| + eps_c [y_i = c] ) / T
        l_c   = -mean over i of class c of  log( exp(s_ci) / sum_j exp(s_cj) ),    j over the whole batch
        loss  = sum_c w_c l_c / sum_c w_c,                                         c over the classes in the batch

    The softmax runs over the examples, not over the classes: the loss of an example depends on the rest of its batch. Its
    derivative by eps_c is never negative, so that an eps which is trained without a constraint only falls, and loosens the loss.

    features (B, D)    target (B,)    centroids m (C, D), eps (C,): of every class    temperature T > 0
    class_weights w (C,): all ones if None    returns a scalar
    (source: Samuel and Chechik 2021, Distributional Robustness Loss for Long-tail Learning, section 4; factor 2 on eps there)
    """
    own = F.one_hot(target, len(centroids)).T.to(features.dtype)
    # Not by matrix products, whose cancellation blurs small distances.
    distances = torch.cdist(centroids.to(features.dtype), features, compute_mode="donot_use_mm_for_euclid_dist")
    log_likelihood = F.log_softmax(-(distances + eps.to(features.dtype)[:, None] * own) / temperature, dim=1)
    sizes = own.sum(1)
    per_class = -(own * log_likelihood).sum(1) / sizes.clamp(min=1)
    weights = (sizes > 0).to(features.dtype)
    if class_weights is not None:
        weights = weights * class_weights.to(features.dtype)
    return (weights * per_class).sum() / weights.sum()


def initial_eps(mode: str, mean: float, counts: np.ndarray) -> np.ndarray:
    """The radii (C,) to begin with, `mean` on average: equal, or for mode 'count' in proportion to n_c^(-1/2)."""
    shape = prior(counts) ** -0.5 if mode == "count" else np.ones(len(counts))
    return mean * shape / shape.mean()


def class_centroids(features: torch.Tensor, target: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Mean feature of each class, summed in float64 and in a fixed order: features (N, D), target (N,) -> (C, D).

    Raises ValueError where a class has no example.
    """
    sums = torch.zeros(num_classes, features.shape[1], dtype=torch.float64, device=features.device)
    for rows, classes in zip(features.split(ROWS_AT_ONCE), target.split(ROWS_AT_ONCE)):
        sums += F.one_hot(classes, num_classes).T.double() @ rows.double()
    sizes = F.one_hot(target, num_classes).sum(0)
    if not sizes.all():
        empty = torch.nonzero(sizes == 0).flatten().tolist()
        raise ValueError(f"target: classes {empty[:10]} have no example, expected one or more of each class")
    return (sums / sizes[:, None]).to(features.dtype)


def nearest_centroid_accuracy(features: torch.Tensor, target: torch.Tensor, centroids: torch.Tensor) -> float:
    """Mean over classes of the share of examples whose own centroid has the largest cosine: (N, D), (N,), (C, D) -> 0 to 1."""
    nearest = torch.cat([
        F.linear(F.normalize(rows, dim=1), F.normalize(centroids, dim=1)).argmax(1) for rows in features.split(ROWS_AT_ONCE)
    ])
    sizes = torch.bincount(target, minlength=len(centroids))
    right = torch.bincount(target[nearest == target], minlength=len(centroids))
    return (right / sizes.clamp(min=1)).sum().item() / (sizes > 0).sum().item()
