"""UniMix: mixup whose partners and factors lean to the rare classes."""

from functools import cache
from typing import Literal

import numpy as np
import torch

from lt.contracts import Mixed
from lt.counts import prior
from lt.mixing import beta, blend, unmixed
from lt.options import Count, Fraction, Real


def make(
    counts: np.ndarray,
    *,
    alpha: Fraction = 0.8,
    tau: Real = -0.5,
    stop_epoch: Count | None = None,
    rng: Literal["torch", "numpy_legacy"] = "torch",
):
    """Gives f(images (B, 3, H, W), target (B,), epoch, generator) -> Mixed:

        image_i = lam_i x_i + (1 - lam_i) x_j,    targets y_i and y_j with weights lam_i and 1 - lam_i

    Partners j come from the same batch, with replacement, as partner_probs says; lam_i from unimix_factor with
    b ~ Beta(alpha, alpha).

    alpha: in (0, 1). At 1 the factor is uniform whatever the classes are (with tau = 0 that is mixup with partners drawn with
        replacement and a lam per example); above 1 it would favour the frequent class, and is refused
    tau: below 0, rare classes partner more often: a class of n images is a partner with probability ~ n^(1 + tau), on average
        over batches; published: -0.5 for CIFAR-10-LT, -0.1 for CIFAR-100-LT
    stop_epoch: batches are left unmixed from this epoch on, counted from 0; null for never
    rng: numpy_legacy draws with numpy's RandomState in the order of the released code, see legacy_draws. Each batch has its
        own state, seeded from `generator`, so that a resumed run ends alike; released runs had one stream for all batches

    raises ValueError where alpha is 0, or a class has no example
    (source: Xu et al. 2021, Towards Calibrated Model for Long-Tailed Visual Recognition from Prior Perspective)
    """
    if alpha == 0:
        raise ValueError("unimix.alpha: got 0, expected 0 < alpha <= 1")
    prior(counts)  # refuses empty classes
    counts_on = cache(lambda where: torch.as_tensor(np.asarray(counts), dtype=torch.float64, device=where))

    def mix(images: torch.Tensor, target: torch.Tensor, epoch: int, generator: torch.Generator) -> Mixed:
        if stop_epoch is not None and epoch >= stop_epoch:
            return unmixed(images, target)
        own = counts_on(target.device)[target]
        probs = partner_probs(own, tau)
        if rng == "torch":
            partner = categorical(probs, generator)
            draws = beta(alpha, len(target), generator)
        else:
            seed = torch.randint(2**32, (), generator=generator, device=generator.device).item()
            drawn = legacy_draws(np.random.RandomState(seed), probs.cpu().numpy(), alpha)
            partner, draws = (torch.from_numpy(values).to(target.device) for values in drawn)
        lam = unimix_factor(own, own[partner], draws).to(images.dtype)
        return Mixed(blend(images, partner, lam), target, target[partner], lam)

    return mix


def partner_probs(own: torch.Tensor, tau: float) -> torch.Tensor:
    """Probability that an example of the batch is drawn as a partner, n^tau / sum n^tau: counts of its class (B,) -> (B,)."""
    return (tau * own.double().log()).softmax(0)


def categorical(probs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """B independent draws of 0 ... B - 1 with the given probabilities: (B,) -> (B,) int64.

    Each is the first to finish of B exponential clocks with the rates `probs`; torch.multinomial is not deterministic on a GPU.
    """
    clocks = torch.empty(len(probs), len(probs), dtype=probs.dtype, device=probs.device).exponential_(generator=generator)
    return (clocks / probs).argmin(dim=1)


def unimix_factor(own: torch.Tensor, partner: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Weight of the own image, b + n_j / (n_i + n_j), minus 1 where that exceeds 1: a Beta draw on a circle, moved by the ratio.

    own, partner: class counts n_i, n_j    draws: b in [0, 1]    all (B,); returns (B,) in [0, 1]
    The ratio is where the density has its peak, not its mean: for alpha near 1 the mean stays near 1/2.
    """
    moved = draws + partner / (own + partner)
    return torch.where(moved > 1, moved - 1, moved)


def legacy_draws(random: np.random.RandomState, probs: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """B partners, then B Beta draws, in the released code's order: probs (B,) -> int64 (B,), float64 (B,)."""
    partner = random.choice(len(probs), size=len(probs), p=probs)
    return partner.astype(np.int64), random.beta(alpha, alpha, size=len(probs))
