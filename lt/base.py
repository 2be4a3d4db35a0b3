"""Stage 1: the base model, trained with the loss, mix, weighting and sampler that params.yaml names."""

from dataclasses import dataclass
from typing import Iterable

import numpy as np
import torch

from lt import classifier, counts, engine, resume
from lt.classifier import Classifier
from lt.data import Split
from lt.load import load
from lt.params import AXES, Schedule, Settings
from lt.subset import Subset


@dataclass(frozen=True)
class TrainingPart:
    """The long-tailed training part on a device: images (N, 3, H, W) uint8, labels (N,) int64, in the subset's order."""

    images: torch.Tensor
    labels: torch.Tensor
    subset: Subset
    split: Split


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_device(images: np.ndarray, where: torch.device) -> torch.Tensor:
    """uint8 images (N, H, W, 3) -> (N, 3, H, W) on a device."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).contiguous().to(where)


def training_part(split: Split, subset: Subset, where: torch.device) -> TrainingPart:
    """Reads the subset's images once and keeps them on the device as uint8."""
    images = to_device(split.read(subset.train_index), where)
    return TrainingPart(images, torch.from_numpy(subset.train_labels).to(where), subset, split)


def plugin(settings: Settings, axis_kind: str, name: str, *args):
    """Makes a plug-in with its options from params.yaml."""
    return load(axis_kind, name)(*args, **settings.options(axis_kind, name))


def specification(settings: Settings, part: TrainingPart) -> dict:
    """What the classifier of these settings is built from."""
    return classifier.classifier_spec(
        settings.model, settings.options("models", settings.model), settings.head, settings.options("heads", settings.head),
        len(part.subset.counts), part.split.mean, part.split.std,
    )


@dataclass(frozen=True)
class Trained:
    """A trained classifier, its log (one dict per epoch), the class prior (C,) that its raw logits embody, its training state."""

    model: Classifier
    log: list[dict[str, float]]
    logit_prior: np.ndarray
    state: resume.State  # to be cleared when the artifact is written


def train_base(settings: Settings, part: TrainingPart, seed: int) -> Trained:
    """Trains the base model."""
    where, class_counts = part.images.device, part.subset.counts
    model = classifier.build(specification(settings, part), seed).to(where)
    loss = plugin(settings, "losses", settings.loss, class_counts).to(where)
    sampler = plugin(settings, "samplers", settings.sampler, part.subset.train_labels, class_counts, settings.train.batch_size)
    weighting = plugin(settings, "weightings", settings.weighting, class_counts)
    state = resume.State(f"base-{seed}", state_parts(settings, part, seed, settings.train, AXES))
    run = engine.Run(
        model, engine.Supervised(loss), part.images, part.labels, sampler, augmentation(settings, part),
        plugin(settings, "mixes", settings.mix, class_counts), weighting, settings.train, seed, f"base, seed {seed}", state=state,
    )
    log = engine.train(run)
    embodied = counts.embodied_prior(loss.logit_prior.cpu().numpy(), class_counts, sampler.class_prior, weighting.class_weights)
    return Trained(model, log, embodied, state)


def augmentation(settings: Settings, part: TrainingPart):
    """The augmentation that params.yaml names, for this part's image size."""
    return plugin(settings, "augments", settings.augment, part.split.image_size)


def state_parts(settings: Settings, part: TrainingPart, seed: int, schedule: Schedule, axes: Iterable[str]) -> dict:
    """What a training state is valid for, besides the code: the data, the schedule, the plug-ins on the given axes."""
    chosen = {axis: [getattr(settings, axis), settings.options(AXES[axis], getattr(settings, axis))] for axis in axes}
    return {"seed": seed, "subset": [part.subset.sha256, part.subset.raw_sha256], "schedule": schedule.model_dump(), **chosen}


@torch.no_grad()
def predict(model: Classifier, split: Split, where: torch.device, batch_size: int = 512) -> np.ndarray:
    """Logits of a split's images as they are: (N, C) or with experts (N, E, C) float32."""
    model.eval()
    chunks = (split.read(np.arange(start, min(start + batch_size, len(split.labels)))) for start in range(0, len(split.labels), batch_size))
    return torch.cat([model(to_device(chunk, where).float() / 255).float().cpu() for chunk in chunks]).numpy()
