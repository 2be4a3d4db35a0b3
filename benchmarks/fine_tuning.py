"""Pre-trained networks: features against plain inference of the same network, and a training step of adapters against one of all weights."""

from typing import Callable

import torch
from torch.nn import functional as F

from benchmarks.timing import Row, medians, peak_mib
from lt.augments import crop_flip
from lt.features import features_of
from lt.input.augmented import augmented
from lt.network import classifier
from lt.network.classifier import Classifier
from lt.training.sgd import SGD

CLASSES, SIDE = 100, 32
# What a network is asked for, and the side of its input; the weights do not matter here.
FROZEN, TRAINED = ("tf_efficientnet_lite0", 160), ("vit_small_patch16_224", 224)


def rows(quick: bool) -> list[Row]:
    """Needs timm. Images of 32 pixels are scaled up by the network itself, in both ways."""
    number, batch, repeats = (64, 4, 1) if quick else (512, 32, 5)
    model = built(FROZEN, "head").eval()
    images = torch.randint(0, 256, (number, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    batches = [part.float() / 255 for part in images.split(64)]
    crop = crop_flip.make(SIDE)

    def ours() -> None:
        prepare = lambda part, start: augmented(part, crop, 0, torch.arange(start, start + len(part)))  # noqa: E731
        features_of(model, images, 64, batches[0].numpy().dtype, prepare)

    @torch.no_grad()
    def plain() -> None:
        for part in batches:
            model(part)

    ours_s, plain_s = medians(repeats, ours, plain)
    found = [Row(f"features of {FROZEN[0]} at {FROZEN[1]} pixels, against plain inference", ours_s, plain_s, "s", ours_s / plain_s, 1.2, at_least=False)]

    steps = {trainable: step(built(TRAINED, trainable), images[:batch]) for trainable in ("adapters", "all")}
    adapters_s, all_s = medians(repeats, *steps.values())
    adapters_mib, all_mib = (peak_mib(steps[trainable]) for trainable in steps)
    pair = f"a step of adapters in {TRAINED[0]}, batch {batch}, against one of all weights"
    return [
        *found, Row(pair, adapters_s, all_s, "s", adapters_s / all_s), Row(pair, adapters_mib, all_mib, "MiB", adapters_mib / all_mib)
    ]


def built(network: tuple[str, int], trainable: str) -> Classifier:
    """A classifier on one of timm's networks with random weights."""
    options = {"name": network[0], "trainable": trainable, "image_size": network[1]}
    return classifier.build(classifier.classifier_spec("timm", options, "linear", {}, CLASSES, (0.5,) * 3, (0.5,) * 3), seed=0)


def step(model: Classifier, images: torch.Tensor) -> Callable[[], None]:
    """A step of training on one batch, as a function."""
    floats, target = images.float() / 255, torch.arange(len(images)) % CLASSES
    parameters = [parameter for parameter in model.train().parameters() if parameter.requires_grad]
    optimizer = SGD(parameters, lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=False)

    def run() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(floats), target).backward()
        optimizer.step()

    return run
