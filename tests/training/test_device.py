"""Training on a device other than the CPU: nothing in a step waits for the device, or meets a tensor that lies elsewhere.

The device is torch's `meta`, which every machine has: its tensors have shapes and no numbers, so that whatever would need a
number on the host fails there (.item(), a boolean mask, a copy to the CPU), as does an operation on tensors of two devices. On a
GPU the first would cost time in every step, and the second would fail.
"""

import importlib.util
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lt.core import keys
from lt.core.counts import prior, uniform
from lt.core.params import Teacher
from lt.core.plugins import load, names
from lt.distill.xerm import TwoViews, Xerm
from lt.mixes import cutmix, unimix
from lt.network import classifier
from lt.retrain.robust_loss import RobustObjective, Robustness
from lt.training import engine, mixing, precision, sgd
from lt.training.buckets import Buckets
from lt.training.objective import Objective, Supervised
from tests.training.test_engine import schedule

META = torch.device("meta")
COUNTS, SIDE, BATCH = np.array([12, 6, 4]), 64, 8
PLAIN = {
    "models": "resnet8", "heads": "linear", "losses": "ce", "mixes": "none", "weightings": "none", "samplers": "instance",
    "augments": "crop_flip",
}
CASES = [(kind, name) for kind in PLAIN for name in names(kind) if name != "identity"]  # which takes no images
if importlib.util.find_spec("timm") is None:
    CASES.remove(("models", "timm"))


class Watch(TorchDispatchMode):
    """Refuses what makes the host wait and meta lets pass: a copy from the CPU to the device, of anything."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            before, after = (args[1] if func is torch.ops.aten.copy_.default else args[0]), result
            assert before.device == after.device, f"{tuple(before.shape)} is copied from {before.device} to {after.device}"
        return result


@pytest.fixture(autouse=True)
def what_meta_does_not_have(monkeypatch):
    """Random generators, for which those of the CPU may stand; the draws behind Beta and UniMix's partners; a fused SGD."""
    usual, fused = keys.generator, sgd.sgd
    monkeypatch.setattr(keys, "generator", lambda *names, device="cpu": usual(*names))
    for module in (mixing, cutmix, unimix):
        monkeypatch.setattr(module, "beta", lambda alpha, size, generator: torch.rand(size, dtype=torch.float64, device=META))
    monkeypatch.setattr(unimix, "categorical", lambda probs, generator: torch.randint(len(probs), probs.shape, device=META))
    monkeypatch.setattr(sgd, "sgd", lambda *tensors, **options: fused(*tensors, **options | {"fused": False}))


def make_run(objective: Objective | None = None, **chosen) -> engine.Run:
    """A training on meta, with some plug-ins, or an objective, other than the plain ones."""
    chosen = PLAIN | chosen
    labels = np.repeat(np.arange(3), COUNTS)
    spec = classifier.classifier_spec(chosen["models"], {}, chosen["heads"], {}, 3, (0.5,) * 3, (0.25,) * 3)
    loss = load("losses", chosen["losses"])(COUNTS)
    options = {"start_epoch": 0} if chosen["weightings"] in ("class_balanced", "longtail_da") else {}
    weighting = load("weightings", chosen["weightings"])(COUNTS, **options)
    images = torch.empty(len(labels), 3, SIDE, SIDE, dtype=torch.uint8, device=META)
    return engine.Run(
        classifier.build(spec, 0).to(META), (objective or Supervised(loss)).to(META), images,
        torch.from_numpy(labels).to(META), load("samplers", chosen["samplers"])(labels, COUNTS, BATCH),
        load("augments", chosen["augments"])(SIDE), schedule(batch_size=BATCH), 0, "meta", load("mixes", chosen["mixes"])(COUNTS),
        weighting.to(META) if isinstance(weighting, nn.Module) else weighting,
        dev_images=images, dev_labels=torch.from_numpy(labels).to(META),
    )


def prepared(run: engine.Run) -> torch.Tensor:
    """Makes ready what engine.train does before the first step, and gives its batch."""
    run.forward = precision.Forward(run.model, run.settings, run.images)
    run.forward.device = torch.device("cpu")  # for autocast, which is off, and does not know meta
    run.optimizer = engine._optimizer(run)
    run.gradients = Buckets(run.optimizer.parameters)
    run.dev_counts = torch.ones(3, dtype=torch.int64, device=META)
    run.objective.start_epoch(0, run.model, run.images, run.labels)
    return run.sampler.epoch(keys.generator(0, "batches", 0), 0.0)[0].to(META)


def second_step(run: engine.Run) -> torch.Tensor:
    """What a step returns that is watched; the first one may take tables to the device, and count."""
    step = partial(engine._train_step, run, 0, 0, 0.1, prepared(run), 0)
    step()
    with Watch():
        return step()


@pytest.mark.parametrize("kind, name", CASES)
def test_a_step_stays_on_the_device(kind, name):
    seen = second_step(make_run(**{kind: name}))
    assert seen.device == META and seen.shape == (3,)


def xerm() -> Xerm:
    base = classifier.build(classifier.classifier_spec("resnet8", {}, "linear", {}, 3, (0.5,) * 3, (0.25,) * 3), 1)
    rule = classifier.DecisionRule(base.head, np.zeros(3), False, 3)
    teacher = TwoViews(base, prior(COUNTS), rule, uniform(3), base.backbone, COUNTS).to(META)
    options = {"gamma": 2.0, "eps": 1e-5, "temperature": 1.0, "weights": "xerm", "student": "fresh", "student_loss": "ce"}
    return Xerm(teacher, Teacher(**options), None, COUNTS)


def robust() -> RobustObjective:
    made = RobustObjective(Robustness(1.0, 1.0, "learned_free", 1.0, 1, "lt", "none", "clean"), COUNTS, (64,), lambda *_: None)
    made.start_epoch = lambda *_: None  # reads a bank of features, once per epoch
    return made


@pytest.mark.parametrize("make", [xerm, robust])
def test_a_step_of_other_trainings_stays_on_the_device(make):
    assert second_step(make_run(make())).device == META


@pytest.mark.parametrize("augment", [
    lambda images, keys: images * torch.ones(3, 1, 1).to(images.device), lambda images, keys: images * float(images.mean()),
    lambda images, keys: images[images.mean((1, 2, 3)) > 0.5], lambda images, keys: images + torch.ones(3, 1, 1),
    lambda images, keys: images * images.mean().cpu(),
])
def test_what_would_wait_is_refused(augment):
    run = make_run()
    run.augment = augment
    with pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        second_step(run)
