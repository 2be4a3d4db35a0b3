"""Longtail_DA: class-balanced weights plus a weight per example, learned batch by batch from a class-balanced development set."""

import warnings
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, jvp

from lt.core.counts import effective_number_weights
from lt.core.options import Count, Index, NonNegative, OpenFraction, Positive
from lt.training import distributed
from lt.training.contracts import Step

NEEDS = {
    "mix": (["none"], "which weights single examples"),
    "train.sync_batchnorm": ([False], "which needs a forward-mode derivative, and synchronised batch norm has none"),
}


def make(
    counts: np.ndarray,
    *,
    beta: OpenFraction = 0.9999,
    start_epoch: Index = 160,
    inner_lr: Positive | None = None,
    eps_lr: NonNegative = 0.01,
    reduction: Literal["sum", "mean"] = "sum",
    clip_min: NonNegative | None = None,
    normalize: bool = False,
    dev_batch_size: Count = 100,
    dev_per_class: Count = 10,
    dev_source: Literal["train_subset", "train_resampled"] = "train_resampled",
) -> "LongtailDA":
    """Loss weights w_y + eps_i from `start_epoch` on, ones before it: w by effective number, eps by one step of look-ahead.

    Per batch, with eps = 0: one plain SGD step of the whole model on the weighted losses; the gradient of the development loss
    after it, with respect to eps; eps = -eps_lr * gradient; then the real step, on the mean of (w_y + eps_i) * loss_i. Nothing is
    carried over between batches. The development loss is the loss that is trained, unweighted. With eps_lr = 0 it is
    class_balanced with the same start. A batch takes four to five times as long as otherwise.

    beta: w_c in proportion to (1 - beta) / (1 - beta^n_c), sum C
    inner_lr: of the look-ahead step, of all layers alike; null is the current lr    reduction: of the batch in the look-ahead step; sum as published
    eps_lr: 0.01 as published; with the published look-ahead rate of 1e-3 and less, eps stays near 1e-5 and does next to nothing:
        see the log's column eps_to_weight, mean |eps_i| / w_y
    clip_min: smallest weight allowed (null: none, and a weight may turn negative)    normalize: scale weights back to their sum
    dev_source: train_resampled draws class-balanced batches from all training images; train_subset holds out
        min(dev_per_class, n_c // 2) images of each class, which are then not trained on. dev_per_class is used by it alone.
    The published development set is further, balanced data, which no other method sees; neither source here adds data.

    raises ValueError where a class has no example, and on normalize without clip_min
    (source: Jamal et al. 2020, Rethinking class-balanced methods from a domain adaptation perspective, algorithm 1)
    """
    if normalize and clip_min is None:
        raise ValueError("longtail_da.normalize: needs clip_min (0.0, say): a sum that may be negative cannot be scaled")
    dev = (dev_source, dev_per_class)
    return LongtailDA(
        effective_number_weights(counts, beta), start_epoch, inner_lr, eps_lr, reduction, clip_min, normalize, dev_batch_size, dev
    )


