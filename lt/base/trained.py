"""Stage 1: the base model, trained with the loss, mix, weighting and sampler that params.yaml names."""

import numpy as np
import torch
from torch import nn

from lt.core import counts
from lt.core.params import AXES, Settings
from lt.data.split import Split
from lt.input.part import TrainingPart
from lt.network import classifier
from lt.training import checkpoint, engine, objective
from lt.training.contracts import HasDevelopmentSet, StartsLater
from lt.training.development import development_split
from lt.training.setup import Trained, specification, state_parts, tester


def train_base(settings: Settings, part: TrainingPart, seed: int, test: Split | None = None) -> Trained:
    """Trains the base model, on all of the part but what its weighting holds out; test: see tester."""
    where = part.images.device
    parts = state_parts(settings, part, AXES, seed=seed, training=settings.train.model_dump())
    state = checkpoint.Checkpoint(f"base-{seed}", parts)
    asking = make_weighting(settings, part.subset.counts, where)
    has_dev = isinstance(asking, HasDevelopmentSet)
    part, (dev_images, dev_labels) = development_split(part, *asking.dev, seed) if has_dev else (part, (None, None))
    class_counts = part.subset.counts
    model = classifier.build(specification(settings, part), seed).to(where)
    if told := share_trained(model):
        print(told)
    loss = settings.plugin("loss", class_counts).to(where)
    sampler = settings.plugin("sampler", part.subset.train_labels, class_counts, settings.train.batch_size)
    weighting, mix = make_weighting(settings, class_counts, where), settings.plugin("mix", class_counts)
    drawn, last = (sampler.class_prior, weighting.class_weights, settings.train.batch_size), settings.train.epochs - 1
    trained_on = mix.label_distribution(*drawn, last)
    run = engine.Run(
        model, objective.Supervised(loss), part.images, part.labels, sampler, settings.plugin("augment", part.split.image_size),
        settings.train, seed, f"base, seed {seed}", mix, weighting,
        dev_images=dev_images, dev_labels=dev_labels, test=tester(settings.train, test, where), state=state,
    )
    log = engine.train(run)
    embodied = counts.embodied_prior(loss.logit_prior.cpu().numpy(), class_counts, trained_on)
    return Trained(model, log, embodied, state)


def share_trained(model: nn.Module) -> str:
    """How many of a classifier's parameters are trained, in words; nothing where all are."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    total, trained = sum(size for size, _ in sizes), sum(size for size, is_trained in sizes if is_trained)
    return "" if trained == total else f"{trained:,} of {total:,} parameters are trained, {100 * trained / total:.2g} %"


def make_weighting(settings: Settings, class_counts: np.ndarray, where: torch.device):
    """The weighting that params.yaml names; ValueError where it would never act, or does not go with the mix."""
    weighting, name = settings.plugin("weighting", class_counts), settings.weighting
    start = weighting.start_epoch if isinstance(weighting, StartsLater) else 0
    if start >= settings.train.epochs:
        expected = f"less than train.epochs ({settings.train.epochs}), or it never acts"
        raise ValueError(f"weightings.{name}.start_epoch: got {start}, expected {expected}")
    if isinstance(weighting, HasDevelopmentSet) and settings.mix != "none":
        raise ValueError(f"mix: got {settings.mix!r}, expected 'none' with weighting {name}, which looks ahead on unmixed losses")
    return weighting.to(where) if isinstance(weighting, nn.Module) else weighting
