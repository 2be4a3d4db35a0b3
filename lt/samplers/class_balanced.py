"""Every class equally often: a uniform class, then a uniform image of it."""

import math

import numpy as np
import torch

from lt.core.counts import prior


class ClassBalanced:
    """Independent draws with replacement, N per epoch; `class_prior` is uniform."""

    def __init__(self, labels: np.ndarray, counts: np.ndarray, batch_size: int):
        self.batch_size = batch_size
        self.steps = math.ceil(len(labels) / batch_size)
        self.class_prior = np.full(len(counts), 1 / len(counts))
        per_image = self.class_prior / (prior(counts) * len(labels))
        self.cumulative = torch.from_numpy(np.cumsum(per_image[labels]))

    def epoch(self, generator: torch.Generator, progress: float = 0.0) -> list[torch.Tensor]:
        """Index batches (B,) int64 of one epoch; `progress` is not used."""
        total = len(self.cumulative)
        draws = torch.rand(total, generator=generator, dtype=torch.float64) * self.cumulative[-1]
        return list(torch.searchsorted(self.cumulative, draws, right=True).clamp_(max=total - 1).split(self.batch_size))


def make(labels: np.ndarray, counts: np.ndarray, batch_size: int) -> ClassBalanced:
    """Class-balanced sampling: p(class c) = 1 / C, p(image) = 1 / (C n_c), with replacement.

    An epoch has as many draws as instance sampling has (N), so that schedules stay comparable.

    labels (N,) int64    counts (C,) int64    batch_size >= 1    raises ValueError where a class is empty
    (source: Kang et al. 2020, Decoupling, section 3.1, q = 0)
    """
    return ClassBalanced(labels, counts, batch_size)
