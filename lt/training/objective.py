"""What a training minimises: per-example losses of a batch, summed over experts."""

from typing import Callable

import torch
from torch import nn
from torch.nn import functional as F

from lt.network.classifier import Classifier
from lt.training.contracts import DrawsNumbers, FollowsEpochs, Mixed, SeesExperts


class Objective(nn.Module):
    """What is minimised. Its parameters, if any, are trained along with the model's.

    Where several processes train together, forward sees this one's part of the batch: what examples have in common goes through
    lt.training.distributed, so that buffers are the same in all processes.
    """

    def start_epoch(self, epoch: int, model: Classifier, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Called before each epoch with the whole training part, uint8 images (N, 3, H, W)."""

    def start_step(self, generator: torch.Generator) -> None:
        """Called before each step with its generator, the one source of random numbers."""

    def forward(self, features: torch.Tensor, logits: torch.Tensor, mixed: Mixed) -> torch.Tensor:
        """features (B, D), logits (B, C) or with experts (B, E, .) and the batch -> losses (B,)."""
        raise NotImplementedError

    def epoch_stats(self) -> dict[str, float]:
        """Further columns of the log, about the epoch that has just ended."""
        return {}


class Supervised(Objective):
    """A loss on a mixed batch: lam * loss(target_a) + (1 - lam) * loss(target_b), summed over experts.

    loss: a plug-in, told what it asks for (lt/training/contracts.py), or a function such as cross_entropy
    """

    def __init__(self, loss: Callable):
        super().__init__()
        self.loss = loss

    def start_epoch(self, epoch: int, model: Classifier, images: torch.Tensor, labels: torch.Tensor) -> None:
        if isinstance(self.loss, FollowsEpochs):
            self.loss.start_epoch(epoch)

    def start_step(self, generator: torch.Generator) -> None:
        if isinstance(self.loss, DrawsNumbers):
            self.loss.start_step(generator)

    def forward(self, features: torch.Tensor, logits: torch.Tensor, mixed: Mixed) -> torch.Tensor:
        losses = expert_sum(self.loss, logits, mixed.target_a)
        if mixed.target_b is mixed.target_a:
            return losses
        return mixed.lam * losses + (1 - mixed.lam) * expert_sum(self.loss, logits, mixed.target_b)


def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Per-example cross-entropy: logits (B, C), target (B,) -> (B,)."""
    return F.cross_entropy(logits, target, reduction="none")


def expert_sum(loss: Callable, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Per-example loss (B,), summed over experts where logits are (B, E, C); a loss with `of_experts` sees them together."""
    if logits.ndim == 2:
        return loss(logits, target)
    if isinstance(loss, SeesExperts):
        return loss.of_experts(logits, target)
    return sum(loss(logits[:, e], target) for e in range(logits.shape[1]))


def mean_over_experts(logits: torch.Tensor) -> torch.Tensor:
    """Logits (B, C) as they are, (B, E, C) as their mean over experts (B, C)."""
    return logits if logits.ndim == 2 else logits.mean(1)


class TrainingError(RuntimeError):
    """Training cannot go on."""
