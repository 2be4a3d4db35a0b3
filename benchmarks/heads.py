"""Re-training a head on cached features, against the same iterations with the frozen backbone run in each."""

from typing import Callable

import torch

from benchmarks import sizes
from benchmarks.timing import Row, medians
from lt.core.plugins import load
from lt.methods import dro_lt
from lt.retrain.contracts import Inputs
from lt.samplers import class_aware

BATCH = 512
# Method, its options, backbone passes of one batch per iteration in the original, the bar.
METHODS = (
    ("balms", {"meta_batch_size": BATCH}, 3, 500.0),
    ("crt", {}, 1, 200.0),
    ("lws", {}, 1, 200.0),
)
BALMS_STEPS, BALMS_BAR_S, INSTANCE_BAR_MS = 2000, 8.0, 100.0


def rows(quick: bool) -> list[Row]:
    """The methods, the last part of DRO-LT, and what BALMS takes in all."""
    steps, repeats, images = (50, 1, 64) if quick else (500, 5, BATCH)
    cached, backbone = sizes.features(), backbone_pass(images)
    head_steps, run_head = dro_lt_head(cached, epochs=1 if quick else 5)
    pairs = [(name, fit(name, cached, steps, options), steps, passes, bar) for name, options, passes, bar in METHODS]
    pairs.append(("dro_lt, last part", run_head, head_steps, 1, 200.0))
    found, per_iteration = [], {}
    for name, run, count, passes, bar in pairs:
        run_s, pass_s = medians(repeats, run, backbone)
        per_iteration[name], other = 1e3 * run_s / count, 1e3 * passes * pass_s * BATCH / images
        pair = f"{name}, head only, against running the frozen backbone ({passes} x {BATCH} images)"
        found.append(Row(pair, per_iteration[name], other, "ms/iteration", other / per_iteration[name], bar))
    whole_s = per_iteration["balms"] * BALMS_STEPS / 1e3
    pair = f"balms, {BALMS_STEPS} iterations of {BATCH}, on two cores, against what they may take"
    found.append(Row(pair, whole_s, BALMS_BAR_S, "s", whole_s / BALMS_BAR_S, 1.0, at_least=False))
    return [*found, instance_row(cached, quick)]


def instance_row(cached: Inputs, quick: bool) -> Row:
    """BALMS with the published draw among all images."""
    steps, repeats = (3, 1) if quick else (30, 3)
    (run_s,) = medians(repeats, fit("balms", cached, steps, {"meta_batch_size": BATCH, "gumbel": "instance"}))
    each = 1e3 * run_s / steps
    pair = f"balms, draw among {len(cached.labels)} images, against what it may take"
    return Row(pair, each, INSTANCE_BAR_MS, "ms/iteration", each / INSTANCE_BAR_MS, 1.0, at_least=False)


def fit(name: str, cached: Inputs, steps: int, options: dict) -> Callable[[], object]:
    """A method's whole fit, as a function."""
    method = load("methods", name)
    return lambda: method(cached, steps=steps, batch_size=BATCH, **options)


def dro_lt_head(cached: Inputs, epochs: int) -> tuple[int, Callable[[], object]]:
    """Iterations of DRO-LT's last part, which trains the head with class-aware batches, and that part as a function."""
    sampler = class_aware.make(cached.labels, cached.counts, BATCH, group=4)
    recipe = {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}
    return epochs * sampler.steps, lambda: dro_lt.retrain_head(cached, "linear", sampler, epochs, recipe)


def backbone_pass(count: int) -> Callable[[], object]:
    """A batch of `count` images through the frozen backbone, as the originals' loops do it, as a function."""
    backbone = sizes.resnet32().backbone.eval().to(memory_format=torch.contiguous_format)
    images = torch.rand(count, 3, 32, 32)
    return torch.no_grad()(lambda: backbone(images))
