"""The training part as a training sees it: images and labels on the device."""

from dataclasses import dataclass

import torch

from lt.core.subset import Subset
from lt.data.split import Split
from lt.input.streamed import Streamed, images_of


@dataclass(frozen=True)
class TrainingPart:
    """The long-tailed training part: images (N, 3, H, W) uint8, on the device or read batch by batch, labels (N,) int64 on the
    device, in the subset's order."""

    images: torch.Tensor | Streamed
    labels: torch.Tensor
    subset: Subset
    split: Split


def training_part(split: Split, subset: Subset, where: torch.device) -> TrainingPart:
    """The subset's images, kept on the device as uint8, or streamed where they are too many for that."""
    images = images_of(split, subset.train_index, where)
    return TrainingPart(images, torch.from_numpy(subset.train_labels).to(where), subset, split)
