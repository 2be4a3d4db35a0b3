"""What the mixes share: Beta draws from a generator, the weighted mean of two batches of images, which labels are trained on."""

from typing import Callable

import numpy as np
import torch

from lt.training.contracts import Mixed


def beta(alpha: float, size: int, generator: torch.Generator) -> torch.Tensor:
    """`size` draws of Beta(alpha, alpha) on the generator's device: (size,) float64 in [0, 1]."""
    # The sampler behind torch.distributions.Beta, which itself takes no generator; float64 since small alphas underflow float32.
    concentration = torch.full((size, 2), alpha, dtype=torch.float64, device=generator.device)
    return torch._sample_dirichlet(concentration, generator)[:, 0]


def factors(alpha: float, size: int, lam_per: str, generator: torch.Generator) -> torch.Tensor:
    """Beta(alpha, alpha) factors, one per 'example' or one for the whole 'batch': (size,) float64."""
    return beta(alpha, size, generator) if lam_per == "example" else beta(alpha, 1, generator).expand(size)


def blend(images: torch.Tensor, partner: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    """lam_i * images_i + (1 - lam_i) * images_partner(i): images (B, 3, H, W), partner (B,) int64, lam (B,) -> (B, 3, H, W)."""
    share = lam.to(images.dtype).view(-1, 1, 1, 1)
    return share * images + (1 - share) * images[partner]


def unmixed(images: torch.Tensor, target: torch.Tensor, epoch: int = 0, generator: torch.Generator | None = None) -> Mixed:
    """The batch as it is, with lam = 1: what the engine does where no mix is given."""
    return Mixed(images, target, target, torch.ones(len(target), dtype=images.dtype, device=images.device))


unmixed.batch_coupled = False


def label_distribution(
    drawn: np.ndarray,
    class_weights: np.ndarray,
    partners: Callable[[int], np.ndarray],
    own_share: Callable[[int], np.ndarray | float],
) -> np.ndarray:
    """How much each class is trained on as a label of mixed batches, q_c, on any scale: (C,) float64.

    The loss of an example of own class a and partner class b is w_a (lam L(a) + (1 - lam) L(b)), which is linear in the labels:

        q_c ~ drawn_c w_c sum_b P(b | c) E[lam | c, b]  +  sum_a drawn_a w_a P(c | a) (1 - E[lam | a, c])

    drawn (C,): probability of a class as an example's own    class_weights w (C,): of an example, by its own class
    partners(a) -> P(. | a) (C,): classes of the partners of class a    own_share(a) -> E[lam | a, .], (C,) or the same for all
    """
    labels = np.zeros(len(drawn))
    for own, weight in enumerate(np.asarray(drawn) * class_weights):
        pairs = weight * partners(own)
        kept = pairs * own_share(own)
        labels += pairs - kept
        labels[own] += kept.sum()
    return labels


def labels_as_drawn(drawn: np.ndarray, class_weights: np.ndarray) -> np.ndarray:
    """The q_c of label_distribution where nothing is mixed: drawn_c w_c."""
    return np.asarray(drawn) * class_weights


def of_a_permutation(drawn: np.ndarray, batch_size: int) -> Callable[[int], np.ndarray]:
    """P(. | a) for label_distribution, where partners are a random permutation of the batch: itself in one of batch_size cases."""
    others = np.asarray(drawn) * (1 - 1 / batch_size)
    return lambda own: others + np.eye(1, len(others), own)[0] / batch_size
