"""Learning rates, against those of published protocols, by epoch counted from 1 as these count."""

import math

import pytest

from lt.params import Schedule
from lt.schedule import learning_rate


def schedule(**changes) -> Schedule:
    plain = {
        "epochs": 200, "batch_size": 128, "lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4,
        "schedule": "constant", "warmup_epochs": 0, "warmup_from": 1.0, "milestones": [], "gamma": 0.1,
    }
    return Schedule(**plain | changes)


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
