"""UniMix: mixup whose partners and factors lean to the rare classes."""

from functools import cache
from typing import Callable, Literal

import numpy as np
import torch
from scipy.special import betainc

from lt.core.counts import prior
from lt.core.options import Count, Fraction, Real
from lt.training import mixing
from lt.training.contracts import Mixed
from lt.training.mixing import beta, blend, labels_as_drawn, unmixed


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

    def label_distribution(drawn: np.ndarray, class_weights: np.ndarray, batch_size: int, epoch: int) -> np.ndarray:
        """P(b | a) of partner_classes, which leans to the tail, and E[lam | a, b] of mean_factor; see lt.mixes."""
        if stop_epoch is not None and epoch >= stop_epoch:
            return labels_as_drawn(drawn, class_weights)
        own = np.asarray(counts, dtype=np.float64)
        partners = partner_classes(drawn, own**tau, batch_size)
        return mixing.label_distribution(drawn, class_weights, partners, lambda a: mean_factor(own[a], own, alpha))

    mix.label_distribution = label_distribution
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


def mean_factor(own: np.ndarray, partner: np.ndarray, alpha: float) -> np.ndarray:
    """E[unimix_factor] over b ~ Beta(alpha, alpha): 1/2 + r - I_r(alpha, alpha) with r = n_j / (n_i + n_j).

    own n_i, partner n_j: class counts, (C,) or one number; returns (C,)
    Since b + r is beyond 1, and loses 1, with probability 1 - I_(1 - r) = I_r, the regularised incomplete beta function.
    """
    ratio = partner / (own + partner)
    return 0.5 + ratio - betainc(alpha, alpha, ratio)


def partner_classes(drawn: np.ndarray, pull: np.ndarray, batch_size: int) -> Callable[[int], np.ndarray]:
    """P(b | a), the classes of the partners that an example of class a finds in a batch of B - 1 others and itself.

    An example of class c is a partner with probability v_c over the sum of v in its batch. With 1 / x = integral of exp(-t x)
    over t > 0, and phi(t) = sum_c drawn_c exp(-t v_c) for each of the others, who are drawn independently:

        P(b | a) = [a = b] integral v_a exp(-t v_a) phi(t)^(B-1) dt
                   + (B-1) drawn_b integral v_b exp(-t (v_a + v_b)) phi(t)^(B-2) dt

    In large batches that is drawn_b v_b / sum_c drawn_c v_c; in small ones the rare are often absent, and are partners less often.

    drawn (C,): probability of a class    pull v (C,), positive, on any scale    returns f(a) -> (C,), which sums to 1
    """
    # The trapezoid rule over log t: the integrands are mixtures of x exp(-t x) with x from B min v to B max v, for each of which
    # steps of 1/4 are exact to 1e-16, and the ends to 1e-13.
    ends = 1e-13 / (batch_size * pull.max()), 40 / (batch_size * pull.min())
    times = np.exp(np.arange(*np.log(ends), 0.25))
    decay, steps = np.exp(-np.outer(pull, times)), 0.25 * times
    phi = drawn @ decay

    def probs(own: int) -> np.ndarray:
        weights = steps * decay[own]
        others = (batch_size - 1) * drawn * pull * (decay @ (weights * phi ** max(batch_size - 2, 0)))
        others[own] += pull[own] * (weights @ phi ** (batch_size - 1))
        return others

    return probs
