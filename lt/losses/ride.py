"""RIDE: experts learn the classes with LDAM's margins, and are kept apart from their mean."""

import numpy as np
import torch
from torch.nn import functional as F

from lt.core.counts import effective_number_weights, prior
from lt.core.options import Fraction, Index, NonNegative, OpenFraction, Positive, Real
from lt.training.distributed import mean as batch_mean
from lt.training.loss import Loss, margin_penalty

SAME = {"scale": ("heads.cosine.scale", "both scale the same cosines")}


def make(
    counts: np.ndarray,
    *,
    max_margin: NonNegative = 0.5,
    scale: Positive = 30.0,
    diversity: Real = -0.2,
    temperature: Positive = 1.0,
    spread: Fraction = 0.05,
    beta: OpenFraction = 0.9999,
    start_epoch: Index | None = None,
) -> Loss:
    """sum_e LDAM(z_e, y) + diversity * mean(t)^2 * sum_e KL( softmax(z_mean / t) || softmax(z_e / t) ), z_mean without gradient.

    Each expert learns by itself; a negative factor pushes its probabilities away from those of the experts' mean logits. With a
    single expert, or diversity 0, it is loss ldam, and as there logits are expected to be scale * cosine.

    diversity: -0.45 in the released settings for CIFAR-100-LT; those for ImageNet-LT and iNaturalist leave it at -0.2
    temperature: that of all classes, t_c, before start_epoch
    start_epoch: from here on, counted from 0, LDAM is weighted by effective number, as weighting class_balanced with normalize:
        batch would, which the diversity must not be; and rare classes have lower temperatures, temperature * s_c / max s with
        s_c = 1 + spread (C prior_c - 1). 160 of 200 as published; None: never
    The logits embody the training prior, times the weights if there is a start_epoch.

    counts (C,) training images per class, all positive    returns f(logits (B, C), target (B,)) -> (B,), with the method
    of_experts(logits (B, E, C), target) -> (B,)    raises ValueError on a class without a training image
    Source: Wang et al. 2021, Long-tailed Recognition by Routing Diverse Distribution-Aware Experts, equations 2 to 4.
    """
    return RIDE(counts, margin_penalty(counts, max_margin, scale), diversity, temperature, spread, beta, start_epoch)


class RIDE(Loss):
    """Holds `deferred`, 1 from start_epoch on and 0 before it: a buffer, so that a resumed training knows."""

    def __init__(self, counts, penalty, diversity: float, temperature: float, spread: float, beta: float, start_epoch):
        weights = effective_number_weights(counts, beta)
        super().__init__(counts, logit_prior=prior(counts) * (1 if start_epoch is None else weights))
        self.batch_coupled = start_epoch is not None  # by the mean weight of the batch
        self.diversity, self.first = diversity, start_epoch
        temperatures = 1 + spread * (len(counts) * prior(counts) - 1)
        self.keep("penalty", penalty)
        self.keep("weights", weights)
        self.keep("early", np.full(len(counts), temperature))
        self.keep("late", temperature * temperatures / temperatures.max())
        self.register_buffer("deferred", torch.zeros((), dtype=torch.float64))
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Called before each epoch, counted from 0."""
        self.deferred.fill_(float(self.first is not None and epoch >= self.first))

    def per_example(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.of_experts(logits[:, None], target)

    def of_experts(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """logits (B, E, C), target (B,) -> losses (B,), summed over the experts."""
        margins = (F.one_hot(target, self.num_classes) * self.penalty.to(logits.dtype))[:, None]
        log_probs = F.log_softmax(logits - margins, dim=2)
        ldam = -log_probs.gather(2, target.view(-1, 1, 1).expand(-1, logits.shape[1], 1)).sum((1, 2))
        weights = torch.lerp(torch.ones_like(self.weights), self.weights, self.deferred).to(logits.dtype)[target]
        temperature = torch.lerp(self.early, self.late, self.deferred).to(logits.dtype)
        mean = F.log_softmax(logits.detach().mean(1, keepdim=True) / temperature, dim=2)
        gaps = (mean.exp() * (mean - F.log_softmax(logits / temperature, dim=2))).sum((1, 2))
        return weights / batch_mean(weights) * ldam + self.diversity * temperature.mean() ** 2 * gaps
