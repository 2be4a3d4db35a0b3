"""What the losses share: checks of logits and target, the prior that the logits embody, and formulas that several of them use."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lt.core.counts import prior
from lt.training import distributed
from lt.training.objective import TrainingError


class Loss(nn.Module):
    """A loss per example: logits (B, C), target (B,) int64 in [0, C) -> (B,), not reduced. Subclasses write `per_example`.

    logit_prior (C,) float64, sums to 1: the class prior that raw logits embody after training on data with these counts; given
        on any scale, None for the training prior
    batch_coupled: True where an example's loss depends on the other examples of its batch; with several processes these are
        gathered, by lt.training.distributed
    random: True where a loss draws random numbers, by `uniform` alone; such a loss has no minimum to converge to, and is for
        training in steps (train.epochs above 0)

    Half-precision logits are raised to float32. Buffers stay float64 and are cast to the dtype of the logits where they are used.
    Raises ValueError where a class has no training example, and on logits or targets of a wrong shape or dtype; target values
    are not looked at, because that would make the CPU wait for the GPU.
    """

    batch_coupled = False
    random = False

    def __init__(self, counts: np.ndarray, logit_prior: np.ndarray | None = None):
        super().__init__()
        train_prior = prior(counts)
        logit_prior = train_prior if logit_prior is None else logit_prior
        self.num_classes = len(train_prior)
        self.keep("logit_prior", logit_prior / logit_prior.sum())
        self.generator = None

    def keep(self, name: str, values: np.ndarray) -> None:
        """Registers a float64 buffer (C,)."""
        self.register_buffer(name, torch.tensor(np.asarray(values), dtype=torch.float64))

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if logits.ndim != 2 or logits.shape[1] != self.num_classes or not logits.is_floating_point():
            raise ValueError(
                f"logits: got {logits.dtype} {tuple(logits.shape)}, expected floating point (B, {self.num_classes}); "
                f"the loss was made for the counts of {self.num_classes} classes"
            )
        if target.shape != logits.shape[:1] or target.dtype != torch.int64:
            raise ValueError(
                f"target: got {target.dtype} {tuple(target.shape)}, expected int64 ({len(logits)},), one class number per example"
            )
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        return self.per_example(logits, target)

    def start_step(self, generator: torch.Generator) -> None:
        """Called before each training step with its generator, which makes the same numbers in any run of this step."""
        self.generator = generator

    def uniform(self, logits: torch.Tensor) -> torch.Tensor:
        """A random number in [0, 1) for each of the logits (B, C), from the step's generator; the same for any number of processes.

        raises TrainingError where no step has begun
        """
        if self.generator is None:
            raise TrainingError(
                f"{type(self).__name__} is random: it draws from the step's generator, and got none; expected start_step(generator) "
                "before it; a head that is fitted to convergence (train.epochs 0, steps: null) needs a loss without randomness"
            )
        size, own = distributed.own_rows(logits)
        return torch.rand(size, logits.shape[1], generator=self.generator, device=logits.device)[own].to(logits.dtype)

    def per_example(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define per_example(logits, target) -> (B,)")


class ShiftedCrossEntropy(Loss):
    """Cross-entropy of logits plus one constant per class: CE(z + shift, y).

    Training makes softmax(z + shift) the posterior under the training prior, so z itself embodies prior * exp(-shift).

    shift (C,) float64
    """

    def __init__(self, counts: np.ndarray, shift: np.ndarray):
        super().__init__(counts, logit_prior=prior(counts) * np.exp(-shift))
        self.keep("shift", shift)

    def per_example(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits + self.shift.to(logits.dtype), target, reduction="none")


def margin_penalty(counts: np.ndarray, max_margin: float, scale: float) -> np.ndarray:
    """scale * max_margin (n_min / n_c)^(1/4), what LDAM takes off the true class's logit: counts (C,) -> (C,) float64.

    Source: Cao et al. 2019, Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss.
    """
    rarity = prior(counts) ** -0.25
    return scale * max_margin * rarity / rarity.max()


def focal_loss(logits: torch.Tensor, target: torch.Tensor, gamma: float) -> torch.Tensor:
    """-(1 - p_y)^gamma log p_y with p = softmax(z): logits (B, C), target (B,) -> (B,); gamma = 0 is cross-entropy.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, equation 4, in its softmax form.
    """
    cross_entropy = F.cross_entropy(logits, target, reduction="none")
    # 1 - p_y, kept off zero: with gamma < 1 its power has an infinite slope there, and infinity times zero is NaN.
    doubt = (-torch.expm1(-cross_entropy)).clamp_min(torch.finfo(logits.dtype).tiny)
    return doubt**gamma * cross_entropy
