"""A network trained on real images, scikit-learn's digits made long-tailed, for benchmarks that are about accuracy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import torch

from lt import subsample
from lt.augments import crop
from lt.core.params import TrainingSettings
from lt.datasets.digits import open_split
from lt.features import features_of
from lt.input.streamed import to_device
from lt.losses import ce
from lt.network import classifier
from lt.network.classifier import Classifier
from lt.samplers import instance
from lt.training.engine import Run, train as train_network
from lt.training.objective import Supervised

IMBALANCE = 50.0


@dataclass(frozen=True)
class Trained:
    """The network, its augmentation, training images (N, 3, 8, 8) uint8, class by class, counts (C,); test features, labels."""

    model: Classifier
    augment: Callable
    images: torch.Tensor
    counts: np.ndarray
    test_features: np.ndarray
    test_labels: np.ndarray


def train(epochs: int) -> Trained:
    """A ResNet-8 with cross-entropy, by the settings of the default params.yaml."""
    part, test, cpu = open_split(Path("."), "train"), open_split(Path("."), "test"), torch.device("cpu")
    each = subsample.profile("exp", np.bincount(part.labels), IMBALANCE)
    index = subsample.draw(part.labels, each, seed=0)
    images, labels, augment = to_device(part.read(index), cpu), part.labels[index], crop.make(part.image_size)
    model = classifier.build(classifier.classifier_spec("resnet8", {}, "linear", {}, len(each), part.mean, part.std), seed=0)
    settings = TrainingSettings(
        epochs=epochs, batch_size=64, lr=0.1, momentum=0.9, nesterov=False, weight_decay=5e-4, schedule="cosine",
        warmup_epochs=min(5, epochs - 1), warmup_from=0.2, milestones=[], gamma=0.1, compile="off",
    )
    train_network(Run(
        model, Supervised(ce.make(each)), images, torch.from_numpy(labels), instance.make(labels, each, settings.batch_size),
        augment, settings, 0, "digits",
    ))
    test_images = to_device(test.read(np.arange(len(test.labels))), cpu)
    return Trained(model, augment, images, each, features_of(model, test_images, 512, np.dtype(np.float32)), test.labels)