class LongtailDA(nn.Module):
    """f(step) -> w_y + eps_i (B,); a module, so that a resumed run goes on with its running means.

    class_weights (C,): what it does to the class prior in the end    dev: source and images per class of its development set
    """

    def __init__(
        self, class_weights: np.ndarray, start_epoch: int, inner_lr: float | None, eps_lr: float, reduction: str,
        clip_min: float | None, normalize: bool, dev_batch_size: int, dev: tuple[str, int],
    ):
        super().__init__()
        self.class_weights, self.start_epoch, self.dev = class_weights, start_epoch, dev
        self.weights_on = cache(lambda where, dtype: torch.as_tensor(self.class_weights, dtype=dtype, device=where))
        self.inner_lr, self.eps_lr, self.reduction = inner_lr, eps_lr, reduction
        self.clip_min, self.normalize, self.dev_batch_size = clip_min, normalize, dev_batch_size
        self.register_buffer("ratio_sum", torch.zeros((), dtype=torch.float64))
        self.register_buffer("batches", torch.zeros((), dtype=torch.float64))

    def forward(self, step: Step) -> torch.Tensor:
        if step.epoch < self.start_epoch:
            return torch.ones_like(step.losses())
        weights = self.weights_on(step.images.device, step.images.dtype)[step.target]
        if self.eps_lr == 0:
            return corrected(weights, torch.zeros_like(weights), self.clip_min, self.normalize)
        scale = 1.0 if self.reduction == "sum" else 1 / distributed.rows(weights)
        eps = -self.eps_lr * eps_gradient(step, weights, step.dev_batch(self.dev_batch_size), self.inner_lr or step.lr, scale)
        self.ratio_sum += distributed.mean(eps.abs() / weights).to(self.ratio_sum)
        self.batches += 1
        return corrected(weights, eps, self.clip_min, self.normalize)

    def epoch_stats(self) -> dict[str, float]:
        """Mean |eps_i| / w_y since the last call; 0 before the start epoch."""
        mean = (self.ratio_sum / self.batches.clamp_min(1)).item()
        self.ratio_sum.zero_()
        self.batches.zero_()
        return {"eps_to_weight": mean}


class _Losses(nn.Module):
    """The per-example losses as a module around the model, whose parameters and buffers can then be replaced for one call."""

    def __init__(self, step: Step):
        super().__init__()
        self.model, self.objective = step.model, step.objective

    def forward(self, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.objective(self.model, images, target)


def eps_gradient(
    step: Step, weights: torch.Tensor, dev_batch: tuple[torch.Tensor, torch.Tensor], inner_lr: float, scale: float
) -> torch.Tensor:
    """d L_dev(theta~) / d eps_i, where theta~ = theta - inner_lr * scale * sum_i weights_i g_i and weights_i = w_i + eps_i:

        d L_dev / d eps_i = -inner_lr * scale * <g_i, grad L_dev(theta~)>,    g_i = d loss_i / d theta at theta.

    Exact, for one plain SGD step and at any eps, without a second-order graph. The products are the directional derivative of all
    losses at once, by forward mode, so that examples coupled by batch normalisation are treated right. The development gradient
    has to be taken at theta~. All passes run on copies of the buffers, so that the model keeps its running statistics. Where
    step.losses was not called before, the graph of one pass at a time takes memory.

    weights (B,)    dev_batch: images (M, 3, H, W), target (M,)    scale: 1 for a sum over the batch, 1/B for a mean
    returns (B,) without graph
    """
    losses = _Losses(step)
    parameters = {name: p for name, p in losses.named_parameters() if p.requires_grad}

    def run(at: dict[str, torch.Tensor], images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        buffers = {name: buffer.clone() for name, buffer in losses.named_buffers()}
        return functional_call(losses, (at, buffers), (images, target))

    weighted = (weights * run(parameters, step.images, step.target)).sum() * scale
    gradients = torch.autograd.grad(weighted, list(parameters.values()))
    distributed.all_reduce_coalesced(gradients)
    ahead = {
        name: (parameter.detach() - inner_lr * gradient).requires_grad_()
        for (name, parameter), gradient in zip(parameters.items(), gradients)
    }
    direction = torch.autograd.grad(run(ahead, *dev_batch).mean(), list(ahead.values()))
    here = {name: parameter.detach() for name, parameter in parameters.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # forward mode imports torch.jit on its first use, which warns
        _, slope = jvp(lambda at: run(at, step.images, step.target), (here,), (dict(zip(here, direction)),))
    return -inner_lr * scale * slope


def corrected(weights: torch.Tensor, eps: torch.Tensor, clip_min: float | None, normalize: bool) -> torch.Tensor:
    """w + eps, not below clip_min, then scaled back to the sum of w: all (B,); the sums are those of the whole batch."""
    changed = weights + eps
    if clip_min is not None:
        changed = changed.clamp_min(clip_min)
    if normalize:
        after, before = distributed.all_reduce(torch.stack([changed.sum(), weights.sum()]))
        changed = changed / after.clamp_min(torch.finfo(changed.dtype).tiny) * before
    return changed
