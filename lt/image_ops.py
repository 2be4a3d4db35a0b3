"""Batch operations on images (B, C, H, W) that several augmentations share; `draws` are uniform numbers in [0, 1)."""

import torch
from torch.nn import functional as F


def random_crop(images: torch.Tensor, draws: torch.Tensor, pad: int) -> torch.Tensor:
    """Pads with zeros (black) by `pad` pixels on each side and cuts back to size: draws (B, 2) place the window."""
    top, left = (draws * (2 * pad + 1)).long().unbind(1)
    windows = F.pad(images, (pad, pad, pad, pad)).unfold(2, images.shape[2], 1).unfold(3, images.shape[3], 1)
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def random_flip(images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Mirrors left and right where draws (B,) are below 1/2."""
    return torch.where(draws.view(-1, 1, 1, 1) < 0.5, images.flip(3), images)
