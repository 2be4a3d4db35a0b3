"""Accuracy under any class distribution of the test data."""

import json

import numpy as np
import pytest

from lt.core.counts import prior
from lt.evaluate.label_shift import (
    RATIOS, curve, nested_subset, prior_shift, protocol, rank, read_prior, shares, under_prior, weighted_accuracy,
)
from lt.evaluate.metrics import accuracies, predict

TRAIN = np.array([200, 90, 30, 8])


def case(num_images=400, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(num_images) % 4
    logits = random.normal(size=(num_images, 4)) + np.eye(4)[labels] + np.log(prior(TRAIN))
    return logits.astype(np.float32), labels


@pytest.mark.parametrize(
    "num_classes, each, sizes",
    [(100, 100, [2486, 2956, 3876, 4932, 7166, 10000]), (1000, 50, [12058, 14437, 19059, 24365, 35574, 50000])],
)
def test_published_subset_sizes(num_classes, each, sizes):
    labels = np.tile(np.arange(num_classes), each)
    train_counts = np.arange(num_classes, 0, -1)
    found = {name: int(nested_subset(labels, share).sum()) for name, share in protocol(train_counts).items()}
    assert list(found) == [*(f"forward_{r}" for r in RATIOS), "uniform", *(f"backward_{r}" for r in reversed(RATIOS))]
    assert [found[f"forward_{ratio}"] for ratio in RATIOS] + [found["uniform"]] == sizes
    assert [found[f"backward_{ratio}"] for ratio in RATIOS] == sizes[:5]


def test_shares_follow_the_rank_by_training_count():
    counts = np.array([10, 300, 40, 300])
    np.testing.assert_array_equal(rank(counts), [3, 0, 2, 1])
    np.testing.assert_allclose(shares(counts, 8), [1 / 8, 1, 1 / 4, 1 / 2])
    np.testing.assert_allclose(shares(counts, 8, backward=True), [1, 1 / 8, 1 / 2, 1 / 4])


def test_subset_takes_the_first_images_of_each_class_and_is_nested():
    labels = np.array([1, 0, 1, 0, 0, 1, 0, 1])
    np.testing.assert_array_equal(nested_subset(labels, np.array([1.0, 0.5])), [1, 1, 1, 1, 1, 0, 1, 0])
    small, large = nested_subset(labels, np.array([0.5, 0.25])), nested_subset(labels, np.array([0.75, 0.5]))
    assert small.sum() == 3 and not (small & ~large).any()


def test_weighted_accuracy_by_hand():
    accuracy, error = weighted_accuracy(np.array([0.5, 1.0, 0.2]), np.array([4, 9, 16]), np.array([6.0, 3.0, 1.0]))
    assert accuracy == pytest.approx(0.6 * 0.5 + 0.3 + 0.1 * 0.2)
    assert error == pytest.approx(np.sqrt(0.36 * 0.25 / 4 + 0.01 * 0.16 / 16))


def test_standard_error_is_the_spread_of_drawn_test_sets():
    random = np.random.default_rng(0)
    recall, each, weight = np.array([0.9, 0.6, 0.3]), np.array([50, 40, 30]), np.array([0.6, 0.3, 0.1])
    drawn = (random.binomial(each, recall, size=(20_000, 3)) / each) @ weight
    accuracy, error = weighted_accuracy(recall, each, weight)
    assert drawn.mean() == pytest.approx(accuracy, abs=1e-3)
    assert drawn.std() == pytest.approx(error, rel=0.02)


def test_classes_without_test_images_are_left_out():
    recall, counts = np.array([0.5, np.nan, 1.0]), np.array([2, 0, 2])
    assert weighted_accuracy(recall, counts, np.array([1.0, 5.0, 3.0]))[0] == pytest.approx((0.5 + 3.0) / 4)
    with pytest.raises(ValueError, match="no class that has test images"):
        weighted_accuracy(recall, counts, np.array([0.0, 1.0, 0.0]))


def test_uniform_prior_gives_balanced_accuracy():
    logits, labels = case()
    keep = np.random.default_rng(1).random(400) < np.array([0.9, 0.5, 0.3, 0.7])[labels]
    logits, labels = logits[keep], labels[keep]
    found = under_prior(logits, labels, prior(TRAIN), np.ones(4))
    assert found["prior_unknown"]["accuracy"] == pytest.approx(accuracies(labels, predict(logits), TRAIN)["balanced"])


def test_the_prior_of_the_test_set_itself_gives_top1():
    logits, labels = case()
    keep = np.arange(400) % 7 != 0
    logits, labels = logits[keep][:333], labels[keep][:333]
    found = under_prior(logits, labels, prior(TRAIN), np.bincount(labels))
    assert found["prior_unknown"]["accuracy"] == pytest.approx(np.mean(predict(logits) == labels))


def test_logits_that_embody_the_target_are_left_alone():
    logits, _ = case()
    for target in (np.ones(4) / 4, prior(TRAIN)):
        np.testing.assert_array_equal(prior_shift(target, 3 * target).round(12), np.zeros(4))
        np.testing.assert_array_equal(predict(logits, prior_shift(target, target)), predict(logits))


def test_known_uniform_prior_is_post_compensation():
    logits, train_prior = np.array([[2, 0.5, -1], [1, 0.2, 0.4]]), np.array([0.7, 0.2, 0.1])
    np.testing.assert_array_equal(predict(logits), [0, 0])
    np.testing.assert_array_equal(predict(logits, prior_shift(train_prior, np.ones(3))), [0, 2])
    shift = prior_shift(train_prior, np.array([0.1, 0.2, 0.7]))
    expected = np.array([[0.054090, 0.5, 0.945910], [-0.945910, 0.2, 2.345910]])
    np.testing.assert_allclose((logits + shift) - (logits + shift)[:, :1], expected - expected[:, :1], atol=2e-6)


def test_a_class_of_weight_zero_is_never_predicted():
    logits, labels = case()
    shift = prior_shift(prior(TRAIN), np.array([0.0, 1.0, 1.0, 1.0]))
    assert shift[0] == -np.inf and 0 not in predict(logits, shift)


def test_knowing_the_prior_helps_where_it_is_far_from_the_training_prior():
    points = {point["name"]: point for point in curve(*case(num_images=4000), TRAIN, prior(TRAIN))}
    for name in ("uniform", "backward_10", "backward_50"):
        assert points[name]["prior_known"]["accuracy"] > points[name]["prior_unknown"]["accuracy"] + 0.03
    known, unknown = (points["forward_25"][f"prior_{kind}"]["accuracy"] for kind in ("known", "unknown"))
    assert known == pytest.approx(unknown, abs=0.02)


def test_curve_agrees_with_its_parts_and_the_subset_with_the_weighted_form():
    logits, labels = case(num_images=4000)
    points = {point["name"]: point for point in curve(logits, labels, TRAIN, prior(TRAIN))}
    assert points["uniform"]["images"] == 4000
    for kind in ("prior_unknown", "prior_known"):
        whole = points["uniform"][kind]
        assert whole["subset_accuracy"] == pytest.approx(whole["accuracy"])
        point, share = points["backward_5"], shares(TRAIN, 5, backward=True)
        assert {key: point[kind][key] for key in ("accuracy", "se")} == under_prior(logits, labels, prior(TRAIN), share)[kind]
        assert abs(point[kind]["subset_accuracy"] - point[kind]["accuracy"]) < 4 * point[kind]["se"]


def test_a_subset_without_images_has_no_accuracy():
    """Four of twelve classes are tested, with two images each, and none of them is among the frequent ones of `backward`."""
    counts, labels = np.array([500] * 4 + [50] * 4 + [5] * 4), np.array([0, 0, 1, 1, 2, 2, 5, 5])
    points = {point["name"]: point for point in curve(np.eye(12)[labels], labels, counts, prior(counts))}
    empty = [point for point in points.values() if not point["images"]]
    assert empty and "forward50" not in [point["name"] for point in empty]
    for point in points.values():
        found = point["prior_unknown"]["subset_accuracy"]
        assert found == (1.0 if point["images"] else None)
    json.dumps(list(points.values()), allow_nan=False)


@pytest.mark.parametrize(
    "logit_prior, target, message",
    [
        ([0.5, 0.5], [1.0, 1.0, 1.0], "got shape"),
        ([1.0, 0.0], [1.0, 1.0], "logit_prior"),
        ([0.5, 0.5], [1.0, -1.0], "at least 0"),
        ([0.5, 0.5], [0.0, 0.0], "not all of them 0"),
        ([0.5, 0.5], [np.nan, 1.0], "at least 0"),
    ],
)
def test_impossible_priors_are_refused(logit_prior, target, message):
    with pytest.raises(ValueError, match=message):
        prior_shift(np.array(logit_prior), np.array(target))


def test_a_prior_from_a_file(tmp_path):
    path = tmp_path / "prior.json"
    for content in ([1, 2, 5], {"dog": 2, "cat": 1, "owl": 5}):
        path.write_text(json.dumps(content))
        np.testing.assert_allclose(read_prior(path, ("cat", "dog", "owl")), [0.125, 0.25, 0.625])


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"cat": 1, "cow": 1}', r"missing: \['dog'\], unknown: \['cow'\]"),
        ("[1, 2, 3]", "got 3 weights, expected 2"),
        ("[1, -2]", "at least 0"),
        ("[0, 0]", "not all of them 0"),
        ('["a", 1]', "at least 0"),
        ("3", "got int, expected 2"),
        ("[1,", "cannot be read as JSON"),
        ('{"cat": 1, "dog": 1, "cat": 2}', "the key 'cat' stands twice"),
        ("[1, NaN]", "got NaN, expected a number"),
    ],
)
def test_a_bad_prior_file_is_refused(tmp_path, content, message):
    path = tmp_path / "prior.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_prior(path, ("cat", "dog"))
