"""Training a head on cached features: the one loop, where its batches come from, and what bilevel methods need besides."""

import math
from dataclasses import dataclass
from typing import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from lt.classifier import ExpertHeads
from lt.contracts import Inputs
from lt.counts import prior
from lt.engine import TrainingError, expert_sum, mean_over_experts
from lt.lbfgs import converge
from lt.sgd import SGD

IN_MEMORY_BYTES = 2**30
LOG_LINES = 20


class ClassPool:
    """Positions of examples, by class: labels (N,), of which `positions` (all, if None) are in the pool.

    Raises ValueError where a class has no example in the pool.
    """

    def __init__(self, labels: np.ndarray, num_classes: int, positions: np.ndarray | None = None):
        positions = np.arange(len(labels)) if positions is None else np.asarray(positions)
        counts = np.bincount(labels[positions], minlength=num_classes)
        if (counts == 0).any():
            raise ValueError(f"labels: classes {np.flatnonzero(counts == 0).tolist()[:10]} have no example to draw")
        self.by_class = torch.from_numpy(positions[np.argsort(labels[positions], kind="stable")])
        self.counts = torch.from_numpy(counts)
        self.starts = self.counts.cumsum(0) - self.counts

    def draw(self, classes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A uniform example, with replacement, of each of the given classes: (B,) int64 -> positions (B,) int64."""
        uniform = torch.rand(len(classes), generator=generator, dtype=torch.float64)
        return self.by_class[self.starts[classes] + (uniform * self.counts[classes]).long()]

    def draw_balanced(self, batch_size: int, generator: torch.Generator) -> torch.Tensor:
        """Classes in random cycles, each floor(B/C) or ceil(B/C) times, and a uniform example of each: positions (B,) int64."""
        cycles = torch.rand(math.ceil(batch_size / len(self.counts)), len(self.counts), generator=generator)
        return self.draw(cycles.argsort(dim=1).flatten()[:batch_size], generator)


def shuffled_batches(num_examples: int, batch_size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless index batches (B,) of a stream of permutations: every example once in any N draws, all batches of full size."""
    rest = torch.empty(0, dtype=torch.int64)
    while True:
        while len(rest) < batch_size:
            rest = torch.cat([rest, torch.randperm(num_examples, generator=generator)])
        yield rest[:batch_size]
        rest = rest[batch_size:]


def head_batches(
    sampling: str, inputs: Inputs, batch_size: int, generator: torch.Generator
) -> tuple[Callable[[], torch.Tensor], np.ndarray]:
    """draw() -> indices (B,) of one batch after another, and how often they show each class, (C,).

    sampling: instance, every image equally often; class_balanced, every class, in random cycles, and a uniform image of it
    """
    if sampling == "instance":
        batches = shuffled_batches(len(inputs.labels), batch_size, generator)
        return lambda: next(batches), prior(inputs.counts)
    num_classes = len(inputs.counts)
    pool = ClassPool(inputs.labels, num_classes)
    return lambda: pool.draw_balanced(batch_size, generator), np.full(num_classes, 1 / num_classes)


class FeatureBank:
    """The cached views of the training part, to draw batches from.

    Views of less than IN_MEMORY_BYTES are held on the device as one tensor; of larger ones only the rows asked for are read.
    Features come out in `dtype`, whatever the cache holds.
    """

    def __init__(self, inputs: Inputs, dtype: torch.dtype):
        self.num_views, self.num_examples = inputs.views.shape[:2]
        self.dtype, self.device = dtype, inputs.device
        self.rows = inputs.views.reshape(-1, *inputs.views.shape[2:])
        self.labels = torch.from_numpy(inputs.labels).to(self.device)
        self.in_memory = self.rows.nbytes < IN_MEMORY_BYTES
        if self.in_memory:
            self.rows = torch.from_numpy(np.array(self.rows)).to(self.device)

    def batch(self, index: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """A random view of each example: index (B,) -> features (B, D) or (B, E, D), labels (B,), on the device."""
        rows = torch.randint(self.num_views, (len(index),), generator=generator) * self.num_examples + index
        if self.in_memory:
            features = self.rows.index_select(0, rows.to(self.device, non_blocking=True))
        else:
            features = torch.from_numpy(self.rows[rows.numpy()]).to(self.device, non_blocking=True)
        return features.to(self.dtype), self.labels[index.to(self.device, non_blocking=True)]


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
        if hasattr(head, "observe"):
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

    steps: None for all views at once until nothing changes (lt.lbfgs.converge), of which `recipe` gives weight_decay alone; what
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


def trainable(head: nn.Module) -> dict[str, nn.Parameter]:
    """The head's parameters that require a gradient, by name."""
    return {name: parameter for name, parameter in head.named_parameters() if parameter.requires_grad}


def dtype_of(head: nn.Module) -> torch.dtype:
    """Floating-point type of a head's parameters, which its features must have."""
    return next(head.parameters()).dtype


def inner_products(
    head: nn.Module,
    parameters: dict[str, torch.Tensor],
    features: torch.Tensor,
    residual: torch.Tensor,
    direction: dict[str, torch.Tensor],
) -> torch.Tensor:
    """<g_b, v> for each example: how fast its loss grows along v, without a gradient per example.

    With g_b = d loss_b / d theta and r_b = d loss_b / d logits_b, <g_b, v> = r_b . (d logits_b / d theta) v. For a linear head
    the last factor is G_W f_b + G_c, with v = (G_W, G_c). The head's state is not changed.

    parameters: theta, by name    features (B, D)    residual (B, C), with experts (B, E, C)    direction: v, named as theta
    returns (B,)
    """
    if is_linear(head):
        tangent = functional_call(head, direction, (features,))
    else:
        # The derivative along v, as the derivative of u -> u . (d logits / d theta) v: two passes of reverse mode.
        point = {name: parameters[name].detach().requires_grad_() for name in direction}
        cotangent = torch.zeros_like(residual, requires_grad=True)
        logits = functional_call(head, point, (features,))
        pulled_back = torch.autograd.grad(logits, list(point.values()), cotangent, create_graph=True)
        (tangent,) = torch.autograd.grad(pulled_back, cotangent, list(direction.values()))
    return (residual * tangent).flatten(1).sum(1).detach()


def is_linear(head: nn.Module) -> bool:
    """Whether the head, or each expert's, is lt/heads/linear.py."""
    return all(isinstance(part, nn.Linear) for part in parts_of(head))


def parts_of(head: nn.Module) -> list[nn.Module]:
    """The heads of the experts, or the head alone."""
    return list(head.heads) if isinstance(head, ExpertHeads) else [head]


def linear_parts(head: nn.Module, method: str) -> list[nn.Linear]:
    """The linear layers of a head, one per expert; ValueError if it is of another kind than lt/heads/linear.py."""
    if not is_linear(head):
        raise ValueError(
            f"{method} rescales the class vectors of a linear head; got a base model with {type(parts_of(head)[0]).__name__}; "
            f"leave {method} out of methods (balms, balanced_softmax, crt, longtail_da, meta_reweighter, ncm and pc take any "
            "head), or set head: linear"
        )
    return parts_of(head)
