"""Calibration errors and temperature scaling."""

import numpy as np
import pytest
from scipy.special import softmax

from lt.core.counts import thirds
from lt.evaluate.calibration import (
    bin_of, calibration, classwise_ece, cross_fit, ece, fit_temperature, halves, mce, reliability, score,
)
from lt.evaluate.metrics import BLOCK

CONFIDENCE = np.array([0.95, 0.90, 0.78, 0.65, 0.62, 0.42])
CORRECT = np.array([1, 1, 0, 1, 0, 0], dtype=bool)


def case(num_images=600, num_classes=5, scale=1.0, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, num_classes, num_images)
    return scale * (random.normal(size=(num_images, num_classes)) + np.eye(num_classes)[labels]), labels


def two_class(gap, right, total):
    """Two classes, logit of class 0 ahead by gap; `right` of `total` images are of class 0."""
    return np.tile([gap, 0.0], (total, 1)), (np.arange(total) >= right).astype(np.int64)


def test_worked_example():
    histogram = reliability(CONFIDENCE, CORRECT)
    assert ece(histogram) == pytest.approx(0.27)
    assert mce(histogram) == pytest.approx(0.78)
    assert {k: n for k, n in enumerate(histogram["count"]) if n} == {6: 1, 9: 2, 11: 1, 13: 1, 14: 1}
    assert histogram["confidence"][9] == pytest.approx(0.635) and histogram["accuracy"][9] == 0.5
    assert np.isnan(histogram["accuracy"][0])


def test_bins_are_closed_on_the_right():
    np.testing.assert_array_equal(bin_of(np.array([0.0, 1e-9, 0.1, 0.1000001, 0.5, 0.3, 1.0]), 10), [0, 0, 0, 1, 4, 2, 9])
    for bins in (3, 7, 15, 20):
        np.testing.assert_array_equal(bin_of(np.arange(1, bins + 1) / bins, bins), np.arange(bins))


def test_no_image_no_error():
    nothing = reliability(CONFIDENCE[:0], CORRECT[:0])
    assert ece(nothing) is None and mce(nothing) is None


def test_nll_of_known_logits():
    scored = score(np.array([[2, 0.5, -1], [1, 0.2, 0.4]]), np.array([0, 2]))
    np.testing.assert_allclose(scored.nll, [0.241311, 1.292217], atol=5e-7)
    np.testing.assert_array_equal(scored.correct, [True, False])


def test_brier_of_uniform_and_of_certain_predictions():
    labels = np.array([0, 1])
    np.testing.assert_allclose(score(np.zeros((2, 4)), labels).brier, [0.75, 0.75])  # (3/4)^2 + 3 (1/4)^2
    np.testing.assert_allclose(score(np.array([[800.0, 0], [800.0, 0]]), labels).brier, [0.0, 2.0])


def test_the_likelihood_is_finite_and_blind_to_constants():
    extreme = np.array([[1e4, 0.0, -1e4]] * 3, dtype=np.float32)
    np.testing.assert_array_equal(score(extreme, np.arange(3)).nll, [0.0, 1e4, 2e4])
    logits, labels = case()
    np.testing.assert_allclose(score(logits, labels).nll, score(logits + 77.0, labels).nll, atol=1e-12)


def test_classwise_ece_against_loops():
    logits, labels = case(num_images=200)
    probs, bins, total = softmax(logits, axis=1), 15, 0.0
    for c in range(5):
        for k in range(bins):
            inside = (probs[:, c] > k / bins) & (probs[:, c] <= (k + 1) / bins)
            total += abs((labels[inside] == c).sum() - probs[inside, c].sum()) / 200
    assert classwise_ece(score(logits, labels, bins).class_gap, 200) == pytest.approx(total / 5)


def test_perfect_forecasts_have_no_error():
    labels = np.array([0, 1, 2, 2])
    metrics, _ = calibration(900.0 * np.eye(3)[labels], labels, thirds(np.array([9, 5, 1])))
    assert set(metrics.values()) == {0.0}


