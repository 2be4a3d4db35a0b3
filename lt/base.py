"""Stage 1: the base model, trained with the loss, mix, weighting and sampler that params.yaml names."""

from dataclasses import dataclass, replace
from typing import Callable, Iterable

import numpy as np
import torch
from torch import nn

from lt import classifier, counts, engine, keys, launch, metrics, resume
from lt.classifier import Classifier
from lt.data import Split
from lt.load import load
from lt.params import AXES, Schedule, Settings
from lt.streamed import Streamed, images_of, to_device, to_float
from lt.subset import Subset


@dataclass(frozen=True)
class TrainingPart:
    """The long-tailed training part: images (N, 3, H, W) uint8, on the device or read batch by batch, labels (N,) int64 on the
    device, in the subset's order."""

    images: torch.Tensor | Streamed
    labels: torch.Tensor
    subset: Subset
    split: Split


def device() -> torch.device:
    """The GPU if there is one, each of several processes having its own; else the CPU.

    What a stage computes on it, other than a training of its own precision, is full float32: torch by default is less exact in
    the convolutions of a GPU than in everything else.
    """
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", launch.local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def training_part(split: Split, subset: Subset, where: torch.device) -> TrainingPart:
    """The subset's images, kept on the device as uint8, or streamed where they are too many for that."""
    images = images_of(split, subset.train_index, where)
    return TrainingPart(images, torch.from_numpy(subset.train_labels).to(where), subset, split)


def plugin(settings: Settings, axis_kind: str, name: str, *args):
    """Makes a plug-in with its options from params.yaml."""
    return load(axis_kind, name)(*args, **settings.options(axis_kind, name))


def specification(settings: Settings, part: TrainingPart) -> dict:
    """What the classifier of these settings is built from."""
    model_options = settings.options("models", settings.model)
    if part.split.image_size is None:
        model_options = {"width": part.split.images.shape[1]} | {key: value for key, value in model_options.items() if value}
    spec = classifier.classifier_spec(
        settings.model, model_options, settings.head, settings.options("heads", settings.head), len(part.subset.counts),
        part.split.mean, part.split.std,
    )
    return spec if settings.trains_backbone() else spec | {"standardised": True}


@dataclass(frozen=True)
class Trained:
    """A trained classifier, its log (one dict per epoch), the class prior (C,) that its raw logits embody, its training state."""

    model: Classifier
    log: list[dict[str, float]]
    logit_prior: np.ndarray
    state: resume.State | None = None  # to be cleared when the artifact is written


def train_base(settings: Settings, part: TrainingPart, seed: int, test: Split | None = None) -> Trained:
    """Trains the base model, on all of the part but what its weighting holds out; test: see tester."""
    where = part.images.device
    state = resume.State(f"base-{seed}", state_parts(settings, part, seed, settings.train, AXES))
    asked = getattr(make_weighting(settings, part.subset.counts, where), "dev", None)
    part, (dev_images, dev_labels) = development_split(part, *asked, seed) if asked else (part, (None, None))
    class_counts = part.subset.counts
    model = classifier.build(specification(settings, part), seed).to(where)
    loss = plugin(settings, "losses", settings.loss, class_counts).to(where)
    sampler = plugin(settings, "samplers", settings.sampler, part.subset.train_labels, class_counts, settings.train.batch_size)
    weighting, mix = make_weighting(settings, class_counts, where), plugin(settings, "mixes", settings.mix, class_counts)
    run = engine.Run(
        model, engine.Supervised(loss), part.images, part.labels, sampler, augmentation(settings, part),
        mix, weighting, settings.train, seed, f"base, seed {seed}",
        dev_images=dev_images, dev_labels=dev_labels, test=tester(settings.train, test, where), state=state,
    )
    log = engine.train(run)
    drawn, last = (sampler.class_prior, weighting.class_weights, settings.train.batch_size), settings.train.epochs - 1
    embodied = counts.embodied_prior(loss.logit_prior.cpu().numpy(), class_counts, mix.label_distribution(*drawn, last))
    return Trained(model, log, embodied, state)


def make_weighting(settings: Settings, class_counts: np.ndarray, where: torch.device):
    """The weighting that params.yaml names; ValueError where it would never act, or does not go with the mix."""
    weighting, name = plugin(settings, "weightings", settings.weighting, class_counts), settings.weighting
    start = getattr(weighting, "start_epoch", 0)
    if start >= settings.train.epochs:
        expected = f"less than train.epochs ({settings.train.epochs}), or it never acts"
        raise ValueError(f"weightings.{name}.start_epoch: got {start}, expected {expected}")
    if hasattr(weighting, "dev") and settings.mix != "none":
        raise ValueError(f"mix: got {settings.mix!r}, expected 'none' with weighting {name}, which looks ahead on unmixed losses")
    return weighting.to(where) if isinstance(weighting, nn.Module) else weighting


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
    return torch.cat([model(to_float(to_device(chunk, where))).float().cpu() for chunk in chunks]).numpy()


def tester(schedule: Schedule, test: Split | None, where: torch.device) -> Callable[[Classifier, int], dict[str, float]] | None:
    """What engine.Run.test is with `test_every: k`: accuracies on the test part after every k-th epoch and the last one.

    returns f(model, epoch counted from 0) -> test_top1, test_balanced (mean recall), NaN after the other epochs; None where
    test_every is 0 or there is no test part. The test part chooses nothing: the model is that of the last epoch all the same.
    """
    if not schedule.test_every or test is None:
        return None

    def measure(model: Classifier, epoch: int) -> dict[str, float]:
        if (epoch + 1) % schedule.test_every and epoch + 1 < schedule.epochs:
            return {"test_top1": np.nan, "test_balanced": np.nan}
        predicted = metrics.predict(predict(model, test, where))
        recall = metrics.per_class(test.labels, predicted, len(test.classes))["recall"]
        return {"test_top1": float(np.mean(predicted == test.labels)), "test_balanced": float(np.nanmean(recall))}

    return measure
