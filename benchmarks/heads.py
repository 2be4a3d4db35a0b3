"""Re-training a head on cached features, against the same iterations with the frozen backbone run in each."""

from typing import Callable

import torch
from torch.func import functional_call

from benchmarks import sizes
from benchmarks.timing import Row, medians, peak_mib
from lt.contracts import Inputs, Mixed, Step
from lt.engine import Supervised
from lt.load import load
from lt.losses import ce
from lt.weightings.longtail_da import eps_gradient

BATCH = 512
# Method, its options, backbone passes of one batch per iteration in the original, the bar.
METHODS = (
    ("balms", {"meta_batch_size": BATCH}, 3, 500.0),
    ("crt", {}, 1, 200.0),
    ("lws", {}, 1, 200.0),
)
INNER_LR = 0.1


def rows(quick: bool) -> list[Row]:
    """The methods, and the whole-network Longtail_DA gradient in closed form against double backward."""
    steps, repeats = (50, 1) if quick else (500, 5)
    cached, backbone = sizes.features(), backbone_pass()
    found = []
    for name, options, passes, bar in METHODS:
        per_fit, per_pass = medians(repeats, fit(name, cached, steps, options), backbone)
        ours, other = 1e3 * per_fit / steps, 1e3 * passes * per_pass
        pair = f"{name}, head only, against running the frozen backbone ({passes} x {BATCH} images)"
        found.append(Row(pair, ours, other, "ms/iteration", other / ours, bar))
    return found + longtail_da_rows(16 if quick else 64, repeats)


def fit(name: str, cached: Inputs, steps: int, options: dict) -> Callable[[], object]:
    """A method's whole fit, as a function."""
    method = load("methods", name)
    return lambda: method(cached, steps=steps, batch_size=BATCH, **options)


def backbone_pass() -> Callable[[], object]:
    """One batch through the frozen backbone, as the originals' loops do it, as a function."""
    backbone = sizes.resnet32().backbone.eval().to(memory_format=torch.contiguous_format)
    images = torch.rand(BATCH, 3, 32, 32)
    return torch.no_grad()(lambda: backbone(images))


def longtail_da_rows(batch: int, repeats: int) -> list[Row]:
    """Time and memory of d L_dev / d eps of a batch, for the whole network."""
    images, target = sizes.images(2 * batch)
    images = images.float() / 255
    model = sizes.resnet32().train()
    supervised = Supervised(ce.make(sizes.counts(10_847, 100)))

    def objective(model, images, target):
        features = model.features(images)
        return supervised(features, model.head(features), Mixed(images, target, target, torch.ones(len(target))))

    dev = images[batch:], target[batch:]
    images, target = images[:batch], target[:batch]

    def closed_form() -> torch.Tensor:
        losses = objective(model, images, target)
        step = Step(0, 0, INNER_LR, model, images, target, losses, objective, lambda size: dev, None)
        return eps_gradient(step, torch.ones(batch), dev, INNER_LR, 1 / batch)

    def double_backward() -> torch.Tensor:
        return eps_by_double_backward(model, objective, (images, target), dev)

    ours_s, other_s = medians(repeats, closed_form, double_backward)
    ours_mib, other_mib = peak_mib(closed_form), peak_mib(double_backward)
    name = f"Longtail_DA gradient, batch {batch}, against double backward"
    return [
        Row(f"{name}: time", ours_s, other_s, "s", ours_s / other_s, 1.0, at_least=False),
        Row(f"{name}: memory", ours_mib, other_mib, "MiB", ours_mib / other_mib, 0.6, at_least=False),
    ]


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
