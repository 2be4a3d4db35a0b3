"""Synthetic images and features of the benchmarks' sizes, CIFAR-100-LT's if not told: what they show does not matter for time."""

import numpy as np
import torch
from torch import nn

from lt.core import keys
from lt.network import classifier
from lt.network.classifier import Classifier
from lt.retrain.contracts import Inputs

FEATURE_DIM = 64


def counts(num_images: int, num_classes: int, imbalance: float = 100.0) -> np.ndarray:
    """Class counts (C,) that fall exponentially, about num_images in sum."""
    falling = imbalance ** (-np.arange(num_classes) / (num_classes - 1))
    return np.maximum(np.rint(falling * num_images / falling.sum()), 1).astype(np.int64)


def images(num_images: int, num_classes: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images (N, 3, 32, 32) and labels (N,)."""
    random = keys.generator("benchmarks", "images")
    return (
        torch.randint(0, 256, (num_images, 3, 32, 32), generator=random, dtype=torch.uint8),
        torch.randint(num_classes, (num_images,), generator=random),
    )


def resnet32(num_classes: int = 100) -> Classifier:
    """An untrained ResNet-32 with a linear head."""
    spec = classifier.classifier_spec("resnet32", {}, "linear", {}, num_classes, (0.5,) * 3, (0.25,) * 3)
    return classifier.build(spec, seed=0)


def features(num_images: int = 10_847, num_classes: int = 100, views: int = 8) -> Inputs:
    """What a stage-2 method gets, with features drawn from a normal distribution."""
    each = counts(num_images, num_classes)
    drawn = np.random.default_rng(0).normal(size=(views, each.sum(), FEATURE_DIM)).astype(np.float32)
    return inputs(drawn, drawn[0], each)


def inputs(views: np.ndarray, clean: np.ndarray, each: np.ndarray, seed: int = 0) -> Inputs:
    """What a stage-2 method gets of views (K, N, D) and clean features (N, D), in the order of the classes; counts (C,)."""
    labels = np.repeat(np.arange(len(each)), each)

    def new_head(name: str | None = None) -> nn.Module:
        spec = {"name": "linear", "options": {}, "feature_dim": views.shape[2], "num_classes": len(each), "num_experts": 1}
        return classifier.build_head(spec, keys.derive(seed, "new head"))

    return Inputs(views, clean, labels, each, new_head(), new_head, each / each.sum(), seed, torch.device("cpu"))
