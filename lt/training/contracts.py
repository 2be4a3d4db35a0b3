"""What passes between the engine, the losses, the mixes and the weightings, and what these, and a backbone, may define besides
the one function of their kind; one that lacks it is treated as said here.

Random numbers come from the step's generator, which is the same in every run of that step: a mix and a weighting are handed it, a
loss draws by Loss.uniform, an augmentation has a key per image. Layers that take no generator, such as dropout in a network or a
head, find torch's global one seeded for the step. Any other use of a global generator is refused (lt/training/randomness.py).
"""

from dataclasses import dataclass
from typing import Callable, NamedTuple, Protocol, runtime_checkable

import torch
from torch import nn


class Mixed(NamedTuple):
    """A mixed batch; the loss is lam * loss(logits, target_a) + (1 - lam) * loss(logits, target_b), per example.

    images (B, 3, H, W)    target_a, target_b (B,) int64    lam (B,) in [0, 1]
    """

    images: torch.Tensor
    target_a: torch.Tensor
    target_b: torch.Tensor
    lam: torch.Tensor


@dataclass
class Step:
    """What a weighting may look at: one training batch, before its backward pass. Where several processes train together it is
    this one's part of the batch: sums and means over a batch go through lt.training.distributed.

    images (B, 3, H, W) in [0, 1], augmented    target (B,)
    losses() -> losses (B,) per example, with graph: those that are trained on. The batch goes through the model at the first
        call, or when the weights are known: passes of a weighting's own, made before it, need not share memory with that graph.
    objective(model, images, target) -> losses (B,): the loss that is being trained
    dev_batch(n) -> (images, target): a class-balanced batch from the development set, augmented
    """

    epoch: int
    step: int
    lr: float
    model: nn.Module
    images: torch.Tensor
    target: torch.Tensor
    losses: Callable[[], torch.Tensor]
    objective: Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
    dev_batch: Callable[[int], tuple[torch.Tensor, torch.Tensor]]
    generator: torch.Generator


@runtime_checkable
class FollowsEpochs(Protocol):
    """A loss with a schedule. What it derives from the epoch is a buffer: a resumed training begins within one."""

    def start_epoch(self, epoch: int) -> None:
        """Called before the first step of each epoch, counted from 0."""


@runtime_checkable
class DrawsNumbers(Protocol):
    """A loss that draws random numbers: each Loss, see Loss.uniform."""

    def start_step(self, generator: torch.Generator) -> None:
        """Called before each step with its generator, the same in all processes and in every run of that step."""


@runtime_checkable
class SeesExperts(Protocol):
    """A loss of several experts' logits together; without it, theirs are summed, each expert by itself."""

    def of_experts(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """logits (B, E, C), target (B,) -> losses (B,), summed over the experts."""


@runtime_checkable
class TellsCoupling(Protocol):
    """A mix that says whether it takes other images of the batch: of several processes, each then mixes all of it, which is what
    one without `batch_coupled` gets; False: its shard alone."""

    batch_coupled: bool


@runtime_checkable
class StartsLater(Protocol):
    """A weighting that gives ones before `start_epoch`, counted from 0: refused where the training has no such epoch."""

    start_epoch: int


@runtime_checkable
class HasDevelopmentSet(Protocol):
    """A weighting that calls Step.dev_batch; refused with a mix. `dev`: source and images per class of its development set, as
    lt.training.development.development_split takes them."""

    dev: tuple[str, int]


@runtime_checkable
class LogsEpochs(Protocol):
    """A weighting with columns of its own in log.csv."""

    def epoch_stats(self) -> dict[str, float]:
        """Further columns, the same in every epoch, about the epoch that has just ended, in all processes alike. Called once, at
        its end, and begins anew."""


@runtime_checkable
class HasSlowPart(Protocol):
    """A backbone of which only a part learns at train.backbone_lr_factor times the learning rate; without it, all of it does."""

    def slow_parameters(self) -> list[nn.Parameter]:
        """That part's parameters, frozen or not. Called once, before the first step."""
