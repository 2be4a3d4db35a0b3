"""Training a head on cached features: the one loop."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Callable

import numpy as np
import torch
from torch import nn

from lt.core import keys
from lt.core.counts import embodied_prior, prior, uniform
from lt.network.contracts import Observes
from lt.retrain.bank import ClassPool, FeatureBank, shuffled_batches
from lt.retrain.contracts import Inputs, Retrained
from lt.retrain.heads import dtype_of, trainable
from lt.training.lbfgs import LOG_LINES, converge
from lt.training.objective import TrainingError, expert_sum, mean_over_experts
from lt.training.sgd import SGD


@dataclass
class Outcome:
    """What one training step saw, without graph: features (B, D), target (B,), logits (B, C), losses (B,)."""

    features: torch.Tensor
    target: torch.Tensor
    logits: torch.Tensor
    losses: torch.Tensor


def descend(
    head: nn.Module,
    step: Callable[[SGD], Outcome],
    *,
    steps: int,
    lr: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
    decay: bool = True,
    columns: Callable[[], dict[str, float]] = dict,
) -> list[dict[str, float]]:
    """Calls step(optimizer) `steps` times; step t of T runs at lr * (1 + cos(pi t / T)) / 2, so that none is wasted on lr 0,
    or at lr throughout without `decay`.

    Trains those of the head's parameters that require a gradient, in place. A head that keeps running state observes each batch.

    returns the log, about LOG_LINES lines: step, lr, loss and train_accuracy as means since the line before (on what the steps
    drew, not on the natural frequencies), and what `columns()` gives
    raises TrainingError where the loss is no longer finite
    """
    optimizer = SGD(trainable(head).values(), lr, momentum, weight_decay, nesterov)
    every = math.ceil(steps / LOG_LINES)
    log, since = [], []
    head.train()
    for number in range(steps):
        optimizer.lr = rate = lr * (1 + math.cos(math.pi * number / steps)) / 2 if decay else lr
        outcome = step(optimizer)
        if isinstance(head, Observes):
            head.observe(outcome.features, rate)
        right = mean_over_experts(outcome.logits).argmax(1) == outcome.target
        since.append(torch.stack([outcome.losses.mean(), right.to(outcome.losses.dtype).mean()]))
        if (number + 1) % every == 0 or number + 1 == steps:
            loss, accuracy = torch.stack(since).mean(0).tolist()
            if not math.isfinite(loss):
                raise TrainingError(f"the loss is {loss} by step {number + 1}, at learning rate {rate:g}; lower this method's lr")
            log.append({"step": number + 1, "lr": rate, "loss": loss, "train_accuracy": accuracy, **columns()})
            since.clear()
    head.eval()
    return log


def fit_head(
    head: nn.Module, loss: nn.Module, bank: FeatureBank, draw: Callable[[], torch.Tensor], generator: torch.Generator,
    steps: int | None, class_weights: np.ndarray | None = None, **recipe,
) -> list[dict[str, float]]:
    """Trains a head with the mean loss over the batches that `draw()` gives as indices (B,); `recipe` as descend takes it.

    steps: None for all views at once until nothing changes (lt.training.lbfgs.converge), of which `recipe` gives weight_decay alone; what
    `draw` does to the classes, class_weights (C,) then does: the weight of an example of each class, on any scale, None for 1
    """
    if steps is None:
        target = bank.labels.repeat(bank.num_views)
        return converge(
            head, lambda features, logits, target: expert_sum(loss, logits, target), bank.rows, target, recipe["weight_decay"],
            class_weights,
        )

    def step(optimizer: SGD) -> Outcome:
        features, target = bank.batch(draw(), generator)
        logits = head(features)
        losses = expert_sum(loss, logits, target)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        return Outcome(features, target, logits.detach(), losses.detach())

    return descend(head, step, steps=steps, **recipe)


def fit_new_head(inputs: Inputs, method: str, loss: nn.Module, sampling: str, batch_size: int, **recipe) -> Retrained:
    """A new head, trained on the cached views with a loss for inputs.counts; its logits embody what the loss and the sampling leave.

    method: its name, which its random numbers have
    sampling: instance, every image equally often; class_balanced, every class, in random cycles, and a uniform image of it
    recipe: steps and the rest, as fit_head takes them
    """
    generator = keys.generator(inputs.seed, method)
    head = inputs.new_head().to(inputs.device)
    if sampling == "instance":
        draw, sampled = partial(next, shuffled_batches(len(inputs.labels), batch_size, generator)), prior(inputs.counts)
    else:
        pool = ClassPool(inputs.labels, len(inputs.counts))
        draw, sampled = partial(pool.draw_balanced, batch_size, generator), uniform(len(inputs.counts))
    bank = FeatureBank(inputs, dtype_of(head))
    log = fit_head(head, loss.to(inputs.device), bank, draw, generator, class_weights=sampled / inputs.counts, **recipe)
    return Retrained(head, embodied_prior(loss.logit_prior.cpu().numpy(), inputs.counts, sampled), log=log)
