"""Learning rates, against those of published protocols, by epoch counted from 1 as these count."""

import math
from fnmatch import fnmatch
from functools import partial

import pytest

from lt.core import params
from lt.core.params import TrainingSettings
from lt.published import recipes
from lt.subsample import profile
from lt.training.schedule import learning_rate
from tests.conftest import ROOT


def schedule(**changes) -> TrainingSettings:
    plain = {
        "epochs": 200, "batch_size": 128, "lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4,
        "schedule": "constant", "warmup_epochs": 0, "warmup_from": 1.0, "milestones": [], "gamma": 0.1,
    }
    return TrainingSettings(**plain | changes)


PROTOCOLS = {
    "BALMS, CIFAR": (
        {"epochs": 591, "schedule": "cosine", "warmup_epochs": 37, "warmup_from": 0.5},
        {1: 0.05, 2: 0.051389, 36: 0.098611, 37: 0.1, 295: 0.055377, 590: 1e-6, 591: 0.0},
    ),
    "xERM with PC, CIFAR-100": (
        {"lr": 0.2, "schedule": "step", "warmup_epochs": 5, "warmup_from": 7 / 15, "milestones": [119, 159], "gamma": 0.01},
        {1: 0.093333, 2: 0.12, 3: 0.146667, 4: 0.173333, 5: 0.2, 6: 0.2, 119: 0.2, 120: 0.002, 159: 0.002, 160: 2e-5, 200: 2e-5},
    ),
    "PC, ImageNet": ({"epochs": 90, "lr": 0.05, "schedule": "cosine"}, {1: 0.04998477, 45: 0.025, 90: 0.0}),
    "PC, Places": (
        {"epochs": 30, "schedule": "step", "milestones": [9, 19, 29]},
        {1: 0.1, 9: 0.1, 10: 0.01, 19: 0.01, 20: 0.001, 29: 0.001, 30: 1e-4},
    ),
    "RIDE": (
        {"schedule": "step", "warmup_epochs": 5, "warmup_from": 0.2, "milestones": [160, 180], "gamma": 0.01},
        {1: 0.02, 5: 0.1, 160: 0.1, 161: 0.001, 180: 0.001, 181: 1e-5},
    ),
    "Prior-LT": (
        {"schedule": "step", "warmup_epochs": 5, "warmup_from": 0.2, "milestones": [160, 180], "gamma": 0.01},
        {1: 0.02, 2: 0.04, 3: 0.06, 4: 0.08, 5: 0.1, 6: 0.1, 160: 0.1, 161: 0.001, 180: 0.001, 181: 1e-5, 200: 1e-5},
    ),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_published_learning_rates(protocol):
    changes, expected = PROTOCOLS[protocol]
    found = {epoch: learning_rate(schedule(**changes), epoch - 1) for epoch in expected}
    assert found == pytest.approx(expected, rel=1e-5, abs=3e-7)


def test_a_warm_up_of_one_epoch_is_none():
    assert [learning_rate(schedule(warmup_epochs=1, warmup_from=0.2), epoch) for epoch in range(3)] == [0.1] * 3


def test_without_warm_up_a_cosine_starts_just_below_its_peak_and_falls():
    rates = [learning_rate(schedule(epochs=10, schedule="cosine"), epoch) for epoch in range(10)]
    assert rates[0] == pytest.approx(0.1 * (1 + math.cos(math.pi / 10)) / 2)
    assert rates == sorted(rates, reverse=True) and rates[-1] == 0.0


def test_milestones_inside_the_warm_up_count_after_it():
    changes = {"schedule": "step", "warmup_epochs": 4, "warmup_from": 0.5, "milestones": [2, 6]}
    assert [learning_rate(schedule(**changes), epoch) for epoch in (3, 4, 6)] == pytest.approx([0.1, 0.01, 0.001])


# Every recipe beside its release, epoch by epoch. e: epoch counted from 1.


def cao(e, lr=0.1):
    """github.com/kaidic/LDAM-DRW, cifar_train.py, adjust_learning_rate; the same in Prior-LT, utils.py, and in DRO-LT,
    main.py, where nothing calls it."""
    return lr * (e / 5 if e <= 5 else 1e-4 if e > 180 else 0.01 if e > 160 else 1)


def warmup_multi_step(e, lr, steps):
    """github.com/zhangyongshun/BagofTricks-LT, lib/utils/lr_scheduler.py, WarmupMultiStepLR with warmup_factor 1/3 and five
    warm-up epochs; the same in xERM, xERM.PC.public/utils.py. main/train.py and run_networks.py step it before an epoch, not after it."""
    warm = (1 - e / 5) / 3 + e / 5 if e < 5 else 1
    return lr * warm * 0.01 ** sum(step <= e for step in steps)


def ride(e, steps):
    """github.com/frank-xwang/RIDE-LongTailRecognition, train.py, lr_lambda, of epochs from 0, stepped after an epoch; the same in
    xERM, xERM.RIDE.public/train.py."""
    return 0.1 * min(e / 5, 1) * 0.01 ** sum(step <= e - 1 for step in steps)


def longtail_da(e):
    """github.com/abdullahjamal/Longtail_DA, C-LT/main.py, adjust_learning_rate, called with epoch + 1."""
    return 0.1 * 0.01 ** (e >= 160) * 0.01 ** (e >= 180)


def balms(e, classes, largest, imbalance):
    """github.com/jiawei-ren/BalancedMetaSoftmax-Classification, utils.py, CosineAnnealingLRWarmup, stepped before an epoch;
    config/CIFAR*_LT/softmax_imba200.yaml: base_lr 0.05, warmup_lr 0.1, 800 of 13000 iterations of 512 images."""
    batches = math.ceil(profile("exp", [largest] * classes, imbalance).sum() / 512)
    epochs, warmup = math.ceil(13000 / batches), math.ceil(800 / batches)
    if e < warmup:
        return 0.05 + 0.05 * (e - 1) / (warmup - 1)
    return 0.1 * (1 + math.cos(math.pi * (e - warmup) / (epochs - warmup))) / 2


def cosine(e, lr):
    """torch's CosineAnnealingLR to 0 over 90 epochs, stepped before an epoch: BALMS, config/ImageNet_LT/feat_uniform_resnet10.yaml
    and balanced_softmax_resnet10.yaml (lr 0.2); github.com/facebookresearch/classifier-balancing,
    config/ImageNet_LT/feat_{uniform,balance,squareroot,shift}.yaml and config/iNaturalist18/feat_unifrom.yaml (lr 0.2);
    github.com/hyperconnect/LADE, config/ImageNet_LT/causal.yaml (lr 0.2); xERM, xERM.PC.public/config/ImageNet_LT/ce.yaml (lr 0.05
    in both stages)."""
    return lr * (1 + math.cos(math.pi * e / 90)) / 2


def step_of_ten(e, lr=0.1):
    """torch's StepLR with step_size 10 and gamma 0.1, stepped before an epoch: xERM,
    xERM.TDE.public/config/Places_LT/resnet{50,152}_{TDE,xERM}.yaml, the classifier's 0.1; LADE, config/Places_LT/ce.yaml with
    --lr 0.05, as its README has it."""
    return lr * 0.1 ** (e // 10)


def balms_of(dataset, imbalance):
    return partial(balms, classes={"cifar10": 10, "cifar100": 100}[dataset], largest={"cifar10": 5000, "cifar100": 500}[dataset],
                   imbalance=imbalance)


BAGS, XERM = (partial(warmup_multi_step, lr=lr, steps=steps) for lr, steps in ((0.1, (160, 180)), (0.2, (120, 160))))
# name of recipes -> released learning rates of the base and of the xERM student; None where there is none, or none is released
RELEASED = {
    "digits_*": (None, None),
    "cifar*_decoupling": (BAGS, None),
    "cifar*_plain": (BAGS, XERM),
    "cifar*_ldam_drw": (cao, None),
    "cifar*_prior_lt": (cao, None),
    "cifar*_dro_lt": (cao, None),
    "cifar*_ride": (partial(ride, steps=(160, 180)), partial(ride, steps=(120, 160))),
    "cifar*_longtail_da": (longtail_da, None),
    "cifar*_xerm": (XERM, XERM),
    "cifar*_xerm_tde": (XERM, XERM),
    "imagenet_lt_r10_*": (partial(cosine, lr=0.2), None),
    **{f"imagenet_lt_rx50_{kind}": (partial(cosine, lr=0.2), None)
       for kind in ("decoupling", "class_balanced", "square_root", "progressive", "xerm_tde")},
    "imagenet_lt_rx50_xerm": (partial(cosine, lr=0.05), partial(cosine, lr=0.05)),
    "places_lt_r152_balms": (None, None),  # the base is downloaded
    "places_lt_r152_xerm": (partial(step_of_ten, lr=0.05), None),
    "inat18_r50_decoupling": (partial(cosine, lr=0.2), None),
    "inat18_r50_longtail_da": (None, None),
    "*_r50_prior_lt": (None, None),
    "*_r50_dro_lt": (None, None),
    "places_lt_*_xerm_tde": (step_of_ten, step_of_ten),
    "own_images*": (None, None),
    **{f"{dataset}_if{imbalance}_{kind}": (balms_of(dataset, imbalance), None)
       for dataset in ("cifar10", "cifar100") for imbalance in (10, 50, 100, 200)
       for kind in ("balms", "over_balance", "balanced_softmax", "class_weights", "class_sampling")},
}
# Epochs where the share of the highest learning rate is another than in the release, which the recipe's text tells.
DIFFERENT = {
    ("cifar*_plain", "distill"): (
        range(120, 180), "the student's learning rate falls when the base's does, after epochs 159 and 179"
    ),
}
RECIPES = recipes.read_all(ROOT / "recipes")
SHIPPED = params.read_yaml(ROOT / "params.yaml")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_learning_rates_of_its_release_in_every_epoch(name):
    patterns = [pattern for pattern in RELEASED if fnmatch(name, pattern)]
    assert len(patterns) == 1, "a recipe needs the schedule of its release, or None, in RELEASED"
    (pattern,) = patterns
    content = recipes.expand(RECIPES[name], SHIPPED)
    for block, released in zip(("train", "distill"), RELEASED[pattern]):
        if released is None or block == "distill" and not content["teachers"]:
            continue
        ours, epochs = TrainingSettings(**content[block]), range(1, content[block]["epochs"] + 1)
        rates, expected = [learning_rate(ours, e - 1) for e in epochs], [released(e) for e in epochs]
        if (pattern, block) in DIFFERENT:
            told_epochs, told = DIFFERENT[pattern, block]
            rates, expected = ([rate / max(found) for rate in found] for found in (rates, expected))
            assert any(told in line for line in RECIPES[name].differs)
        else:
            told_epochs = []
        close = [rate == pytest.approx(value, rel=1e-6, abs=1e-12) for rate, value in zip(rates, expected)]
        assert [e for e, same in zip(epochs, close) if not same] == [*told_epochs], block
