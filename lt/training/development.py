"""The development set of meta-learned weightings."""

from dataclasses import replace

import numpy as np
import torch

from lt.core import keys
from lt.input.part import TrainingPart
from lt.input.streamed import Streamed


def development_split(
    part: TrainingPart, source: str, per_class: int, seed: int
) -> tuple[TrainingPart, tuple[torch.Tensor, torch.Tensor]]:
    """What is left to train on, and the images and labels, class by class, that development batches are drawn from.

    source 'train_resampled': all, twice; 'train_subset': disjoint, with min(per_class, n_c // 2) random images of each class in
    the latter; ValueError where a class has a single image, which cannot be in both
    """
    if source == "train_resampled":
        return part, (part.images, part.labels)
    labels, class_counts = part.subset.train_labels, part.subset.counts
    if (class_counts < 2).any():
        alone = np.flatnonzero(class_counts < 2).tolist()[:10]
        raise ValueError(f"dev_source: train_subset needs two images of a class; classes {alone} have one: use train_resampled")
    noise = torch.rand(len(labels), generator=keys.generator(seed, "development"), dtype=torch.float64).numpy()
    rank = np.empty(len(labels), dtype=np.int64)  # of an image within its class
    rank[np.lexsort((noise, labels))] = np.arange(len(labels)) - np.repeat(np.cumsum(class_counts) - class_counts, class_counts)
    held_out = rank < np.minimum(per_class, class_counts // 2)[labels]
    print(f"{held_out.sum()} of {len(labels)} training images are held out for development, and not trained on")
    kept, dev = np.flatnonzero(~held_out), torch.from_numpy(np.flatnonzero(held_out)).to(part.images.device)
    subset = replace(
        part.subset, train_index=part.subset.train_index[kept], train_labels=labels[kept],
        counts=np.bincount(labels[kept], minlength=len(class_counts)),
    )
    index = torch.from_numpy(kept).to(part.images.device)
    images = part.images.only(kept) if isinstance(part.images, Streamed) else part.images[index]
    left = TrainingPart(images, part.labels[index], subset, part.split)
    return left, (part.images[dev], part.labels[dev])
