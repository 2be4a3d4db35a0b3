"""The meta re-weighter's gradient against autograd, and the validation part as meta set."""

import dataclasses

import numpy as np
import pytest
import torch

from lt.core import artifacts, params
from lt.core.subset import read_subset
from lt.data.dataset import open_dataset
from lt.features import features_of
from lt.input.device import device
from lt.losses import balanced_softmax, ce
from lt.methods import balms, meta_reweighter
from lt.network.classifier import build_head, read_classifier
from lt.retrain.bank import FeatureBank
from lt.retrain.bilevel import balanced_source, step_and_feedback
from lt.retrain.inputs import read_inputs, read_test_features
from lt.training.sgd import SGD
from tests.plugins.test_balms import COUNTS, FEATURES, LABELS, META, gradient_by_autograd, near, small_inputs, worked_head


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("name, experts", [("linear", 1), ("linear", 2), ("cosine", 1)])
def test_the_weights_gradient_is_that_through_the_step(nesterov, name, experts):
    generator = torch.Generator().manual_seed(3)
    head = build_head({"name": name, "options": {}, "feature_dim": 4, "num_classes": 3, "num_experts": experts}, 0).double()
    optimizer = SGD(head.parameters(), 0.3, 0.9, 5e-3, nesterov)
    optimizer.momenta = [torch.randn(parameter.shape, generator=generator, dtype=torch.float64) for parameter in head.parameters()]
    psi = torch.tensor([0.3, -0.8, 1.1], dtype=torch.float64, requires_grad=True)
    shape, classes = ((6, 4) if experts == 1 else (6, experts, 4)), torch.tensor([0, 2, 1, 1, 0, 0])
    features = torch.randn(shape, generator=generator, dtype=torch.float64)
    inner, weights = balanced_softmax.make(COUNTS), torch.sigmoid(psi)
    expected, meta_batch = gradient_by_autograd(
        head, optimizer, inner, features, classes, weights[classes], psi, straight_through=False
    )
    weights = weights.detach()
    _, feedback = step_and_feedback(head, optimizer, inner, (features, classes), ce.make(COUNTS), meta_batch, weights[classes])
    got = meta_reweighter.weights_gradient(feedback, classes, weights)
    assert expected.abs().min() > 1e-5
    assert (got - expected).abs().max() < 1e-12


def test_worked_step_with_equal_weights_is_the_samplers():
    """Weights of a half at a learning rate of 0.2 are weights of one at 0.1."""
    feedbacks, heads = [], []
    for rate, weights in ((0.1, None), (0.2, torch.full((2,), 0.5, dtype=torch.float64))):
        head, _ = worked_head(nesterov=False)
        optimizer = SGD(head.parameters(), rate, 0.9, 0.0, nesterov=False)
        drawn = torch.tensor([1, 5])
        batch = FEATURES[drawn], LABELS[drawn]
        _, feedback = step_and_feedback(head, optimizer, balanced_softmax.make(COUNTS), batch, ce.make(COUNTS), META, weights)
        feedbacks.append(feedback)
        heads.append(head)
    torch.testing.assert_close(heads[0].weight, heads[1].weight)
    torch.testing.assert_close(*feedbacks)
    gradient = meta_reweighter.weights_gradient(feedbacks[0], torch.tensor([0, 2]), torch.full((3,), 0.5, dtype=torch.float64))
    assert gradient.numpy() == near(0.5 * np.array([feedbacks[0][0], 0, feedbacks[0][1]]))


def test_the_reweighter_raises_what_the_balanced_batch_lacks():
    result = meta_reweighter.fit(small_inputs(), steps=150, batch_size=64, meta_batch_size=64, meta_lr=0.05, loss="ce")
    weights = result.arrays["weights"]
    assert weights.shape == (4,) and weights[0] + 0.1 < weights[2:].mean() and weights[0] < 0.5 < weights[2:].min()
    last = result.log[-1]
    assert [last["w_min"], last["w_mean"], last["w_max"]] == pytest.approx([weights.min(), weights.mean(), weights.max()])
    assert [last["w_head"], last["w_mid"], last["w_tail"]] == pytest.approx([weights[:2].mean(), weights[2], weights[3]])


