"""The contract of every file in lt/losses: shapes, gradients, precision, refused input."""

import numpy as np
import pytest
import torch

from lt.core import keys
from lt.core.plugins import load, names
from lt.training.objective import TrainingError
from lt.training.randomness import Untouched

ALL = names("losses")
LONG_TAIL = np.array([300, 120, 40, 11, 2])


def make(name, counts=LONG_TAIL):
    return load("losses", name)(counts)


def score(loss, logits, target):
    """Losses of a batch, whose random numbers, if any, are those of one and the same step."""
    loss.start_step(keys.generator(7))
    untouched = Untouched(torch.device("cpu"))
    losses = loss(logits, target)
    untouched.check(type(loss).__name__)
    return losses


def random_batch(size=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, 5, generator=generator, dtype=torch.float64)
    return logits, torch.randint(5, (size,), generator=generator)


@pytest.mark.parametrize("name", ALL)
def test_shape_dtype_and_finite_values(name):
    loss = make(name)
    logits, target = random_batch()
    for scale in (0.0, 1.0, 100.0):
        losses = score(loss, (scale * logits).float(), target)
        assert losses.shape == (40,) and losses.dtype == torch.float32
        assert torch.isfinite(losses).all()


@pytest.mark.parametrize("name", ALL)
def test_gradients_in_float64(name):
    loss = make(name)
    logits, target = random_batch(size=6)
    assert torch.autograd.gradcheck(lambda logits: score(loss, logits, target), logits.requires_grad_())


@pytest.mark.parametrize("name", ALL)
def test_half_precision_logits_are_scored_in_float32(name):
    loss = make(name)
    logits, target = random_batch()
    losses = score(loss, logits.bfloat16(), target)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, score(loss, logits.bfloat16().float(), target))


@pytest.mark.parametrize("name", ALL)
def test_logit_prior_is_a_float64_distribution(name):
    logit_prior = make(name).logit_prior
    assert logit_prior.dtype == torch.float64 and logit_prior.shape == (5,)
    assert logit_prior.min() > 0 and logit_prior.sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_a_class_without_an_image_is_refused(name):
    with pytest.raises(ValueError, match=r"classes \[1\] have no training example"):
        make(name, np.array([5, 0, 3]))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "logits, target, message",
    [
        (torch.zeros(4, 3), torch.zeros(3, dtype=torch.int64), r"target: got torch.int64 \(3,\), expected int64 \(4,\)"),
        (torch.zeros(4, 3), torch.zeros(4, 1, dtype=torch.int64), r"target: got torch.int64 \(4, 1\)"),
        (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int32), "target: got torch.int32"),
        (torch.zeros(4, 3), torch.zeros(4), "target: got torch.float32"),
        (torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), r"logits: got torch.float32 \(4, 2\), expected .* \(B, 3\)"),
        (torch.zeros(4, 2, 3), torch.zeros(4, dtype=torch.int64), "logits: got"),
        (torch.zeros(4, 3, dtype=torch.int64), torch.zeros(4, dtype=torch.int64), "logits: got torch.int64"),
    ],
)
def test_wrong_shapes_and_dtypes_are_refused(name, logits, target, message):
    with pytest.raises(ValueError, match=message):
        make(name, np.array([100, 10, 1]))(logits, target)


@pytest.mark.parametrize("name", ALL)
def test_a_training_step_lowers_the_loss(name):
    loss = make(name)
    features, target = random_batch()
    weight = torch.zeros(5, 5, dtype=torch.float64, requires_grad=True)
    before = score(loss, features @ weight, target).mean()
    before.backward()
    with torch.no_grad():
        after = score(loss, features @ (weight - 0.01 * weight.grad), target).mean()
    assert after < before


@pytest.mark.parametrize("name", ALL)
def test_random_numbers_come_from_the_steps_generator_alone(name):
    loss = make(name)
    assert torch.equal(score(loss, *random_batch()), score(loss, *random_batch()))
    again = loss(*random_batch())  # the generator has gone on
    assert torch.equal(again, score(loss, *random_batch())) != loss.random, f"random: got {loss.random}"
    if loss.random:
        with pytest.raises(TrainingError, match=f"{type(loss).__name__} is random: .* needs a loss without randomness"):
            make(name)(*random_batch())


@pytest.mark.parametrize("name", [name for name in ALL if not make(name).random])  # a graph takes no generator
def test_compiles_to_one_graph(name):
    loss = make(name)
    logits, target = random_batch()
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))


@pytest.mark.parametrize("name", ALL)
def test_batch_coupled_tells_the_truth(name):
    """An example's loss is the same in any batch, unless the loss says otherwise."""
    loss = make(name)
    logits, target = random_batch()
    firsts = ((logits.roll(-i, 0), target.roll(-i)) for i in range(len(target)))  # whose random numbers are the same, if any
    pairs = [(score(loss, some[:1], own[:1]), score(loss, some, own)[:1]) for some, own in firsts]
    assert torch.allclose(*map(torch.cat, zip(*pairs))) != loss.batch_coupled
