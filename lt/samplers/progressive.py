"""From natural to balanced class frequencies in the course of training."""

import math

import numpy as np
import torch

from lt.core.counts import prior


class Progressive:
    """Independent draws with replacement, N per epoch; `class_prior` is what it ends with, uniform."""

    def __init__(self, labels: np.ndarray, counts: np.ndarray, batch_size: int):
        self.labels, self.batch_size = labels, batch_size
        self.steps = math.ceil(len(labels) / batch_size)
        self.natural = prior(counts)
        self.class_prior = np.full(len(counts), 1 / len(counts))

    def epoch(self, generator: torch.Generator, progress: float) -> list[torch.Tensor]:
        """Index batches (B,) int64 of the epoch that begins at `progress` in [0, 1] of training."""
        if not 0 <= progress <= 1:
            raise ValueError(f"progress: got {progress}, expected the share of epochs done, 0 to 1")
        total = len(self.labels)
        now = (1 - progress) * self.natural + progress * self.class_prior
        cumulative = torch.from_numpy(np.cumsum((now / (self.natural * total))[self.labels]))
        draws = torch.rand(total, generator=generator, dtype=torch.float64) * cumulative[-1]
        return list(torch.searchsorted(cumulative, draws, right=True).clamp_(max=total - 1).split(self.batch_size))


def make(labels: np.ndarray, counts: np.ndarray, batch_size: int) -> Progressive:
    """Progressively balanced sampling: p(class c) = (1 - t/T) n_c / N + (t/T) / C in epoch t of T, with replacement.

    labels (N,) int64    counts (C,) int64    batch_size >= 1    raises ValueError where a class is empty
    (source: Kang et al. 2020, Decoupling, equation 2)
    """
    return Progressive(labels, counts, batch_size)
