"""Half-way between natural and balanced: classes in proportion to the square root of their counts."""

import math

import numpy as np
import torch

from lt.core.counts import prior


class SquareRoot:
    """Independent draws with replacement, N per epoch; `class_prior` is proportional to sqrt(n_c)."""

    def __init__(self, labels: np.ndarray, counts: np.ndarray, batch_size: int):
        self.batch_size = batch_size
        self.steps = math.ceil(len(labels) / batch_size)
        natural = prior(counts)
        self.class_prior = np.sqrt(natural) / np.sqrt(natural).sum()
        per_image = self.class_prior / (natural * len(labels))
        self.cumulative = torch.from_numpy(np.cumsum(per_image[labels]))

    def epoch(self, generator: torch.Generator, progress: float = 0.0) -> list[torch.Tensor]:
        """Index batches (B,) int64 of one epoch; `progress` is not used."""
        total = len(self.cumulative)
        draws = torch.rand(total, generator=generator, dtype=torch.float64) * self.cumulative[-1]
        return list(torch.searchsorted(self.cumulative, draws, right=True).clamp_(max=total - 1).split(self.batch_size))


def make(labels: np.ndarray, counts: np.ndarray, batch_size: int) -> SquareRoot:
    """Square-root sampling: p(class c) proportional to n_c^(1/2), uniform within the class, with replacement.

    labels (N,) int64    counts (C,) int64    batch_size >= 1    raises ValueError where a class is empty
    (source: Kang et al. 2020, Decoupling, section 3.1, q = 1/2; Mahajan et al. 2018)
    """
    return SquareRoot(labels, counts, batch_size)
