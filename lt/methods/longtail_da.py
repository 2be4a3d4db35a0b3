"""Longtail_DA: class-balanced weights plus a weight per example, learned batch by batch from a balanced development set.

beta: w_c in proportion to (1 - beta) / (1 - beta^n_c), sum C
inner_lr: of the look-ahead step; null is the current lr    reduction: of the batch in the look-ahead step; sum as published
eps_lr: 0.01 as published; with the published look-ahead rate of 1e-3 and less, eps stays near 1e-5 and does next to nothing:
    see the column eps_to_weight, mean |eps_i| / w_y
clip_min: smallest weight allowed (null: none, and a weight may turn negative)    normalize: scale weights back to their sum
dev_source: train_resampled draws class-balanced batches from all training images; train_subset holds out
    min(dev_per_class, n_c // 2) images of each class, which are then not trained on. dev_per_class is used by it alone.

The published development set is further, balanced data, which no other method sees; neither source here adds data.
(source: Jamal et al. 2020, Rethinking class-balanced methods from a domain adaptation perspective, algorithm 1)
"""

from dataclasses import dataclass, field
from typing import Callable, Literal

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from lt.core import keys
from lt.core.counts import effective_number_weights, embodied_prior, prior
from lt.core.options import Count, Fraction, NonNegative, OpenFraction, Positive
from lt.evaluate.metrics import places
from lt.losses import ce
from lt.retrain.bank import ClassPool, FeatureBank, shuffled_batches
from lt.retrain.contracts import Inputs, Retrained
from lt.retrain.heads import dtype_of, inner_products, trainable
from lt.retrain.loop import Outcome, descend
from lt.training.objective import expert_sum
from lt.training.sgd import SGD

STATISTICS = "natural"


