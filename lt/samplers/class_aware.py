"""Classes take turns, each giving a few images in a row: what DRO-LT trains with."""

import math

import numpy as np
import torch

from lt.core.counts import prior
from lt.core.options import Count

AT_ONCE = 2**20  # draws, or turns: what is needed besides an epoch's indices stays small, and the draws are the same

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
        index = torch.empty(turns, self.group, dtype=torch.int64)
        within = torch.arange(self.group)
        for first in range(0, turns, AT_ONCE):
            piece = slice(first, min(first + AT_ONCE, turns))
            # Each pass visits each class once, so that the pass number says how far a class has read its stream.
            position = offsets[order[piece]] + torch.arange(piece.start, piece.stop) // len(self.counts) * self.group
            index[piece] = stream[position[:, None] + within]
        return list(index.flatten()[: self.draws].split(self.batch_size))

    def _streams(self, length: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Per class its images in random order, shuffled anew after each round, at least `length` of them.

        returns all streams one after the other, and where each begins (C,)
        """
        rounds = (length + self.counts - 1) // self.counts
        sizes, first_round = rounds * self.counts, rounds.cumsum(0) - rounds
        ends = sizes.cumsum(0)
        stream = torch.empty(int(ends[-1]), dtype=torch.int64)
        cuts = (torch.nonzero((ends // AT_ONCE).diff())[:, 0] + 1).tolist()
        for begin, end in zip([0, *cuts], [*cuts, len(ends)]):
            own = slice(begin, end)
            images, round_number = self._rounds(own, rounds[own])
            drawn = torch.rand(len(images), generator=generator, dtype=torch.float64)
            stream[ends[begin] - sizes[begin] : ends[end - 1]] = images[(first_round[begin] + round_number + drawn).argsort()]
        return stream, ends - sizes

    def _rounds(self, classes: slice, rounds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The images of some classes, each class `rounds` (c,) times, and the number of the round that each stands in."""
        counts = self.counts[classes]
        round_sizes = counts.repeat_interleave(rounds)
        round_number = torch.arange(len(round_sizes)).repeat_interleave(round_sizes)
        within = torch.arange(len(round_number)) - (round_sizes.cumsum(0) - round_sizes)[round_number]
        return self.by_class[self.starts[classes].repeat_interleave(rounds)[round_number] + within], round_number


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
