"""Cached features to draw batches from: among all, class by class, in shuffled order."""

import math
from typing import Iterator

import numpy as np
import torch

from lt.retrain.contracts import Inputs

IN_MEMORY_BYTES = 2**30


class ClassPool:
    """Positions of examples, by class: labels (N,), of which `positions` (all, if None) are in the pool.

    Raises ValueError where a class has no example in the pool.
    """

    def __init__(self, labels: np.ndarray, num_classes: int, positions: np.ndarray | None = None):
        positions = np.arange(len(labels)) if positions is None else np.asarray(positions)
        counts = np.bincount(labels[positions], minlength=num_classes)
        if (counts == 0).any():
            raise ValueError(f"labels: classes {np.flatnonzero(counts == 0).tolist()[:10]} have no example to draw")
        self.by_class = torch.from_numpy(positions[np.argsort(labels[positions], kind="stable")])
        self.counts = torch.from_numpy(counts)
        self.starts = self.counts.cumsum(0) - self.counts

    def draw(self, classes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A uniform example, with replacement, of each of the given classes: (B,) int64 -> positions (B,) int64."""
        uniform = torch.rand(len(classes), generator=generator, dtype=torch.float64)
        return self.by_class[self.starts[classes] + (uniform * self.counts[classes]).long()]

    def draw_balanced(self, batch_size: int, generator: torch.Generator) -> torch.Tensor:
        """Classes in random cycles, each floor(B/C) or ceil(B/C) times, and a uniform example of each: positions (B,) int64."""
        cycles = torch.rand(math.ceil(batch_size / len(self.counts)), len(self.counts), generator=generator)
        return self.draw(cycles.argsort(dim=1).flatten()[:batch_size], generator)


def shuffled_batches(num_examples: int, batch_size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless index batches (B,) of a stream of permutations: every example once in any N draws, all batches of full size."""
    rest = torch.empty(0, dtype=torch.int64)
    while True:
        while len(rest) < batch_size:
            rest = torch.cat([rest, torch.randperm(num_examples, generator=generator)])
        yield rest[:batch_size]
        rest = rest[batch_size:]


class FeatureBank:
    """The cached views of the training part, to draw batches from.

    Views of less than IN_MEMORY_BYTES are held on the device as one tensor; of larger ones only the rows asked for are read.
    Features come out in `dtype`, whatever the cache holds.
    """

    def __init__(self, inputs: Inputs, dtype: torch.dtype):
        self.num_views, self.num_examples = inputs.views.shape[:2]
        self.dtype, self.device = dtype, inputs.device
        self.rows = inputs.views.reshape(-1, *inputs.views.shape[2:])
        self.labels = torch.from_numpy(inputs.labels).to(self.device)
        self.in_memory = self.rows.nbytes < IN_MEMORY_BYTES
        if self.in_memory:
            self.rows = torch.from_numpy(np.array(self.rows)).to(self.device)

    def batch(self, index: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """A random view of each example: index (B,) -> features (B, D) or (B, E, D), labels (B,), on the device."""
        rows = torch.randint(self.num_views, (len(index),), generator=generator) * self.num_examples + index
        if self.in_memory:
            features = self.rows.index_select(0, rows.to(self.device, non_blocking=True))
        else:
            features = torch.from_numpy(self.rows[rows.numpy()]).to(self.device, non_blocking=True)
        return features.to(self.dtype), self.labels[index.to(self.device, non_blocking=True)]
