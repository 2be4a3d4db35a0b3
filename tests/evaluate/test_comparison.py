"""Whether a difference is noise."""

import numpy as np
import pytest
from scipy import stats

from lt.core.counts import prior
from lt.evaluate.comparison import class_weights, compare, over_images, over_seeds, pack_correct, unpack_correct, wilson
from lt.evaluate.row import evaluate, over_seeds as mean_and_sd, rounded

TRAIN = np.array([200, 60, 10])
LABELS = np.tile(np.arange(3), 100)


def details(strength, seeds, noise=0, subset="abc", labels=LABELS):
    """Details of a row whose logits point to the label with `strength`; rows of one noise share most of their errors."""
    results = {}
    for seed in seeds:
        shared = np.random.default_rng(seed).normal(size=(len(labels), 3))
        own = np.random.default_rng([seed, noise]).normal(size=(len(labels), 3))
        logits = shared + 0.3 * own + strength * np.eye(3)[labels]
        results[str(seed)] = rounded(evaluate(logits, labels, TRAIN, prior(TRAIN), 15))
    mean, sd = mean_and_sd([result["metrics"] for result in results.values()])
    return {
        "context": {"loss": "ce", "subset": subset}, "classes": ["a", "b", "c"], "train_counts": TRAIN.tolist(),
        "test_counts": np.bincount(labels, minlength=3).tolist(), "mean": mean, "sd": sd, "seeds": results,
    }  # fmt: skip


def test_correctness_bits_come_back_by_class():
    labels = np.array([2, 0, 2, 1, 0, 2, 2, 0, 0, 2, 1])
    correct = np.array([1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0], dtype=bool)
    text = pack_correct(correct, labels)
    assert len(text) == 4  # 11 bits in two bytes
    by_class = unpack_correct(text, [4, 2, 5])
    for c in range(3):
        np.testing.assert_array_equal(by_class[c], correct[labels == c])
    with pytest.raises(ValueError, match="got 2 bytes, expected 3 for 20 test images"):
        unpack_correct(text, [4, 2, 14])


def test_interval_over_seeds_by_hand():
    interval = over_seeds([0.50, 0.52, 0.54], [0.60, 0.61, 0.68])
    assert interval.difference == pytest.approx(0.11)  # differences 0.10, 0.09, 0.14
    margin = 4.302653 * np.sqrt(0.0007 / 3)  # t at 97.5% with 2 degrees of freedom; variance 0.0014 / 2
    assert (interval.low, interval.high) == (pytest.approx(0.11 - margin), pytest.approx(0.11 + margin))
    assert interval.leaves_out_zero


def test_interval_over_seeds_is_the_paired_t_test():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 6))
    expected = stats.ttest_rel(second, first).confidence_interval(0.95)
    interval = over_seeds(first.tolist(), second.tolist())
    np.testing.assert_allclose([interval.low, interval.high], [expected.low, expected.high])
    assert not interval.leaves_out_zero


def test_one_seed_gives_no_interval_over_seeds():
    assert over_seeds([0.5], [0.6]) is None
    with pytest.raises(ValueError, match="got 1 and 2"):
        over_seeds([0.5], [0.6, 0.7])


def test_interval_over_images_is_mcnemars():
    # 10 images only the second has right, 4 only the first, of 100: difference 0.06, variance (14 - 36 / 100) / 100^2
    first = np.array([1] * 54 + [0] * 46, dtype=bool)
    second = np.array([1] * 50 + [0] * 4 + [1] * 10 + [0] * 36, dtype=bool)
    interval = over_images([[first]], [[second]], np.array([1.0]), paired=True)
    margin = 1.959964 * np.sqrt(14 - 0.36) / 100
    assert (interval.low, interval.high) == (pytest.approx(0.06 - margin), pytest.approx(0.06 + margin))
    apart = over_images([[first]], [[second]], np.array([1.0]), paired=False)
    assert apart.difference == pytest.approx(0.06)
    assert apart.high - 0.06 == pytest.approx(1.959964 * np.sqrt(0.54 * 0.46 / 100 + 0.6 * 0.4 / 100))


@pytest.mark.parametrize("paired", [True, False])
def test_interval_over_images_is_that_of_a_loop_over_classes(paired):
    random, sizes = np.random.default_rng(0), (5, 0, 1, 12)
    first, second = ([[random.random(size) < 0.6 for size in sizes] for _ in range(3)] for _ in range(2))
    weights = np.array([0.5, 0.0, 0.2, 0.3])
    difference = variance = 0.0
    for label in (0, 2, 3):
        right = [np.mean([seed[label] for seed in row], axis=0) for row in (first, second)]
        difference += weights[label] * (right[1].mean() - right[0].mean())
        spread = np.var(right[1] - right[0]) if paired else np.var(right[0]) + np.var(right[1])
        variance += weights[label] ** 2 * spread / sizes[label]
    found = over_images(first, second, weights, paired)
    assert found.difference == pytest.approx(difference)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * np.sqrt(variance))


