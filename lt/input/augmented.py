"""Augmentation keyed by seed and position."""

from typing import Callable

import torch

from lt.core import keys
from lt.input.streamed import to_float


def augmented(images: torch.Tensor, augment: Callable, seed: int, positions: torch.Tensor) -> torch.Tensor:
    """uint8 images (B, 3, H, W) -> augmented float images in [0, 1]; each image's draws depend on seed and its position only."""
    return augment(to_float(images), keys.example_keys(seed, positions))
