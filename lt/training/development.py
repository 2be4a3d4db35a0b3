"""The development set of meta-learned weightings."""

from dataclasses import replace

import numpy as np
import torch

from lt.core import keys
from lt.evaluate.metrics import places
from lt.input.part import TrainingPart
from lt.input.streamed import Streamed, images_of


def development_split(
    part: TrainingPart, source: str, per_class: int, seed: int
) -> tuple[TrainingPart, tuple[torch.Tensor, torch.Tensor]]:
    """What is left to train on, and the images and labels, class by class, that development batches are drawn from.

    source 'train_resampled': all, twice; 'train_subset': disjoint, with min(per_class, n_c // 2) random images of each class in
    the latter; ValueError where a class has a single image, which cannot be in both; 'train_pool_extra': see further_images
    """
    if source == "train_resampled":
        return part, (part.images, part.labels)
    if source == "train_pool_extra":
        return part, further_images(part, per_class, seed)
    labels, class_counts = part.subset.train_labels, part.subset.counts
    if (class_counts < 2).any():
        alone = np.flatnonzero(class_counts < 2).tolist()[:10]
        raise ValueError(f"dev_source: train_subset needs two images of a class; classes {alone} have one: use train_resampled")
    held_out = random_rank(labels, seed) < np.minimum(per_class, class_counts // 2)[labels]
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


def further_images(part: TrainingPart, per_class: int, seed: int) -> tuple[torch.Tensor | Streamed, torch.Tensor]:
    """`per_class` random images of each class, and their labels, class by class, of those that the subset left out of the data
    set's train part: labelled data that are neither trained on nor in the validation part.

    ValueError where a class has fewer left
    """
    subset, every = part.subset, part.split.labels
    used = [subset.train_index, subset.val_index] if subset.val_part == "train" else [subset.train_index]
    left = np.setdiff1d(np.arange(len(every)), np.concatenate(used))
    labels, available = every[left], np.bincount(every[left], minlength=len(subset.counts))
    if (available < per_class).any():
        few = np.flatnonzero(available < per_class).tolist()[:10]
        raise ValueError(
            f"dev_source: train_pool_extra needs {per_class} images of each class besides the subset; classes {few} have fewer: "
            f"set subset.reserve to {per_class} (with profile exp or step), or use train_resampled"
        )
    chosen = left[random_rank(labels, seed) < per_class]
    chosen = chosen[np.argsort(every[chosen], kind="stable")]
    where = part.images.device
    print(f"{len(chosen)} further labelled images, {per_class} of each class, for development: data that other rows do not have")
    return images_of(part.split, chosen, where), torch.from_numpy(every[chosen]).to(where)


def random_rank(labels: np.ndarray, seed: int) -> np.ndarray:
    """Place of each image in a random order of its class, from 0: labels (N,) -> (N,) int64."""
    noise = torch.rand(len(labels), generator=keys.generator(seed, "development"), dtype=torch.float64)
    order = noise.argsort(stable=True).numpy()
    rank = np.empty_like(order)
    rank[order] = places(labels[order])
    return rank
