"""Learning rate by epoch."""

import math

from lt.core.params import Schedule


def learning_rate(schedule: Schedule, epoch: int) -> float:
    """Learning rate of an epoch, counted from 0.

    Warm-up of W epochs: linear from warmup_from * lr in epoch 0 to lr in epoch W - 1. After it
    step:   lr * gamma ** (number of milestones <= epoch);
    cosine: lr * (1 + cos(pi * (epoch + 1 - W) / (epochs - W))) / 2, which is 0 in the last epoch, as in the published protocols.

    `warmup_from: 0.2, warmup_epochs: 5` is lr * e / 5 (Cao et al. 2019); 0.5 and 37 of 591 epochs is BALMS's base training.
    """
    warmup = schedule.warmup_epochs
    if epoch < warmup:
        share = epoch / (warmup - 1) if warmup > 1 else 1.0
        return schedule.lr * (schedule.warmup_from + (1 - schedule.warmup_from) * share)
    if schedule.schedule == "step":
        return schedule.lr * schedule.gamma ** sum(milestone <= epoch for milestone in schedule.milestones)
    if schedule.schedule == "cosine":
        return schedule.lr * (1 + math.cos(math.pi * (epoch + 1 - warmup) / (schedule.epochs - warmup))) / 2
    return schedule.lr
