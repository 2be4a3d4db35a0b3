"""Batch operations on images (B, C, H, W) that several augmentations share; `draws` are uniform numbers in [0, 1)."""

import torch
from torch.nn import functional as F


def random_crop(images: torch.Tensor, draws: torch.Tensor, pad: int, mode: str = "constant") -> torch.Tensor:
    """Pads by `pad` pixels on each side and cuts back to size: draws (B, 2) place the window.

    mode: as torch's F.pad has it; constant is black, reflect mirrors at the outermost pixels
    """
    top, left = (draws * (2 * pad + 1)).long().unbind(1)
    windows = F.pad(images, (pad, pad, pad, pad), mode=mode).unfold(2, images.shape[2], 1).unfold(3, images.shape[3], 1)
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def random_flip(images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Mirrors left and right where draws (B,) are below 1/2."""
    return torch.where(draws.view(-1, 1, 1, 1) < 0.5, images.flip(3), images)


def cutout(images: torch.Tensor, draws: torch.Tensor, size: int) -> torch.Tensor:
    """Blackens a square of `size` pixels around a random pixel, cut off at the border: draws (B, 2) place its centre.

    Source: DeVries and Taylor 2017, Improved Regularization of Convolutional Neural Networks with Cutout.
    """
    height, width = images.shape[2:]
    top, left = (draws[:, 0] * height).long() - size // 2, (draws[:, 1] * width).long() - size // 2
    rows = torch.arange(height, device=images.device) - top.view(-1, 1)
    columns = torch.arange(width, device=images.device) - left.view(-1, 1)
    hole = ((rows >= 0) & (rows < size)).unsqueeze(2) & ((columns >= 0) & (columns < size)).unsqueeze(1)
    return images.masked_fill(hole.unsqueeze(1), 0.0)
