"""RIDE's loss: written out as released, its schedule, what is pushed where, and experts that drift apart in training."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lt.core.counts import effective_number_weights, prior
from lt.losses import ldam, ride
from lt.training import objective
from tests.plugins.test_losses import LONG_TAIL, near

LOGITS = torch.tensor([[[6.0, 1, -3], [4, 2, -1]], [[2, 1, 3], [1, 0, 2]]], dtype=torch.float64)  # two examples, two experts
TARGET = torch.tensor([0, 2])
COUNTS = np.array([70, 20, 10])


def random_experts(size=12, experts=3):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(size, experts, len(LONG_TAIL), generator=generator, dtype=torch.float64)
    return 3 * logits, torch.randint(len(LONG_TAIL), (size,), generator=generator)


def published(logits, target, counts, diversity, temperature, late):
    """The loss of a batch by torch's own functions, expert by expert; late: with class weights and class temperatures."""
    margins = 30 * 0.5 * torch.from_numpy((counts.min() / counts) ** 0.25)
    weight = torch.from_numpy(effective_number_weights(counts, 0.9999)) if late else None
    per_class = len(counts) * prior(counts) * 0.05 + 1 - 0.05
    temperatures = temperature * torch.from_numpy(per_class / per_class.max() if late else np.ones(len(counts)))
    total = 0.0
    for expert in logits.unbind(1):
        total += F.cross_entropy(expert - margins * F.one_hot(target, len(counts)), target, weight=weight)
        soft = F.softmax(logits.mean(1) / temperatures, dim=1)
        gap = F.kl_div(F.log_softmax(expert / temperatures, dim=1), soft, reduction="batchmean")
        total += diversity * temperatures.mean() ** 2 * gap
    return total.item()


def test_numbers():
    found = ride.make(COUNTS, diversity=0.0).of_experts(LOGITS, TARGET)
    assert found.numpy() == near([11.525383, 28.626525])
    # By hand: p of both experts and of their mean logits for the first example, then sum p_mean log(p_mean / p_e).
    means = np.exp([5, 1.5, -2]) / np.exp([5, 1.5, -2]).sum()
    gap = sum((means * np.log(means / (np.exp(z) / np.exp(z).sum()))).sum() for z in ([6, 1, -3], [4, 2, -1]))
    assert gap == near(0.078413)
    found = ride.make(COUNTS, diversity=-0.5).of_experts(LOGITS, TARGET)[0]
    assert found.item() == near(11.525383 - 0.5 * gap)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("diversity, temperature", [(-0.2, 1.0), (0.45, 1.0), (-0.2, 2.0), (0.0, 1.0)])
def test_it_is_the_released_loss_before_and_after_the_deferred_start(diversity, temperature, late):
    logits, target = random_experts()
    loss = ride.make(LONG_TAIL, diversity=diversity, temperature=temperature, start_epoch=5)
    loss.start_epoch(5 if late else 4)
    found = loss.of_experts(logits, target)
    assert found.shape == (12,)
    assert found.mean().item() == pytest.approx(published(logits, target, LONG_TAIL, diversity, temperature, late), rel=1e-12)


def test_without_a_start_nothing_is_deferred():
    logits, target = random_experts()
    loss = ride.make(LONG_TAIL)
    early = loss.of_experts(logits, target)
    loss.start_epoch(10**6)
    assert torch.equal(loss.of_experts(logits, target), early)
    assert loss.logit_prior.numpy() == pytest.approx(prior(LONG_TAIL))
    weighted = prior(LONG_TAIL) * effective_number_weights(LONG_TAIL, 0.9999)
    assert ride.make(LONG_TAIL, start_epoch=1).logit_prior.numpy() == pytest.approx(weighted / weighted.sum())


def test_start_at_once_and_from_a_saved_state():
    logits, target = random_experts()
    at_once = ride.make(LONG_TAIL, start_epoch=0)
    resumed = ride.make(LONG_TAIL, start_epoch=3)
    assert not torch.equal(resumed.of_experts(logits, target), at_once.of_experts(logits, target))
    resumed.load_state_dict(at_once.state_dict())
    assert torch.equal(resumed.of_experts(logits, target), at_once.of_experts(logits, target))


def test_the_mean_gets_no_gradient_and_each_expert_that_of_its_own_gap():
    """d KL(p_mean || p_e) / d z_e = p_e - p_mean at temperature 1: with a negative factor an expert goes away from the mean."""
    logits, target = random_experts()
    logits.requires_grad_()
    with_diversity, without = (
        torch.autograd.grad(ride.make(LONG_TAIL, diversity=factor).of_experts(logits, target).sum(), logits)[0]
        for factor in (-0.3, 0.0)
    )
    expected = -0.3 * (logits.softmax(2) - logits.mean(1, keepdim=True).softmax(2))
    torch.testing.assert_close(with_diversity - without, expected)


def test_equal_experts_are_each_ldam():
    logits, target = random_experts(experts=1)
    found = ride.make(LONG_TAIL).of_experts(logits.expand(-1, 4, -1), target)
    torch.testing.assert_close(found, 4 * ldam.make(LONG_TAIL)(logits[:, 0], target))


def gap_after_training(diversity):
    """Mean divergence of two experts, linear on the same features, from their mean."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 8, generator=generator)
    target = torch.arange(60) % len(LONG_TAIL)
    weight = (0.1 * torch.randn(2, 8, len(LONG_TAIL), generator=generator)).requires_grad_()
    loss = ride.make(LONG_TAIL, scale=1.0, diversity=diversity)
    for _ in range(60):
        losses = objective.expert_sum(loss, torch.einsum("bd,edc->bec", features, weight), target)
        (gradient,) = torch.autograd.grad(losses.mean(), weight)
        weight = (weight - 0.5 * gradient).detach().requires_grad_()
    probs = torch.einsum("bd,edc->bec", features, weight).log_softmax(2)
    mean = probs.exp().mean(1, keepdim=True)
    return (mean * (mean.log() - probs)).sum((1, 2)).mean().item()


def test_experts_drift_apart_with_a_negative_factor_and_together_with_a_positive_one():
    apart, alone, together = (gap_after_training(diversity) for diversity in (-0.45, 0.0, 0.45))
    assert apart > 1.5 * alone and together < 0.7 * alone
