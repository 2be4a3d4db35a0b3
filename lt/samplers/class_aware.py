"""Classes take turns, each giving a few images in a row: what DRO-LT trains with."""

import math

import numpy as np
import torch

from lt.core.counts import prior
from lt.core.options import Count


class ClassAware:
    """Turns of `group` images of one class; each epoch starts with fresh shuffles; `class_prior` is uniform."""

    def __init__(self, labels: np.ndarray, counts: np.ndarray, batch_size: int, group: int):
        prior(counts)  # refuses empty classes
        counts = np.asarray(counts)
        self.batch_size, self.group = batch_size, group
        self.draws = int(counts.max()) * len(counts)
        self.steps = math.ceil(self.draws / batch_size)
        self.class_prior = np.full(len(counts), 1 / len(counts))
        self.by_class = torch.from_numpy(np.argsort(labels, kind="stable"))
        self.counts = torch.from_numpy(counts.astype(np.int64))
        self.starts = self.counts.cumsum(0) - self.counts

    def epoch(self, generator: torch.Generator, progress: float = 0.0) -> list[torch.Tensor]:
        """Index batches (B,) int64 of one epoch of max_c n_c * C draws; `progress` is not used."""
        turns = math.ceil(self.draws / self.group)
        passes = math.ceil(turns / len(self.counts))
        order = torch.rand(passes, len(self.counts), generator=generator).argsort(dim=1).flatten()[:turns]
        stream, offsets = self._streams(passes * self.group, generator)
        # Each pass visits each class once, so that the pass number says how far a class has read its stream.
        position = offsets[order] + torch.arange(turns) // len(self.counts) * self.group
        index = stream[position[:, None] + torch.arange(self.group)]
        return list(index.flatten()[: self.draws].split(self.batch_size))

    def _streams(self, length: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Per class its images in random order, shuffled anew after each round, at least `length` of them.

        returns all streams one after the other, and where each begins (C,)
        """
        rounds = (length + self.counts - 1) // self.counts
        round_sizes = self.counts.repeat_interleave(rounds)
        round_number = torch.arange(len(round_sizes)).repeat_interleave(round_sizes)
        within = torch.arange(len(round_number)) - (round_sizes.cumsum(0) - round_sizes)[round_number]
        images = self.by_class[self.starts.repeat_interleave(rounds)[round_number] + within]
        shuffled = (round_number + torch.rand(len(images), generator=generator, dtype=torch.float64)).argsort()
        stream_sizes = rounds * self.counts
        return images[shuffled], stream_sizes.cumsum(0) - stream_sizes


def make(labels: np.ndarray, counts: np.ndarray, batch_size: int, *, group: Count = 4) -> ClassAware:
    """Class-aware sampling: the classes in a random cycle, `group` images of the class at each turn.

    The images of a class come in a random cycle of their own, so that each is seen equally often; a class smaller than `group`
    repeats within a turn. An epoch has max_c n_c * C draws, as if every class were as large as the largest: with
    imbalance 100 about five times the data of the other samplers. Memory is linear in that number.

    labels (N,) int64    counts (C,) int64    batch_size >= 1    group >= 1, images of one class in a row
    raises ValueError where a class is empty
    (source: Shen et al. 2016, Relay backpropagation; with group = 4 in Samuel and Chechik 2021, DRO-LT)
    """
    return ClassAware(labels, counts, batch_size, group)