def test_errors_per_group_are_those_of_its_true_classes():
    logits, labels = case()
    counts = np.array([50, 40, 30, 20, 10])
    metrics, _ = calibration(logits, labels, thirds(counts))
    tail = labels == 4
    alone = score(logits[tail], labels[tail])
    assert metrics["tail_ece"] == pytest.approx(ece(reliability(alone.confidence, alone.correct)))
    keep = labels < 4
    assert calibration(logits[keep], labels[keep], thirds(counts))[0]["tail_ece"] is None


def test_results_do_not_depend_on_blocks_or_expert_axis():
    logits, labels = case(num_images=BLOCK + 100)
    whole = score(logits, labels)
    parts = [score(logits[rows], labels[rows]) for rows in (slice(0, 3000), slice(3000, None))]
    np.testing.assert_array_equal(whole.nll, np.concatenate([part.nll for part in parts]))
    np.testing.assert_allclose(whole.class_gap, sum(part.class_gap for part in parts), atol=1e-9)
    experts = np.stack([logits - 1.5, logits + 1.5], axis=1)
    np.testing.assert_allclose(score(experts, labels).nll, whole.nll, rtol=1e-12)


@pytest.mark.parametrize("gap, right", [(3.0, 70), (0.5, 90)])
def test_temperature_in_closed_form(gap, right):
    logits, labels = two_class(gap, right, 100)
    share = right / 100
    assert fit_temperature(logits, labels) == pytest.approx(gap / np.log(share / (1 - share)), rel=1e-4)


def test_fitting_leaves_the_logits_as_they_are():
    logits, labels = case()
    before = logits.copy()
    fit_temperature(logits, labels)
    np.testing.assert_array_equal(logits, before)


def test_temperature_undoes_a_scale():
    logits, labels = case(num_images=2000)
    once, scaled = fit_temperature(logits, labels), fit_temperature(4 * logits, labels)
    assert scaled == pytest.approx(4 * once, rel=1e-3)


def test_temperature_of_perfect_and_of_contradicted_logits_stays_in_range():
    labels = np.array([0, 1, 2])
    assert fit_temperature(5 * np.eye(3)[labels], labels) < 0.5
    assert fit_temperature(-5 * np.eye(3)[labels], labels) == pytest.approx(100, rel=0.01)


def test_halves_are_stratified_and_fixed():
    labels = np.array([0, 0, 0, 1, 1, 2, 0, 3])
    np.testing.assert_array_equal(halves(labels), [0, 1, 0, 1, 0, 0, 1, 1])
    many = np.random.default_rng(0).integers(0, 9, 501)
    for c in range(9):
        assert abs(2 * halves(many)[many == c].sum() - (many == c).sum()) <= 1
    assert abs(2 * halves(many).sum() - 501) <= 9


def test_no_image_is_judged_with_a_temperature_that_it_helped_to_fit():
    logits, labels = case(num_images=80, scale=3.0)
    half = halves(labels)
    found, used = cross_fit(logits, labels)
    assert used[0] == fit_temperature(logits[half == 1], labels[half == 1])
    assert used[1] == fit_temperature(logits[half == 0], labels[half == 0])
    assert used[0] != used[1]
    np.testing.assert_array_equal(found, half)
    changed = logits.copy()
    image = int(np.flatnonzero(half == 0)[3])
    changed[image] = -changed[image]
    assert cross_fit(changed, labels)[1][0] == used[0]


def test_temperature_scaling_mends_overconfident_logits():
    logits, labels = case(num_images=4000, scale=5.0)
    half, used = cross_fit(logits, labels)
    temperature = np.asarray(used)[half]
    before, after = score(logits, labels), score(logits, labels, temperature=temperature)
    np.testing.assert_array_equal(before.correct, after.correct)
    assert after.nll.mean() < before.nll.mean() and after.brier.mean() < before.brier.mean()
    before, after = (reliability(scored.confidence, scored.correct) for scored in (before, after))
    assert ece(after) < 0.2 * ece(before)


def test_one_image_cannot_be_halved():
    with pytest.raises(ValueError, match="two halves"):
        cross_fit(np.zeros((1, 3)), np.array([0]))
