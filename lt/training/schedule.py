"""Learning rate by epoch."""

import math

from lt.core.params import TrainingSettings


def learning_rate(settings: TrainingSettings, epoch: int) -> float:
    """Learning rate of an epoch, counted from 0.

    Warm-up of W epochs: linear from warmup_from * lr in epoch 0 to lr in epoch W - 1. After it
    step:   lr * gamma ** (number of milestones <= epoch);
    cosine: lr * (1 + cos(pi * (epoch + 1 - W) / (epochs - W))) / 2, which is 0 in the last epoch, as in the published protocols.

    `warmup_from: 0.2, warmup_epochs: 5` is lr * e / 5 (Cao et al. 2019); 0.5 and 37 of 591 epochs is BALMS's base training.
    """
    warmup = settings.warmup_epochs
    if epoch < warmup:
        share = epoch / (warmup - 1) if warmup > 1 else 1.0
        return settings.lr * (settings.warmup_from + (1 - settings.warmup_from) * share)
    if settings.schedule == "step":
        return settings.lr * settings.gamma ** sum(milestone <= epoch for milestone in settings.milestones)
    if settings.schedule == "cosine":
        return settings.lr * (1 + math.cos(math.pi * (epoch + 1 - warmup) / (settings.epochs - warmup))) / 2
    return settings.lr