def test_weights_sum_recall_to_the_metric():
    uneven = np.concatenate([LABELS, np.zeros(50, dtype=np.int64)])
    row = details(1.0, [0], labels=uneven)
    recall = np.array(row["seeds"]["0"]["per_class"]["recall"])
    for metric in ("top1", "balanced", "many", "medium", "few", "head", "mid", "tail"):
        weights = class_weights(metric, TRAIN, row["test_counts"])
        assert weights.sum() == pytest.approx(1.0)
        assert weights @ recall == pytest.approx(row["mean"][metric], abs=1e-5)
    assert class_weights("ece", TRAIN, row["test_counts"]) is None
    assert class_weights("few", np.array([50, 60, 70]), row["test_counts"]) is None


def test_a_large_difference_is_more_than_noise():
    found = compare(details(0.5, range(3), 1), details(2.0, range(3), 2), "balanced")
    assert found.second > found.first and found.seeds == ["0", "1", "2"] and found.paired
    assert found.by_seed.leaves_out_zero and found.by_image.leaves_out_zero
    for interval in (found.by_seed, found.by_image):
        assert interval.difference == pytest.approx(found.second - found.first, abs=1e-5)
    assert found.verdict() == "more than noise"


def test_two_runs_of_the_same_thing_differ_by_noise():
    found = compare(details(1.0, range(3), 1), details(1.0, range(3), 2), "balanced")
    assert found.first != found.second
    assert found.verdict().startswith("noise")


def test_a_row_against_itself():
    row = details(1.0, range(2))
    assert compare(row, row, "balanced").verdict() == "no difference"


def test_one_common_seed_is_said_not_to_suffice():
    found = compare(details(0.5, [0, 1], 1), details(2.0, [1, 2], 2), "tail")
    assert found.seeds == ["1"] and found.by_seed is None and found.by_image.leaves_out_zero
    assert found.verdict().startswith("more than the noise of the test images; one seed cannot tell")
    calibration = compare(details(0.5, [1], 1), details(2.0, [1], 2), "ece")
    assert calibration.by_image is None and calibration.verdict().startswith("unknown; one seed cannot tell")


def test_seeds_are_not_enough_where_other_test_images_could_turn_it_round():
    first, second = details(1.0, [0], 1), details(1.0, [0], 2)
    for row, value in ((first, 0.70), (second, 0.71)):
        row["seeds"] = {str(seed): row["seeds"]["0"] | {"metrics": {"balanced": value + 0.0001 * seed}} for seed in range(3)}
    first["seeds"]["1"]["metrics"]["balanced"] += 0.0001
    found = compare(first, second, "balanced")
    assert found.by_seed.leaves_out_zero and not found.by_image.leaves_out_zero
    assert found.verdict() == "noise: other test images could turn it round"


def test_other_subsets_are_compared_without_pairing():
    first, second = details(1.0, [0], 1), details(1.3, [0], 2, subset="xyz")
    apart, together = compare(first, second, "top1"), compare(first, second | {"context": first["context"]}, "top1")
    assert together.paired and not apart.paired
    assert apart.by_image.high - apart.by_image.low > together.by_image.high - together.by_image.low


def test_what_cannot_be_compared_is_refused():
    row = details(1.0, [0, 1])
    with pytest.raises(ValueError, match="test_counts differ"):
        compare(row, row | {"test_counts": [100, 100, 99]}, "top1")
    with pytest.raises(ValueError, match="no common seed"):
        compare(row, details(1.0, [5]), "top1")
    with pytest.raises(ValueError, match="nearest: 'balanced'"):
        compare(row, row, "balance")
    empty = row | {"mean": row["mean"] | {"few": None}}
    with pytest.raises(ValueError, match="not defined here"):
        compare(row, empty, "few")


def test_wilson_intervals_are_scipys():
    right, number = np.array([1, 0, 90, 1]), np.array([2, 10, 100, 1])
    low, high = wilson(right / number, number)
    expected = [stats.binomtest(int(k), int(n)).proportion_ci(method="wilson") for k, n in zip(right, number)]
    assert low == pytest.approx([interval.low for interval in expected], abs=1e-12)
    assert high == pytest.approx([interval.high for interval in expected], abs=1e-12)
    assert np.isnan(wilson(np.nan, 0)).all()
