"""What passes between the stage retrain and its methods, and what a backbone may define for them."""

from dataclasses import dataclass, field
from typing import Any, Callable, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Training:
    """What a method that trains the backbone gets besides its Inputs.

    images (N, 3, H, W) uint8 and labels (N,) int64, on the device, in the order of Inputs.labels
    base: the base model, an lt.network.classifier.Classifier on the device (a fresh copy: change it freely)
    augment(images (B, 3, H, W) in [0, 1], keys (B,) int64) -> images: the augmentation that params.yaml names
    origin: JSON values that tell these data, this augmentation and this base model from others, for lt.training.checkpoint.Checkpoint
    """

    images: torch.Tensor
    labels: torch.Tensor
    base: nn.Module
    augment: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    origin: dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    """What a stage-2 method may look at.

    With a model of E experts, features are (.., E, D) and logits (B, E, C) instead of (.., D) and (B, C): so in views, clean, val, and
    in what heads take and give. A method that does not take them says so in one line, EXPERTS = False beside its STATISTICS, and is
    refused such a model before anything is trained.

    views (K, N, D) float: features of K augmented views of the training part (experts: (K, N, E, D)); may be memory-mapped
    clean (N, D) float: features of the images as they are (experts: (N, E, D))    labels (N,) int64    counts (C,) int64
    head: the trained head of the base model (a fresh copy: change it freely)
    new_head(name=None, **options): a freshly initialised head, as the base's is, or of lt/heads/<name>.py with these options
    logit_prior (C,): class prior that the base model's raw logits embody
    seed: derive every generator from it, with lt.core.keys.generator(seed, "balms", ...)
    open_training(): the Training, for methods that train the backbone, inside launch.processes(); reads the images, which other
        methods need not wait for
    val (N_val, D) float: features of the validation part's images as they are (experts: (N_val, E, D)), with val_labels (N_val,) int64; None without one
    """

    views: np.ndarray
    clean: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    head: nn.Module
    new_head: Callable[..., nn.Module]
    logit_prior: np.ndarray
    seed: int
    device: torch.device
    open_training: Callable[[], Training] | None = None
    val: np.ndarray | None = None
    val_labels: np.ndarray | None = None


@dataclass
class Retrained:
    """What a stage-2 method gives back.

    head: module features -> logits, made by Inputs.head or Inputs.new_head (its `.spec` says how to build it again)
    offset (C,): added to the head's logits; zeros if None    balanced_view: use head.balanced(features) instead of head(features)
    logit_prior (C,): class prior that the new logits embody (uniform for a balanced rule)
    log: one dict of numbers per line of log.csv, the same keys in each
    arrays: further small arrays worth keeping, such as BALMS's sampling rates
    backbone: only if the method trained it, with backbone_log, one dict per line of backbone_log.csv, and state, the
        lt.training.checkpoint.Checkpoint of that training, to be cleared when the artifact is written
    """

    head: nn.Module
    logit_prior: np.ndarray
    offset: np.ndarray | None = None
    balanced_view: bool = False
    log: list[dict[str, float]] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    backbone: nn.Module | None = None
    backbone_log: list[dict[str, float]] = field(default_factory=list)
    state: Any | None = None


@runtime_checkable
class HasStages(Protocol):
    """A backbone that tells the features after each of its stages, which dro_lt with layers above 1 is trained at.

    stage_dims: width D_s of each, first to last; of the last, it is feature_dim
    """

    stage_dims: tuple[int, ...]

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Normalised images (B, 3, H, W) -> pooled features (B, D_s) of each stage, with experts (B, E, D_s); the last are those
        that forward gives. Called instead of forward, in training and in evaluation mode."""
