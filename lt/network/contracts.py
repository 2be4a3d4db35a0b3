"""What a backbone or a head may define besides its forward pass; one that lacks it is treated as said here."""

from typing import Protocol, runtime_checkable

import torch


@runtime_checkable
class HasExperts(Protocol):
    """A backbone of E = `num_experts` experts, whose features are (B, E, D) where E > 1; without it, E = 1."""

    num_experts: int


@runtime_checkable
class HasNormalisation(Protocol):
    """A backbone that was trained with mean and std of its own, three numbers each, of images in [0, 1]: a Classifier takes
    `normalisation` instead of the data set's."""

    normalisation: tuple[tuple[float, ...], tuple[float, ...]]


@runtime_checkable
class Observes(Protocol):
    """A head that keeps running state of the features it is trained on, in buffers; its parameters are the optimizer's."""

    def observe(self, features: torch.Tensor, lr: float) -> None:
        """Called after each optimizer step with the features (B, D) of that step, without graph, from all processes, and its
        learning rate; where a head is fitted to all examples at once, afterwards with those of all, and lr 0."""


@runtime_checkable
class HasBalancedView(Protocol):
    """A head with second, balanced logits, which a method asks for by Retrained.balanced_view."""

    def balanced(self, features: torch.Tensor) -> torch.Tensor:
        """features (B, D) -> logits (B, C); called in evaluation mode, and leaves the head as it is."""
