"""Bilevel training of a head: what an SGD step does to the loss on a balanced batch, exactly, without a second-order graph."""

import dataclasses

import numpy as np
import torch
from torch import nn

from lt.retrain.bank import ClassPool, FeatureBank
from lt.retrain.contracts import Inputs
from lt.retrain.heads import inner_products, trainable
from lt.retrain.loop import Outcome
from lt.training.objective import expert_sum
from lt.training.sgd import SGD


def balanced_source(inputs: Inputs, source: str, bank: FeatureBank, method: str) -> tuple[ClassPool, FeatureBank]:
    """What class-balanced batches are drawn from: the examples by class, and their features.

    source 'train': the training part's views, which are `bank`; 'val': the validation part, as it is
    method: for the message    raises ValueError where the validation part lacks a class, or is empty
    """
    num_classes = len(inputs.counts)
    if source == "train":
        return ClassPool(inputs.labels, num_classes), bank
    if inputs.val is None:
        raise ValueError(f"{method}.meta_set: got val, but there is no validation part; set subset.val_fraction, or use train")
    missing = np.flatnonzero(np.bincount(inputs.val_labels, minlength=num_classes) == 0)
    if len(missing):
        raise ValueError(
            f"{method}.meta_set: got val, expected an image of each class to validate on; classes {missing.tolist()[:10]} "
            "have none: a class with a single image stays in training; use train"
        )
    held_out = dataclasses.replace(inputs, views=inputs.val[None], labels=inputs.val_labels)
    return ClassPool(inputs.val_labels, num_classes), FeatureBank(held_out, bank.dtype)


def step_and_feedback(
    head: nn.Module,
    optimizer: SGD,
    inner: nn.Module,
    batch: tuple[torch.Tensor, torch.Tensor],
    outer: nn.Module,
    meta_batch: tuple[torch.Tensor, torch.Tensor],
    weights: torch.Tensor | None = None,
) -> tuple[Outcome, torch.Tensor]:
    """One SGD step on mean_b a_b loss_b, and what it taught about the weights a: feedback_b = a_b d L_meta / d a_b.

    L_meta is the mean outer loss of the head after the step. SGD is affine in the gradient, hence exactly
        d L_meta / d a_b = -(lr kappa / B) <d loss_b / d theta, d L_meta / d theta'>,    kappa = 1, with Nesterov 1 + momentum,
    the first factor at the parameters before the step, the second at those after it; momentum and weight decay drop out. The
    step is the real one: no look-ahead copy, no second-order graph.

    batch, meta_batch: features (B, D), target (B,)    weights a (B,): all ones if None
    returns the Outcome on the batch, and feedback (B,)
    """
    (features, target), (meta_features, meta_target) = batch, meta_batch
    before = {name: parameter.detach().clone() for name, parameter in trainable(head).items()}
    logits = head(features)
    logits.retain_grad()
    losses = expert_sum(inner, logits, target)
    optimizer.zero_grad()
    (losses if weights is None else weights * losses).mean().backward()
    optimizer.step()
    meta_loss = expert_sum(outer, head(meta_features), meta_target).mean()
    direction = dict(zip(before, torch.autograd.grad(meta_loss, list(trainable(head).values()))))
    kappa = 1 + optimizer.options["momentum"] if optimizer.options["nesterov"] else 1
    # logits.grad holds the residuals already times a_b / B.
    feedback = -optimizer.lr * kappa * inner_products(head, before, features, logits.grad, direction)
    return Outcome(features, target, logits.detach(), losses.detach()), feedback