def fit(
    inputs: Inputs,
    *,
    steps: Count = 500,
    batch_size: Count = 128,
    lr: Positive = 0.1,
    momentum: Fraction = 0.9,
    weight_decay: NonNegative = 5e-4,
    nesterov: bool = False,
    beta: OpenFraction = 0.9999,
    inner_lr: Positive | None = None,
    eps_lr: NonNegative = 0.01,
    reduction: Literal["sum", "mean"] = "sum",
    clip_min: NonNegative | None = None,
    normalize: bool = False,
    dev_source: Literal["train_subset", "train_resampled"] = "train_resampled",
    dev_per_class: Count = 10,
    dev_batch_size: Count = 128,
) -> Retrained:
    """The base head, trained on with loss weights w_y + eps_i: w by effective number, eps by one step of look-ahead.

    This is the second, weighted phase of the published schedule, restricted to the head: the base model is the first phase, so
    training starts from the base head, by steps of LookAhead. With eps_lr = 0 it is class-balanced weighting.

    returns the head and its log; the logits embody prior * w, close to uniform
    raises ValueError where train_subset meets a class of a single image, and on normalize without clip_min
    """
    if normalize and clip_min is None:
        raise ValueError("longtail_da.normalize: needs clip_min (0.0, say): a sum that may be negative cannot be scaled")
    # Development batches have their own stream: the training batches are the same whatever is done with the former.
    generator, dev_generator = keys.generator(inputs.seed, "longtail_da"), keys.generator(inputs.seed, "longtail_da", "dev")
    head = inputs.head.to(inputs.device)
    bank = FeatureBank(inputs, dtype_of(head))
    trained_on, dev = development_split(inputs.labels, inputs.counts, dev_source, dev_per_class, dev_generator)
    pool = ClassPool(inputs.labels, len(inputs.counts), dev)
    batches = shuffled_batches(len(trained_on), batch_size, generator)
    counts = np.bincount(inputs.labels[trained_on], minlength=len(inputs.counts))
    class_weights = effective_number_weights(counts, beta)
    training = LookAhead(
        head, ce.make(counts).to(inputs.device), torch.from_numpy(class_weights).to(inputs.device, bank.dtype),
        lambda: bank.batch(trained_on[next(batches)], generator),
        lambda: bank.batch(pool.draw_balanced(dev_batch_size, dev_generator), dev_generator),
        inner_lr, eps_lr, reduction, clip_min, normalize,
    )
    recipe = {"steps": steps, "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
    log = descend(head, training.step, columns=training.columns, **recipe)
    natural = prior(counts)
    return Retrained(head, logit_prior=embodied_prior(natural, counts, natural * class_weights), log=log)


@dataclass
class LookAhead:
    """Per batch, with eps = 0: one plain SGD step on the weighted losses; the gradient of the development loss after it, with
    respect to eps; eps = -eps_lr * gradient; then the real step, on the mean of (w_y + eps_i) * loss_i. Nothing is carried over
    between batches.

    weight_of (C,)    batch(), dev_batch() -> features (B, D), target (B,): one after another    the others: options of fit
    ratios: mean |eps_i| / w_y of each step since `columns` was called
    """

    head: nn.Module
    loss: nn.Module
    weight_of: torch.Tensor
    batch: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    dev_batch: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    inner_lr: float | None
    eps_lr: float
    reduction: str
    clip_min: float | None
    normalize: bool
    ratios: list[torch.Tensor] = field(default_factory=list)

    def step(self, optimizer: SGD) -> Outcome:
        features, target = self.batch()
        weights = self.weight_of[target]
        scale = 1.0 if self.reduction == "sum" else 1 / len(target)
        inner_lr = self.inner_lr or optimizer.lr
        gradient = eps_gradient(self.head, self.loss, (features, target), weights, self.dev_batch(), inner_lr, scale)
        eps = -self.eps_lr * gradient
        self.ratios.append((eps.abs() / weights).mean())
        logits = self.head(features)
        losses = expert_sum(self.loss, logits, target)
        optimizer.zero_grad()
        (corrected(weights, eps, self.clip_min, self.normalize) * losses).mean().backward()
        optimizer.step()
        return Outcome(features, target, logits.detach(), losses.detach())

    def columns(self) -> dict[str, float]:
        mean = torch.stack(self.ratios).mean().item()
        self.ratios.clear()
        return {"eps_to_weight": mean}


def eps_gradient(
    head: nn.Module,
    loss: nn.Module,
    batch: tuple[torch.Tensor, torch.Tensor],
    weights: torch.Tensor,
    dev_batch: tuple[torch.Tensor, torch.Tensor],
    inner_lr: float,
    scale: float,
) -> torch.Tensor:
    """d L_dev(theta~) / d eps_i at eps = 0, where theta~ = theta - inner_lr * scale * sum_i (w_i + eps_i) g_i:

        d L_dev / d eps_i = -inner_lr * scale * <g_i, grad L_dev(theta~)>,    g_i = d loss_i / d theta at theta.

    Exact, for one plain SGD step, without a second-order graph; the development gradient has to be taken at theta~.

    batch, dev_batch: features (B, D), target (B,)    weights (B,)    scale: 1 for a sum over the batch, 1/B for a mean
    returns (B,); the head is not changed
    """
    (features, target), (dev_features, dev_target) = batch, dev_batch
    parameters = trainable(head)
    logits = head(features)
    (residual,) = torch.autograd.grad(expert_sum(loss, logits, target).sum(), logits, retain_graph=True)
    # d loss_i / d logits_i, weighted, is all that the look-ahead gradient needs from the loss.
    weighted = residual * weights.view(-1, *[1] * (residual.ndim - 1)) * scale
    gradients = torch.autograd.grad(logits, list(parameters.values()), weighted)
    ahead = {
        name: (parameter.detach() - inner_lr * gradient).requires_grad_()
        for (name, parameter), gradient in zip(parameters.items(), gradients)
    }
    dev_loss = expert_sum(loss, functional_call(head, ahead, (dev_features,)), dev_target).mean()
    direction = dict(zip(ahead, torch.autograd.grad(dev_loss, list(ahead.values()))))
    return -inner_lr * scale * inner_products(head, parameters, features, residual, direction)


def corrected(weights: torch.Tensor, eps: torch.Tensor, clip_min: float | None, normalize: bool) -> torch.Tensor:
    """w + eps, not below clip_min, then scaled back to the sum of w: all (B,)."""
    changed = weights + eps
    if clip_min is not None:
        changed = changed.clamp_min(clip_min)
    if normalize:
        changed = changed / changed.sum().clamp_min(torch.finfo(changed.dtype).tiny) * weights.sum()
    return changed


def development_split(
    labels: np.ndarray, counts: np.ndarray, source: str, per_class: int, generator: torch.Generator
) -> tuple[torch.Tensor, np.ndarray]:
    """Positions to train on (a tensor) and positions to draw development batches from (an array).

    train_resampled: all, twice. train_subset: disjoint, with min(per_class, n_c // 2) random images of each class in the latter;
    ValueError where a class has a single image, which cannot be in both
    """
    everything = np.arange(len(labels))
    if source == "train_resampled":
        return torch.from_numpy(everything), everything
    if (counts < 2).any():
        raise ValueError(
            f"longtail_da.dev_source: train_subset needs two images of each class, and classes "
            f"{np.flatnonzero(counts < 2).tolist()[:10]} have one; use train_resampled"
        )
    shuffled = torch.randperm(len(labels), generator=generator).numpy()
    held_out = places(labels[shuffled]) < np.minimum(per_class, counts // 2)[labels[shuffled]]
    return torch.from_numpy(np.sort(shuffled[~held_out])), np.sort(shuffled[held_out])
