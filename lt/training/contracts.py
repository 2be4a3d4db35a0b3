"""What passes between the engine, the losses, the mixes and the weightings.

Random numbers come from the step's generator, which is the same in every run of that step: a mix and a weighting are handed it, a
loss draws by Loss.uniform, an augmentation has a key per image. Layers that take no generator, such as dropout in a network or a
head, find torch's global one seeded for the step. Any other use of a global generator is refused (lt/training/randomness.py).
"""

from dataclasses import dataclass
from typing import Callable, NamedTuple

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
