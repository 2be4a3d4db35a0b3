"""What a stage-2 method gets: cached features, the base head, and the images for those that train the backbone."""

import itertools
from typing import Any, Callable

import numpy as np
import torch
from torch import nn

from lt.core import artifacts, keys
from lt.core.params import Settings
from lt.core.subset import Subset
from lt.input.part import TrainingPart
from lt.network.classifier import build_head, read_classifier
from lt.retrain.contracts import Inputs, Training
from lt.training import checkpoint
from lt.training.setup import state_parts


def read_inputs(
    subset: Subset, seed: int, device: torch.device, open_training: Callable[[], Training] | None = None
) -> Inputs:
    """What a stage-2 method gets: the cached features of one seed, the base head, and a way to make new heads."""
    folder = artifacts.stage_dir("features", seed)
    base, row = read_classifier(artifacts.stage_dir("base", seed))
    views = artifacts.read_array(folder / "views.npy", dtype="float", mmap=True)
    clean = artifacts.read_array(folder / "clean.npy", dtype="float", mmap=True)
    width = base.head.spec["feature_dim"]
    is_clean = clean.ndim > 1 and (len(clean), clean.shape[-1]) == (len(subset.train_labels), width)
    if not is_clean or views.shape[1:] != clean.shape or not len(views):
        raise artifacts.ArtifactError(
            f"{folder}: got views {views.shape} and clean {clean.shape}, expected (K, N, .., {width}) and (N, .., {width}) with N = "
            f"{len(subset.train_labels)}; run the stage features again"
        )
    val, val_labels = None, None
    if len(subset.val_labels):
        val = artifacts.read_array(folder / "val.npy", shape=(len(subset.val_labels), *clean.shape[1:]), dtype="float", mmap=True)
        val_labels = subset.val_labels
    return Inputs(
        views, clean, subset.train_labels, subset.counts, base.head.to(device), head_maker(base.head.spec, seed, device),
        np.array(row["logit_prior"]), seed, device, open_training, val, val_labels,
    )


def read_test_features(subset: Subset, inputs: Inputs) -> np.ndarray:
    """The cached features of the test part, as wide as those of the training part: (M, D) or (M, E, D), memory-mapped."""
    path = artifacts.stage_dir("features", inputs.seed) / "test.npy"
    return artifacts.read_array(path, shape=(len(subset.test_labels), *inputs.clean.shape[1:]), dtype="float", mmap=True)


def head_maker(spec: dict[str, Any], seed: int, device: torch.device) -> Callable[..., nn.Module]:
    """What Inputs.new_head is where the base head has this spec: each head that it makes starts from draws of its own."""
    made = itertools.count()

    def new_head(name: str | None = None, **options) -> nn.Module:
        own = name in (None, spec["name"]) and not options
        wanted = spec if own else {**spec, "name": name or spec["name"], "options": options}
        return build_head(wanted, keys.derive(seed, "new head", next(made))).to(device)

    return new_head


def training_inputs(settings: Settings, part: TrainingPart, seed: int) -> Training:
    """What a method that trains the backbone gets besides: the images, the base model of this seed, the augmentation.

    raises ValueError where the data set holds embeddings, which no backbone has to make
    """
    if part.split.image_size is None:
        raise ValueError(
            f"this method trains the backbone, and dataset {settings.dataset!r} holds embeddings; leave it out of methods and teachers"
        )
    base, _ = read_classifier(artifacts.stage_dir("base", seed))
    origin = state_parts(settings, part, ("dataset", "augment"), base=checkpoint.digest(base))
    return Training(part.images, part.labels, base.to(part.images.device), settings.plugin("augment", part.split.image_size), origin)
