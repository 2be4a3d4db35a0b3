"""Training steps of the whole network with Longtail_DA's look-ahead weights: in closed form, and by double backward."""

from typing import Callable

import torch
from torch.func import functional_call

from benchmarks import sizes
from benchmarks.timing import Row, medians, peak_mib
from lt.losses import ce
from lt.training.contracts import Mixed, Step
from lt.training.objective import Supervised
from lt.weightings.longtail_da import eps_gradient

INNER_LR = 0.1


def rows(quick: bool) -> list[Row]:
    """Time and memory of one step: d L_dev / d eps of a batch, then the weighted loss's own forward and backward pass."""
    batch, repeats = (16, 1) if quick else (64, 5)
    images, target = sizes.images(2 * batch)
    images = images.float() / 255
    model, objective = sizes.resnet32().train(), objective_of(100)
    (images, dev_images), (target, dev_target) = images.split(batch), target.split(batch)
    dev = dev_images, dev_target

    def step_by(eps_by: Callable) -> Callable[[], object]:
        def step() -> None:
            eps = -0.01 * eps_by(model, objective, (images, target), dev)
            loss = ((1 + eps) * objective(model, images, target)).mean()
            torch.autograd.grad(loss, list(model.parameters()))

        return step

    ours, other = step_by(eps_in_closed_form), step_by(eps_by_double_backward)
    (ours_s, other_s), ours_mib, other_mib = medians(repeats, ours, other), peak_mib(ours), peak_mib(other)
    name = f"Longtail_DA step, batch {batch}, against double backward"
    return [
        Row(f"{name}: time", ours_s, other_s, "s", ours_s / other_s, 1.0, at_least=False),
        Row(f"{name}: memory", ours_mib, other_mib, "MiB", ours_mib / other_mib, 0.6, at_least=False),
    ]


def objective_of(num_classes: int) -> Callable:
    """objective(model, images, target) -> cross-entropy (B,), as the engine hands it to a weighting."""
    supervised = Supervised(ce.make(sizes.counts(10_847, num_classes)))

    def objective(model, images, target):
        features = model.features(images)
        return supervised(features, model.head(features), Mixed(images, target, target, torch.ones(len(target))))

    return objective


def eps_in_closed_form(model, objective: Callable, batch: tuple, dev: tuple) -> torch.Tensor:
    """The gradient as the weighting computes it: (B,)."""
    step = Step(0, 0, INNER_LR, model, *batch, None, objective, lambda size: dev, None)
    return eps_gradient(step, torch.ones(len(batch[1])).to(batch[0]), dev, INNER_LR, 1 / len(batch[1]))


def eps_by_double_backward(model, objective: Callable, batch: tuple, dev: tuple) -> torch.Tensor:
    """The gradient through a graph of the look-ahead step, as the originals compute it: (B,)."""
    eps = torch.zeros(len(batch[1]), requires_grad=True)
    parameters = dict(model.named_parameters())
    losses = objective(model, *batch)
    gradients = torch.autograd.grad(((1 + eps) * losses).mean(), list(parameters.values()), create_graph=True)
    ahead = {name: parameter - INNER_LR * gradient for (name, parameter), gradient in zip(parameters.items(), gradients)}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    logits = functional_call(model, (ahead, buffers), (dev[0],))
    return torch.autograd.grad(torch.nn.functional.cross_entropy(logits, dev[1]), eps)[0]
