"""Remix: mixup whose label leans to the rarer of the two classes."""

from functools import cache, partial
from typing import Literal

import numpy as np
import torch
from scipy.special import betainc

from lt.core.counts import prior
from lt.core.options import Fraction, Positive
from lt.training import mixing
from lt.training.contracts import Mixed
from lt.training.mixing import blend, factors


def make(
    counts: np.ndarray,
    *,
    alpha: Positive = 1.0,
    kappa: Positive = 3.0,
    tau: Fraction = 0.5,
    lam_per: Literal["batch", "example"] = "batch",
):
    """Gives f(images (B, 3, H, W), target (B,), epoch, generator) -> Mixed: images as in mixup, lam from label_factor.

    alpha: images are blended by Beta(alpha, alpha)    lam_per: one draw for the whole batch, or one per example
    kappa: how many times larger a class must be to give way    tau: share of its image below which it does; 0 is mixup
    raises ValueError where kappa is below 1, or a class has no example
    (source: Chou et al. 2020, Remix: Rebalanced Mixup)
    """
    if kappa < 1:
        raise ValueError(f"remix.kappa: got {kappa}, expected at least 1: a ratio of the larger to the smaller class")
    prior(counts)  # refuses empty classes
    counts_on = cache(lambda where: torch.as_tensor(np.asarray(counts), dtype=torch.float64, device=where))

    def mix(images: torch.Tensor, target: torch.Tensor, epoch: int, generator: torch.Generator) -> Mixed:
        partner = torch.randperm(len(target), generator=generator, device=images.device)
        lam = factors(alpha, len(target), lam_per, generator)
        own = counts_on(target.device)[target]
        label = label_factor(own, own[partner], lam, kappa, tau)
        return Mixed(blend(images, partner, lam), target, target[partner], label.to(images.dtype))

    def label_distribution(drawn: np.ndarray, class_weights: np.ndarray, batch_size: int, epoch: int) -> np.ndarray:
        """E[lam | a, b] = mean_label_factor(n_a, n_b), which moves labels to the rarer class; see lt.mixes."""
        partners, own = mixing.of_a_permutation(drawn, batch_size), np.asarray(counts)
        share = partial(mean_label_factor, partner=own, alpha=alpha, kappa=kappa, tau=tau)
        return mixing.label_distribution(drawn, class_weights, partners, lambda a: share(own[a]))

    mix.label_distribution = label_distribution
    return mix


def label_factor(own: torch.Tensor, partner: torch.Tensor, lam: torch.Tensor, kappa: float, tau: float) -> torch.Tensor:
    """Weight of the own label: 0 where n_i / n_j >= kappa and lam < tau; 1 where n_j / n_i >= kappa and 1 - lam < tau; else lam.

    own, partner: class counts n_i, n_j of the two images    all (B,)
    (source: Chou et al. 2020, Remix: Rebalanced Mixup)
    """
    to_partner = (own >= kappa * partner) & (lam < tau)
    to_own = (partner >= kappa * own) & (1 - lam < tau)
    return torch.where(to_partner, 0.0, torch.where(to_own, 1.0, lam))


def mean_label_factor(own: np.ndarray, partner: np.ndarray, alpha: float, kappa: float, tau: float) -> np.ndarray:
    """E[label_factor] over lam ~ Beta(alpha, alpha): class counts (C,) twice -> (C,).

    The label factor is 0 below `low`, 1 above `high` and lam between them, with low = tau where n_i / n_j >= kappa, else 0, and
    high = 1 - tau where n_j / n_i >= kappa, else 1. With I the regularised incomplete beta function:

        E = (I_high(alpha + 1, alpha) - I_low(alpha + 1, alpha)) / 2 + 1 - I_high(alpha, alpha)
    """
    low = np.where(own >= kappa * partner, tau, 0.0)
    high = np.maximum(np.where(partner >= kappa * own, 1 - tau, 1.0), low)
    return (betainc(alpha + 1, alpha, high) - betainc(alpha + 1, alpha, low)) / 2 + 1 - betainc(alpha, alpha, high)
