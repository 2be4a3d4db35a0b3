"""Accuracy by class and by group."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score, recall_score

from lt.evaluate import metrics
from lt.evaluate.metrics import BLOCK, accuracies, check_logits, group_mean, per_class, predict

LABELS = np.array([0, 0, 1, 1, 2, 2])
PREDICTED = np.array([0, 1, 1, 1, 0, 1])


def random_case(num_images=3000, num_classes=7, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, num_classes, num_images)
    logits = random.normal(size=(num_images, num_classes)) + 1.5 * np.eye(num_classes)[labels]
    return logits.astype(np.float32), labels


def test_worked_example():
    metrics = accuracies(LABELS, PREDICTED, np.array([150, 50, 10]))
    assert metrics["top1"] == metrics["balanced"] == 0.5
    assert [metrics["many"], metrics["medium"], metrics["few"]] == [0.5, 1.0, 0.0]
    # Class 2 is never predicted: its precision counts as 0, and is not left out.
    assert [metrics["many_precision"], metrics["medium_precision"], metrics["few_precision"]] == [0.5, 0.5, 0.0]
    assert metrics["macro_f1"] == pytest.approx(0.388889, abs=5e-7)


def test_accuracy_under_the_shares_of_the_training_part():
    counts = np.array([150, 50, 10])
    assert accuracies(LABELS, PREDICTED, counts)["train_prior"] == pytest.approx((150 * 0.5 + 50 * 1.0 + 10 * 0.0) / 210)
    # A test set with the shares of the training part has it as its top-1 accuracy; a class without a test image is left out.
    labels = np.repeat([0, 1], [15, 5])
    metrics = accuracies(labels, np.zeros(20, dtype=np.int64), counts)
    assert metrics["train_prior"] == pytest.approx(metrics["top1"]) and metrics["top1"] == 0.75


def test_precision_over_the_predicted_classes_leaves_out_those_never_predicted():
    labels, predicted = np.arange(4).repeat(2), np.array([0, 0, 1, 0, 0, 1, 1, 1])
    metrics = accuracies(labels, predicted, np.array([150, 50, 40, 10]))
    assert [metrics["many_precision"], metrics["medium_precision"], metrics["few_precision"]] == [0.5, 0.125, 0.0]
    names = ("many", "medium", "few", "head", "mid", "tail")
    assert [metrics[f"{name}_precision_predicted"] for name in names] == [0.5, 0.25, None, 0.375, None, None]


def test_groups_by_threshold_and_by_thirds():
    labels = np.arange(4).repeat(2)
    predicted = np.array([0, 0, 1, 0, 2, 2, 0, 0])
    metrics = accuracies(labels, predicted, np.array([101, 100, 20, 19]))
    assert metrics["many"] == 1.0 and metrics["few"] == 0.0
    assert metrics["medium"] == pytest.approx(0.75)  # classes 1 and 2
    assert metrics["head"] == pytest.approx(0.75) and metrics["mid"] == 1.0 and metrics["tail"] == 0.0


def test_an_empty_group_is_none_and_never_zero():
    metrics = accuracies(LABELS, PREDICTED, np.array([500, 300, 200]))
    assert metrics["many"] is not None
    for name in ("medium", "few", "medium_precision", "few_precision"):
        assert metrics[name] is None
    assert None not in [metrics["head"], metrics["mid"], metrics["tail"]]


def test_group_of_one_class_and_group_of_a_class_without_test_images():
    metrics = accuracies(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([300, 50, 5]))
    assert metrics["many"] == 0.5 and metrics["medium"] == 1.0
    assert metrics["few"] is None and metrics["tail"] is None
    assert metrics["balanced"] == 0.75


def test_group_mean_of_nothing():
    assert group_mean(np.array([np.nan, 0.5]), np.array([True, False])) is None
    assert group_mean(np.array([np.nan, 0.5]), np.array([True, True])) == 0.5


def test_against_scikit_learn():
    logits, labels = random_case()
    predicted = predict(logits)
    scores = per_class(labels, predicted, 7)
    metrics = accuracies(labels, predicted, np.array([300, 200, 120, 60, 30, 15, 5]))
    assert metrics["balanced"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    np.testing.assert_allclose(scores["recall"], recall_score(labels, predicted, average=None))
    np.testing.assert_allclose(scores["precision"], precision_score(labels, predicted, average=None))
    assert metrics["many"] == pytest.approx(scores["recall"][:3].mean())


def test_top1_is_balanced_on_a_balanced_test_set():
    logits, _ = random_case(num_images=700)
    metrics = accuracies(np.arange(7).repeat(100), predict(logits), np.arange(1, 8))
    assert metrics["top1"] == pytest.approx(metrics["balanced"])
    assert metrics["top1"] == pytest.approx((3 * metrics["head"] + 2 * metrics["mid"] + 2 * metrics["tail"]) / 7)


def test_experts_predict_by_their_mean():
    logits = np.array([[[3.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 5.0]]])
    np.testing.assert_array_equal(predict(logits), [0, 1])


def test_predictions_do_not_depend_on_blocks():
    logits, _ = random_case(num_images=BLOCK + 17)
    np.testing.assert_array_equal(predict(logits), logits.argmax(axis=1))
    shift = np.linspace(-2, 2, 7)
    np.testing.assert_array_equal(predict(logits, shift), (logits.astype(np.float64) + shift).argmax(axis=1))


@pytest.mark.parametrize("shape", [(5, 3), (6, 4), (6,), (6, 2, 4), (6, 0, 3)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(6, 3\) or \(6, experts, 3\)"):
        check_logits(np.zeros(shape), LABELS, 3)


def test_labels_out_of_range_are_refused():
    with pytest.raises(ValueError, match="got values 0 to 2, expected 0 to 1"):
        check_logits(np.zeros((6, 2)), LABELS, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_counted(bad):
    logits = np.zeros((6, 2, 3), dtype=np.float32)
    logits[2, 1, 0] = logits[4, 0, 2] = bad
    with pytest.raises(ValueError, match="row balms: 2 of 6 rows .* first of them row 2.*diverged"):
        check_logits(logits, LABELS, 3, "row balms")
    check_logits(np.zeros((6, 2, 3)), LABELS, 3)


def test_with_very_many_classes_fewer_rows_are_taken_at_a_time():
    logits = np.zeros((5, metrics.BLOCK_NUMBERS // 2), dtype=np.float32)
    logits[np.arange(5), np.arange(5)] = 1
    assert [scores.shape[0] for _, scores in metrics.blocks(logits)] == [2, 2, 1]
    assert predict(logits).tolist() == [0, 1, 2, 3, 4]