def test_weights_that_are_not_learned_are_a_half():
    result = meta_reweighter.fit(small_inputs(), steps=40, meta_lr=1e-12)
    assert result.arrays["weights"] == near(np.full(4, 0.5))


def with_val(counts=(3, 3, 2, 1), seed=5):
    inputs = small_inputs()
    labels = np.repeat(np.arange(4), counts)
    val = np.random.default_rng(seed).normal(size=(len(labels), 8)).astype(np.float32)
    return dataclasses.replace(inputs, val=val, val_labels=labels)


def test_the_validation_part_is_drawn_class_by_class_as_it_is():
    inputs = with_val()
    bank = FeatureBank(inputs, torch.float64)
    pool, meta_bank = balanced_source(inputs, "val", bank, "balms")
    generator = torch.Generator().manual_seed(0)
    features, target = meta_bank.batch(pool.draw_balanced(40, generator), generator)
    assert features.dtype == torch.float64 and torch.bincount(target).tolist() == [10] * 4
    for row, label in zip(features, target):
        assert (inputs.val[inputs.val_labels == label.item()] == row.numpy()).all(1).any()
    assert balanced_source(inputs, "train", bank, "balms")[1] is bank


@pytest.mark.parametrize("method", [balms, meta_reweighter])
def test_the_meta_set_matters_and_does_not_when_it_is_not_used(method):
    def head(inputs, **options):
        return method.fit(inputs, steps=20, meta_lr=0.1, **options).head.weight

    assert torch.equal(head(with_val()), head(small_inputs()))
    on_val = head(with_val(), meta_set="val")
    assert not torch.equal(on_val, head(with_val())) and not torch.equal(on_val, head(with_val(seed=6), meta_set="val"))


@pytest.mark.parametrize("method", ["balms", "meta_reweighter"])
def test_a_validation_part_that_cannot_serve_is_told(method):
    fit = {"balms": balms, "meta_reweighter": meta_reweighter}[method].fit
    with pytest.raises(ValueError, match=rf"{method}.meta_set: got val, but there is no validation part; set subset.val_fraction"):
        fit(small_inputs(), meta_set="val")
    with pytest.raises(ValueError, match=rf"{method}.meta_set: .* classes \[3\] have none"):
        fit(with_val((3, 3, 2, 0)), meta_set="val")


def test_the_stages_store_the_validation_parts_features(stages_in, monkeypatch):
    changes = {"subset.val_fraction": 0.2, "imbalance": 10, "train.epochs": 1, "train.schedule": "constant",
               "methods.balms.meta_set": "val"}
    folder = stages_in(changes, "subsample", "base --seed 0", "features --seed 0", "retrain balms --seed 0")
    monkeypatch.chdir(folder)
    subset = read_subset()
    inputs = read_inputs(subset, 0, device(), None)
    assert len(inputs.val) == len(subset.val_index) > 0 and np.array_equal(inputs.val_labels, subset.val_labels)
    model, _ = read_classifier(artifacts.stage_dir("base", 0))
    images = open_dataset(params.load(), "train").read(subset.val_index)
    expected = features_of(model, torch.from_numpy(images).permute(0, 3, 1, 2), 64, np.dtype(np.float32))
    np.testing.assert_allclose(inputs.val, expected, atol=1e-5)
    assert (folder / "artifacts/retrain/balms/0/rates.npy").is_file()
    test = read_test_features(subset, inputs)
    assert test.shape == (len(subset.test_labels), inputs.clean.shape[1])
    monkeypatch.setenv("LT_VERIFY", "0")  # as another version, or a hand, may have written them
    for name, array, told in (
        ("test", test.reshape(-1), "expected .500, 64"), ("clean", inputs.clean[:, 1:], r"expected \(K, N, .., 64\)"),
        ("views", inputs.views[:0], r"got views \(0, "), ("views", np.float32(1), r"got views \(\) and clean"),
        ("clean", np.float32(1), r"and clean \(\), expected"),
    ):
        path = artifacts.stage_dir("features", 0) / f"{name}.npy"
        before = path.read_bytes()
        path.unlink()  # the one that is mapped
        np.save(path, array)
        with pytest.raises(artifacts.ArtifactError, match=told):
            read_test_features(subset, read_inputs(subset, 0, device(), None))
        path.write_bytes(before)
