"""The loop that trains heads on cached features, and where its batches come from."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.func import functional_call

from lt.core import keys
from lt.losses import ce
from lt.network.classifier import build_head
from lt.retrain import bank
from lt.retrain.bank import ClassPool, FeatureBank, shuffled_batches
from lt.retrain.contracts import Inputs
from lt.retrain.heads import inner_products, trainable
from lt.retrain.loop import Outcome, descend, fit_head
from lt.training.objective import TrainingError, expert_sum

COUNTS = np.array([60, 25, 10, 5])
VIEWS = 3


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    views = rng.normal(size=(VIEWS, 100, 6)).astype(np.float32)
    labels = rng.permutation(np.repeat(np.arange(4), COUNTS))
    return Inputs(views, views[0], labels, COUNTS, None, None, COUNTS / 100, 0, torch.device("cpu"))


def linear_head(experts=1, name="linear"):
    return build_head({"name": name, "options": {}, "feature_dim": 6, "num_classes": 4, "num_experts": experts}, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_bank_reads_the_same_from_memory_and_from_disk(dtype, inputs, tmp_path, monkeypatch):
    np.save(tmp_path / "views.npy", inputs.views.astype(dtype))
    mapped = np.load(tmp_path / "views.npy", mmap_mode="r")
    inputs = dataclasses.replace(inputs, views=mapped)
    index = torch.tensor([3, 3, 0, 99, 41])
    held = FeatureBank(inputs, torch.float64)
    monkeypatch.setattr(bank, "IN_MEMORY_BYTES", 0)
    read = FeatureBank(inputs, torch.float64)
    assert held.in_memory and not read.in_memory
    features, target = held.batch(index, keys.generator(0))
    again, _ = read.batch(index, keys.generator(0))
    assert features.dtype == torch.float64 and torch.equal(features, again)
    assert torch.equal(target, torch.from_numpy(inputs.labels)[index])
    assert all((row.numpy() == mapped[:, example]).all(1).any() for row, example in zip(features, index))


def test_bank_draws_every_view(inputs):
    features, _ = FeatureBank(inputs, torch.float32).batch(torch.zeros(300, dtype=torch.int64), keys.generator(0))
    counts = [(features == torch.from_numpy(inputs.views[view, 0])).all(1).sum().item() for view in range(VIEWS)]
    assert sum(counts) == 300 and min(counts) > 60


def test_class_pool():
    labels = np.array([2, 0, 1, 0, 2, 0, 1])
    pool = ClassPool(labels, 3, positions=np.array([0, 1, 2, 3, 4]))
    drawn = pool.draw(torch.tensor([0, 1, 2] * 200), keys.generator(0)).numpy()
    assert np.array_equal(labels[drawn], [0, 1, 2] * 200) and set(drawn) == {0, 1, 2, 3, 4}
    balanced = labels[pool.draw_balanced(32, keys.generator(0))]
    assert sorted(np.bincount(balanced)) == [10, 11, 11]
    with pytest.raises(ValueError, match=r"classes \[1\] have no example"):
        ClassPool(labels, 3, positions=np.array([0, 1]))


def test_shuffled_batches_are_full_and_miss_nothing():
    for size in (4, 25):
        batches = shuffled_batches(10, size, keys.generator(0))
        drawn = torch.cat([next(batches) for _ in range(20)])
        assert len(drawn) == 20 * size
        assert all(len(drawn[start : start + 10].unique()) == 10 for start in range(0, len(drawn), 10))


def test_the_loop_sets_the_rate_and_logs_means():
    head = torch.nn.Linear(2, 2)
    rates = []

    def step(optimizer):
        rates.append(optimizer.lr)
        assert optimizer.options["nesterov"] and optimizer.options["weight_decay"] == 0.01
        target = torch.tensor([0, len(rates) % 2])
        return Outcome(torch.zeros(2, 2), target, torch.tensor([[1.0, 0], [1, 0]]), torch.tensor([1.0, 2]) * len(rates))

    log = descend(head, step, steps=40, lr=0.2, momentum=0.9, weight_decay=0.01, nesterov=True, columns=lambda: {"extra": 7.0})
    # The rate falls to zero as a cosine, and no step is wasted on zero itself.
    assert rates == pytest.approx([0.1 * (1 + np.cos(np.pi * t / 40)) for t in range(40)])
    assert [line["step"] for line in log] == list(range(2, 41, 2))
    assert [line["loss"] for line in log] == pytest.approx([1.5 * (step - 0.5) for step in range(2, 41, 2)])
    assert all(line["train_accuracy"] == 0.75 and line["extra"] == 7 for line in log)
    assert not head.training


def test_a_loss_that_diverges_is_an_error(inputs):
    generator = keys.generator(0)
    batches, recipe = shuffled_batches(100, 16, generator), {"momentum": 0.9, "weight_decay": 0.0, "nesterov": False}
    with pytest.raises(TrainingError, match="by step 5, at learning rate .*; lower this method's lr"):
        fit_head(
            linear_head(), ce.make(COUNTS), FeatureBank(inputs, torch.float32), lambda: next(batches), generator,
            steps=100, lr=1e38, **recipe,
        )


@pytest.mark.parametrize("name, experts", [("linear", 1), ("linear", 2), ("cosine", 1), ("causal", 2)])
def test_inner_products_are_those_of_the_gradients_of_single_examples(name, experts):
    generator = torch.Generator().manual_seed(0)
    head, loss = linear_head(experts, name).double(), ce.make(COUNTS)
    shape, target = ((5, 6) if experts == 1 else (5, experts, 6)), torch.tensor([0, 1, 2, 3, 0])
    features = torch.randn(shape, generator=generator, dtype=torch.float64)
    parameters = trainable(head)
    direction = {name: torch.randn(value.shape, generator=generator, dtype=torch.float64) for name, value in parameters.items()}
    expected = []
    for number in range(5):
        one = expert_sum(loss, functional_call(head, parameters, (features[number : number + 1],)), target[number : number + 1])
        gradients = torch.autograd.grad(one.sum(), list(parameters.values()))
        expected.append(sum((gradient * direction[name]).sum() for name, gradient in zip(parameters, gradients)))
    logits = head(features)
    (residual,) = torch.autograd.grad(expert_sum(loss, logits, target).sum(), logits)
    got = inner_products(head, parameters, features, residual, direction)
    torch.testing.assert_close(got, torch.stack(expected), rtol=1e-10, atol=1e-12)
