"""Fitting a head to convergence: all examples at once, L-BFGS, a ridge penalty. For heads whose features stay as they are."""

import math
from typing import Callable

import numpy as np
import torch
from torch import nn

from lt.network.contracts import Observes
from lt.training.objective import TrainingError, mean_over_experts

ROWS_AT_ONCE = 16_384
MOST_PASSES = 1000
LOG_LINES = 20
# Converged: the penalised loss falls by less than this share of it in one step, or no gradient is above GRADIENT.
TOLERANCE, GRADIENT = 1e-7, 1e-6


def converge(
    head: nn.Module, losses: Callable, features: np.ndarray | torch.Tensor, target: torch.Tensor, weight_decay: float,
    class_weights: np.ndarray | None = None,
) -> list[dict[str, float]]:
    """Minimises in place, over those of the head's parameters that require a gradient,

        sum_i w_i losses_i / sum_i w_i + weight_decay / 2 * |W|^2        w_i = class_weights[target_i], or 1

    where W are the parameters of two or more dimensions: a penalty on the biases would move the logits towards another prior.
    With cross-entropy this is scikit-learn's LogisticRegression with C = 1 / (N weight_decay). A head that keeps running state
    then observes all features.

    losses(features (B, D), logits (B, C), target (B,)) -> (B,)    features (N, D), with experts (N, E, D)
    target (N,) int64 on the head's device
    returns the log: step (pass over the data), loss with the penalty, train_accuracy, about LOG_LINES lines
    raises TrainingError where the loss is not finite
    """
    from scipy.optimize import minimize  # only where it is used: the stages that train networks need not wait for it

    parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
    weights = torch.ones(len(target), dtype=torch.float64) if class_weights is None else torch.from_numpy(class_weights)[target.cpu()]
    weights = (weights / weights.sum()).to(target.device, parameters[0].dtype)
    log = []

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        _fill(parameters, flat)
        loss, right = _pass(head, losses, features, target, weights)
        matrices = [parameter for parameter in parameters if parameter.ndim > 1]
        for parameter in matrices:
            parameter.grad.add_(parameter.detach(), alpha=weight_decay)
        loss += weight_decay / 2 * sum(parameter.detach().double().square().sum().item() for parameter in matrices)
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is {loss} in pass {len(log) + 1} over the features; are they finite, and the loss defined?")
        log.append({"step": len(log) + 1, "loss": loss, "train_accuracy": right / len(target)})
        return loss, np.concatenate([parameter.grad.flatten().cpu().double().numpy() for parameter in parameters])

    start = np.concatenate([parameter.detach().flatten().cpu().double().numpy() for parameter in parameters])
    head.train()
    found = minimize(
        value_and_gradient, start, jac=True, method="L-BFGS-B",
        options={"maxfun": MOST_PASSES, "maxiter": MOST_PASSES, "ftol": TOLERANCE, "gtol": GRADIENT, "maxcor": 20},
    )
    if not found.success:
        print(f"the head has not converged after {found.nfev} passes over the features ({found.message}); it is used as it is")
    _fill(parameters, found.x)
    for parameter in parameters:
        parameter.grad = None
    if isinstance(head, Observes):
        head.observe(_rows(features, 0, len(target), parameters[0]), lr=0.0)
    head.eval()
    kept = sorted({*range(0, len(log), math.ceil(len(log) / LOG_LINES)), len(log) - 1})
    return [log[number] for number in kept]


def _pass(head: nn.Module, losses: Callable, features, target: torch.Tensor, weights: torch.Tensor) -> tuple[float, int]:
    """Weighted mean loss over all rows, its gradient in the parameters' `grad`, and the number of right predictions."""
    head.zero_grad()
    total, right = 0.0, 0
    like = next(head.parameters())
    for start in range(0, len(target), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        chunk = _rows(features, start, start + ROWS_AT_ONCE, like)
        logits = head(chunk)
        loss = (weights[rows] * losses(chunk, logits, target[rows])).sum()
        loss.backward()
        total += loss.item()
        right += int((mean_over_experts(logits.detach()).argmax(1) == target[rows]).sum())
    return total, right


def _rows(features: np.ndarray | torch.Tensor, start: int, stop: int, like: torch.Tensor) -> torch.Tensor:
    rows = features[start:stop]
    rows = rows if isinstance(rows, torch.Tensor) else torch.from_numpy(np.array(rows))
    return rows.to(like.device, like.dtype)


@torch.no_grad()
def _fill(parameters: list[nn.Parameter], flat: np.ndarray) -> None:
    parts = torch.from_numpy(flat).split([parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts):
        parameter.copy_(part.view_as(parameter))
