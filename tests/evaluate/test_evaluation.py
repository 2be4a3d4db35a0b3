"""All metrics of a row: which there are, over seeds, and as they are written."""

import json

import numpy as np
import pytest

from lt.core.counts import prior
from lt.evaluate.headline import HEADLINE
from lt.evaluate.label_shift import under_prior
from lt.evaluate.metrics import BLOCK
from lt.evaluate.row import evaluate, oracle, over_seeds, rounded

TRAIN = np.array([200, 120, 60, 30, 10])

GROUPS = ["many", "medium", "few", "head", "mid", "tail"]
CALIBRATION = ["nll", "brier", "ece", "mce", "classwise_ece", "head_ece", "mid_ece", "tail_ece"]
SHIFTS = [*(f"forward_{ratio}" for ratio in (50, 25, 10, 5, 2)), *(f"backward_{ratio}" for ratio in (2, 5, 10, 25, 50))]
METRICS = [
    "top1", "balanced", "train_prior", "macro_f1", *GROUPS, *(f"{name}_precision" for name in GROUPS),
    *(f"{name}_precision_predicted" for name in GROUPS), *CALIBRATION,
    *(f"{name}_t" for name in CALIBRATION), *SHIFTS, *(f"{name}_known" for name in SHIFTS),
]  # fmt: skip


def case(num_images=500, seed=0, experts=None):
    random = np.random.default_rng(seed)
    labels = np.arange(num_images) % 5
    logits = 2 * (random.normal(size=(num_images, 5)) + np.eye(5)[labels]) + np.log(prior(TRAIN))
    if experts:
        logits = logits[:, None] + random.normal(size=(num_images, experts, 5))
    return logits.astype(np.float32), labels


def test_the_metrics_are_these_and_no_others():
    logits, labels = case()
    result = evaluate(logits, labels, TRAIN, prior(TRAIN), 15)
    assert list(result["metrics"]) == METRICS
    assert HEADLINE == ("top1", "balanced", "train_prior", "many", "medium", "few", "head", "mid", "tail", "nll", "ece")
    assert set(result) == {"metrics", "temperature", "temperature_at_test_prior", "per_class", "test_prior", "reliability", "correct"}
    assert set(result["per_class"]) == {"recall", "precision", "f1", "predicted"}


def test_keys_are_the_same_where_groups_are_empty():
    logits, labels = case()
    metrics = evaluate(logits, labels, np.array([9, 8, 7, 6, 5]), np.full(5, 0.2), 15)["metrics"]
    assert list(metrics) == METRICS
    assert metrics["many"] is None and metrics["medium_precision"] is None and metrics["few"] == metrics["balanced"]


class Watched:
    """Logits of which a block at a time may be read, as of a file that is larger than the memory."""

    def __init__(self, logits):
        self.logits, self.shape, self.ndim, self.most = logits, logits.shape, logits.ndim, 0

    def __len__(self):
        return len(self.logits)

    def __getitem__(self, rows):
        part = self.logits[rows]
        self.most = max(self.most, len(part))
        return part


@pytest.mark.parametrize("experts", [None, 2])
def test_logits_are_read_in_blocks_of_rows(experts):
    logits, labels = case(num_images=2 * BLOCK + 10, experts=experts)
    watched = Watched(logits)
    found = evaluate(watched, labels, TRAIN, prior(TRAIN), 15)
    assert watched.most == BLOCK
    assert found == evaluate(logits, labels, TRAIN, prior(TRAIN), 15)


def test_parts_agree_with_each_other():
    logits, labels = case()
    result = evaluate(logits, labels, TRAIN, prior(TRAIN), 15)
    metrics = result["metrics"]
    uniform = next(point for point in result["test_prior"] if point["name"] == "uniform")
    assert uniform["prior_unknown"]["accuracy"] == pytest.approx(metrics["balanced"])
    assert np.mean(result["per_class"]["recall"]) == pytest.approx(metrics["balanced"])
    assert metrics["train_prior"] == pytest.approx(under_prior(logits, labels, prior(TRAIN), TRAIN)["prior_unknown"]["accuracy"])
    points = {point["name"]: point for point in result["test_prior"]}
    assert metrics["backward_10"] == points["backward_10"]["prior_unknown"]["accuracy"]
    assert metrics["forward_2_known"] == points["forward_2"]["prior_known"]["accuracy"]
    assert sum(result["per_class"]["predicted"]) == sum(result["reliability"]["after"]["count"]) == 500
    before = result["reliability"]["before"]
    gaps = [n * abs(acc - conf) for n, acc, conf in zip(before["count"], before["accuracy"], before["confidence"]) if n]
    assert sum(gaps) / 500 == pytest.approx(metrics["ece"])


def test_experts_count_as_their_mean():
    logits, labels = case(experts=3)
    whole = evaluate(logits, labels, TRAIN, prior(TRAIN), 15)
    mean = evaluate(logits.astype(np.float64).mean(axis=1), labels, TRAIN, prior(TRAIN), 15)
    assert rounded(whole) == rounded(mean)


def test_results_are_json_without_nan_and_repeatable():
    logits, labels = case()
    first, second = (json.dumps(rounded(evaluate(logits, labels, TRAIN, prior(TRAIN), 15)), allow_nan=False) for _ in range(2))
    assert first == second


def test_mean_and_sample_sd_over_seeds():
    mean, sd = over_seeds([{"top1": 0.5, "few": None}, {"top1": 0.6, "few": None}, {"top1": 0.1, "few": None}])
    assert mean == {"top1": pytest.approx(0.4), "few": None}
    assert sd == {"top1": pytest.approx(0.07**0.5), "few": None}  # (0.01 + 0.04 + 0.09) / 2


def test_one_seed_has_no_sd():
    assert over_seeds([{"top1": 0.5}]) == ({"top1": 0.5}, {"top1": None})


def test_oracle_is_the_best_tested_epoch_of_each_metric():
    nan = float("nan")
    log = [(nan, nan), (0.6, 0.3), (nan, nan), (0.5, 0.4)]
    log = [{"epoch": i, "test_top1": top1, "test_balanced": balanced} for i, (top1, balanced) in enumerate(log)]
    assert oracle(log) == {"oracle_top1": 0.6, "oracle_balanced": 0.4}
    none = {"oracle_top1": None, "oracle_balanced": None}
    assert oracle([{"epoch": 1, "loss": 0.5}]) == oracle([]) == none
    assert oracle(log[:1]) == none


def test_rounding_reaches_every_level_and_leaves_whole_numbers_alone():
    content = {"a": [0.123456789, None, 1234567, {"b": (123456.789, "0.123456789", True)}]}
    assert rounded(content) == {"a": [0.123457, None, 1234567, {"b": [123457.0, "0.123456789", True]}]}


def test_logits_of_another_data_set_are_refused():
    logits, labels = case()
    with pytest.raises(ValueError, match=r"row base: got shape \(500, 5\), expected \(499, 5\)"):
        evaluate(logits, labels[1:], TRAIN, prior(TRAIN), 15, "row base")
