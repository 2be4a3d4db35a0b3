"""Every image once per epoch, in random order: the natural class frequencies."""

import math

import numpy as np
import torch

from lt.core.counts import prior


class Instance:
    """A fresh permutation per epoch; `class_prior` is n_c / N."""

    def __init__(self, num_examples: int, counts: np.ndarray, batch_size: int, drop_last: bool):
        self.num_examples, self.batch_size = num_examples, batch_size
        self.steps = num_examples // batch_size if drop_last else math.ceil(num_examples / batch_size)
        self.class_prior = prior(counts)

    def epoch(self, generator: torch.Generator, progress: float = 0.0) -> list[torch.Tensor]:
        """Index batches (B,) int64 of one epoch; `progress` is not used."""
        order = torch.randperm(self.num_examples, generator=generator)
        return list(order.split(self.batch_size)[: self.steps])


def make(labels: np.ndarray, counts: np.ndarray, batch_size: int, *, drop_last: bool = False) -> Instance:
    """Instance-balanced sampling: p(class c) = n_c / N, each image exactly once.

    labels (N,) int64    counts (C,) int64, all positive    batch_size >= 1
    drop_last: leave out the last, smaller batch of an epoch
    Raises ValueError where a class is empty, or drop_last leaves no batch at all.
    """
    if drop_last and len(labels) < batch_size:
        raise ValueError(f"batch_size: got {batch_size} with drop_last, expected at most the {len(labels)} training images")
    return Instance(len(labels), counts, batch_size, drop_last)
