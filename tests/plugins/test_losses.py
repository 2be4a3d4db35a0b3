"""Losses: worked numbers, identities, and the prior that logits embody."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lt.core import keys
from lt.core.counts import effective_number_weights, prior
from lt.core.plugins import load
from lt.losses import gcl
from lt.subsample import profile

COUNTS = np.array([100, 10, 1])
LOGITS = torch.tensor([[1.0, 2.0, 0.5], [0.2, -0.3, 1.5]], dtype=torch.float64)
TARGET = torch.tensor([2, 0])
SINGLE = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)  # one example, scored against each class


def make(name, counts=COUNTS, **options):
    loss = load("losses", name)(counts, **options)
    loss.start_step(keys.generator(7))
    return loss


def of_class(loss, label, logits=SINGLE):
    return loss(logits, torch.tensor([label])).item()


def mean_gradient(loss, logits, target):
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(logits, target).mean(), logits)[0].numpy()


def near(expected, tolerance=6e-7):
    """Equal to six printed decimals."""
    return pytest.approx(expected, abs=tolerance, rel=0)


def random_batch(size=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, 5, generator=generator, dtype=torch.float64)
    return logits, torch.randint(5, (size,), generator=generator)


LONG_TAIL = np.array([300, 120, 40, 11, 2])

# Worked numbers


@pytest.mark.parametrize(
    "name, options, per_example, gradient",
    [
        ("ce", {}, [1.964369, 1.663136], [[0.115612, 0.314266, -0.429878], [-0.405228, 0.057482, 0.347746]]),
        ("balanced_softmax", {}, [5.350383, 0.092895], [[0.391269, 0.106358, -0.497627], [-0.044355, 0.027636, 0.016719]]),
        (
            "balanced_softmax", {"tau": 0.25}, [2.652073, 0.916855],
            [[0.183796, 0.280951, -0.464748], [-0.300113, 0.068177, 0.231936]],
        ),
    ],
)
def test_balanced_softmax_numbers(name, options, per_example, gradient):
    loss = make(name, **options)
    assert loss(LOGITS, TARGET).numpy() == near(per_example)
    assert mean_gradient(loss, LOGITS, TARGET) == near(np.array(gradient))


def test_balanced_softmax_probabilities_means_and_scale():
    loss = make("balanced_softmax")
    probs = (LOGITS - loss.logit_prior.log() + torch.from_numpy(prior(COUNTS)).log()).softmax(1)
    assert probs.numpy() == near(np.array([[0.782538, 0.212716, 0.004746], [0.911290, 0.055273, 0.033438]]))
    means = [make(name, **options)(LOGITS, TARGET).mean().item() for name, options in
             [("ce", {}), ("balanced_softmax", {}), ("balanced_softmax", {"tau": 0.25})]]
    assert means == near([1.813752, 2.721639, 1.784464])
    torch.testing.assert_close(make("balanced_softmax", COUNTS / 111)(LOGITS, TARGET), loss(LOGITS, TARGET))


def test_bayias_numbers():
    loss = make("bayias")
    logits = torch.tensor([[1.0, 0.5, -0.2], [0.3, -1.0, 2.0]], dtype=torch.float64)
    assert loss.shift.numpy() == near([0.994252, -1.308333, -3.610918])
    assert loss(logits, TARGET).numpy() == near([5.866891, 0.078804])
    assert make("ce")(logits, TARGET).numpy() == near([1.845911, 1.909021])
    assert [loss(logits, TARGET).mean().item(), make("ce")(logits, TARGET).mean().item()] == near([2.972848, 1.877466])
    probs = (logits + loss.shift).softmax(1).numpy()
    assert probs == near(np.array([[0.940146, 0.057023, 0.002832], [0.924221, 0.025188, 0.050591]]))
    expected = np.array([[0.470073, 0.028511, -0.498584], [-0.037890, 0.012594, 0.025296]])
    assert mean_gradient(loss, logits, TARGET) == near(expected)


def test_bayias_under_mixing():
    loss = make("bayias")
    logits = torch.tensor([[1.0, 0.5, -0.2]], dtype=torch.float64)
    own, partner = of_class(loss, 0, logits), of_class(loss, 2, logits)
    assert 0.309901 * own + 0.690099 * partner == near(4.067863, tolerance=5e-6)


def test_logit_adjust_numbers():
    loss = make("logit_adjust")
    assert [of_class(loss, label) for label in range(3)] == near([0.037432, 3.340017, 6.642602])
    assert of_class(make("logit_adjust", tau=1.5), 2) == near(8.919455)
    assert of_class(make("ce"), 2) == near(2.407606)


def test_focal_numbers():
    assert of_class(make("focal", gamma=1.0), 2) == near(2.190848)
    assert of_class(make("focal", gamma=2.0), 2) == near(1.993605)


def test_effective_number_weights_numbers():
    assert effective_number_weights(COUNTS, 0.9999) == near([0.027159, 0.270369, 2.702472])
    assert effective_number_weights(COUNTS, 0.999) == near([0.028363, 0.271256, 2.700381])
    raw = 1 / np.array([99.506613, 9.995501, 1.000000])  # inverse effective numbers
    assert raw == near([0.010050, 0.100045, 1.000000])
    assert effective_number_weights(COUNTS, 0.9999) == near(raw * 3 / raw.sum())
    cifar100_head_490 = (490 * 0.01 ** (np.arange(100) / 99)).astype(int)
    weights = effective_number_weights(cifar100_head_490, 0.9999)
    assert [weights.min(), weights.max(), weights.sum()] == near([0.044217, 5.287103, 100.0])
    weights = effective_number_weights(profile("exp", np.full(100, 500), 100), 0.9999)
    assert [weights.min(), weights.max()] == near([0.044876, 4.378313])


def test_effective_number_weights_limits():
    assert effective_number_weights(COUNTS, 0.0) == pytest.approx([1, 1, 1])
    assert effective_number_weights(COUNTS, 1 - 1e-9) == pytest.approx(3 / 1.11 * np.array([0.01, 0.1, 1]), rel=1e-6)
    for beta in (1.0, -0.1):
        with pytest.raises(ValueError, match="beta"):
            effective_number_weights(COUNTS, beta)
    with pytest.raises(ValueError, match="no training example"):
        effective_number_weights(np.array([3, 0]), 0.9)


def test_class_balanced_is_weighted_and_not_divided_by_the_weights():
    weights = torch.tensor([0.027159, 0.270369, 2.702472], dtype=torch.float64)
    expected = weights[TARGET] * F.cross_entropy(LOGITS, TARGET, reduction="none")
    assert make("cb")(LOGITS, TARGET).numpy() == near(expected.numpy(), tolerance=2e-6)
    focal = weights[TARGET] * make("focal", gamma=2.0)(LOGITS, TARGET)
    assert make("cb", focal_gamma=2.0)(LOGITS, TARGET).numpy() == near(focal.numpy(), tolerance=2e-6)


def test_ldam_numbers():
    loss = make("ldam")
    logits = 30 * torch.tensor([[0.5, 0.2, 0.1]], dtype=torch.float64)
    assert (loss.penalty / 30).numpy() == near([0.158114, 0.281171, 0.5])
    assert of_class(loss, 2, logits) == near(27.000123)
    assert of_class(make("ldam", max_margin=0.0), 2, logits) == near(12.000130)
    assert of_class(loss, 0, logits) == near(0.014767)


def test_ldam_summed_over_experts():
    loss = make("ldam", np.array([70, 20, 10]))
    assert loss.penalty.numpy() == near([9.221822, 12.613446, 15.0])
    first, second = torch.tensor([[6.0, 1, -3], [2, 1, 3]]).double(), torch.tensor([[4.0, 2, -1], [1, 0, 2]]).double()
    target = torch.tensor([0, 2])
    assert (loss(first, target) + loss(second, target)).numpy() == near([11.525383, 28.626525])


def test_label_aware_smoothing_numbers():
    over_all, over_others = make("label_aware_smoothing"), make("label_aware_smoothing", over="others")
    assert over_all.smoothing.numpy() == near([0.4, 0.142694, 0.1])
    assert [of_class(over_all, 2), of_class(over_others, 2)] == near([2.307606, 2.257606])
    assert [of_class(over_all, 0), of_class(over_others, 0)] == near([0.807606, 1.007606])


def test_label_aware_smoothing_of_equal_counts_is_the_tail_smoothing():
    logits, target = random_batch()
    loss = make("label_aware_smoothing", np.full(5, 7))
    expected = F.cross_entropy(logits, target, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(loss(logits, target), expected)


def test_lade_is_the_published_sum_over_classes():
    logits, target = random_batch(size=12)
    target[target == 4] = 3  # class 4 is absent from the batch
    train_prior, alpha, remine_lambda = prior(LONG_TAIL), 0.3, 0.02
    regulariser = 0.0
    for c in range(5):
        members = logits[target == c, c]
        class_mean = members.mean() if len(members) else 0.0
        log_mean = (logits[:, c].exp() / train_prior[c] / 5).mean().log()
        regulariser -= train_prior[c] * (class_mean - log_mean - remine_lambda * log_mean**2)
    expected = make("balanced_softmax", LONG_TAIL)(logits, target).mean() + alpha * regulariser
    loss = make("lade", LONG_TAIL, alpha=alpha, remine_lambda=remine_lambda)
    torch.testing.assert_close(loss(logits, target).mean(), expected)


def test_eql_numbers(monkeypatch):
    loss = make("eql", threshold=0.05)  # 1 of 111: the last class is rare
    monkeypatch.setattr(loss, "uniform", lambda logits: torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.95]]).double())
    # an example of the rare class itself; a draw beyond gamma
    assert loss(LOGITS, TARGET).numpy() == near([1.964369, 1.663136])
    # left out of an example of class 0: log(1 + e^(-0.3 - 0.2))
    monkeypatch.setattr(loss, "uniform", lambda logits: torch.tensor([[0.95, 0.95, 0.95], [0.0, 0.0, 0.85]]).double())
    assert loss(LOGITS, TARGET).numpy() == near([1.964369, 0.474077])
    assert loss.chance.tolist() == [0, 0, 0.9]


def test_eql_leaves_rare_classes_out_as_often_as_gamma_says():
    loss = make("eql", LONG_TAIL, threshold=0.05, gamma=0.7)
    losses = loss(torch.zeros(20_000, 5, dtype=torch.float64), torch.zeros(20_000, dtype=torch.int64))
    sizes, numbers = np.unique(losses.exp().round().numpy(), return_counts=True)  # 3 frequent classes, and 0 to 2 of the rare
    assert sizes.tolist() == [3, 4, 5]
    assert numbers / 20_000 == pytest.approx([0.49, 0.42, 0.09], abs=0.01)


def test_gcl_numbers(monkeypatch):
    loss = make("gcl", scale=30.0, noise=0.5, margin=0.1)
    assert loss.amplitude.numpy() == near([0, 7.5, 15])  # log(100 / n) / log 100
    # The median of |N(0, 1/9)| is 0.674490 / 3; the last quantile is cut off at 1.
    draws = torch.tensor([[0.5, 0.5, 0.5], [0.0, 0.5, 0.999]], dtype=torch.float64)
    assert gcl.half_normal(draws[:, 2]).numpy() == near([0.224830, 1.0])
    monkeypatch.setattr(loss, "uniform", lambda logits: draws)
    # Clouds 0, 1.686225, 3.372449, and 3 off the true class: logits 1, 0.313775, -5.872449
    # Clouds 0, 1.686225, 15, and 3 off class 0: logits -2.8, -1.986225, -13.5
    assert loss(LOGITS, TARGET).numpy() == near([7.280916, 1.180633])


def test_gcl_noise_has_the_published_distribution():
    loss = make("gcl", noise=1.0, scale=1.0)
    zeros = torch.zeros(40_000, 3, dtype=torch.float64)
    drawn = gcl.half_normal(loss.uniform(zeros)).numpy()
    assert drawn.mean() == pytest.approx((2 / np.pi) ** 0.5 / 3, rel=0.01) and drawn.max() == 1
    assert (drawn > 1 / 3).mean() == pytest.approx(0.317311, abs=0.005)
    for amplitude in (0.5, 5.0, 15.0):
        assert gcl.mean_factor(np.array([amplitude]))[0] == pytest.approx(np.exp(-amplitude * drawn).mean(), rel=0.02)
    assert gcl.mean_factor(np.array([0.0]))[0] == 1


# Identities


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_balanced_softmax_bayias_and_logit_adjust_are_one_loss(dtype, tolerance):
    logits, target = random_batch()
    reference = make("balanced_softmax", LONG_TAIL)(logits.to(dtype), target)
    for name in ("bayias", "logit_adjust"):
        torch.testing.assert_close(make(name, LONG_TAIL)(logits.to(dtype), target), reference, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    "name, options",
    [("balanced_softmax", {}), ("balanced_softmax", {"tau": 0.25}), ("logit_adjust", {"tau": 1.5}), ("bayias", {}), ("cb", {})],
)
def test_equal_counts_give_cross_entropy(name, options):
    logits, target = random_batch()
    loss = make(name, np.full(5, 9), **options)
    torch.testing.assert_close(loss(logits, target), F.cross_entropy(logits, target, reduction="none"))


@pytest.mark.parametrize(
    "name, options",
    [
        ("ce", {}),
        ("balanced_softmax", {"tau": 0.0}),
        ("logit_adjust", {"tau": 0.0}),
        ("bayias", {"test_prior": prior(LONG_TAIL).tolist()}),
        ("focal", {"gamma": 0.0}),
        ("ldam", {"max_margin": 0.0}),
        ("label_aware_smoothing", {"head": 0.0, "tail": 0.0}),
        ("eql", {"threshold": 0.0}),
        ("gcl", {"noise": 0.0}),
    ],
)
def test_neutral_options_give_cross_entropy(name, options):
    logits, target = random_batch()
    loss = make(name, LONG_TAIL, **options)
    torch.testing.assert_close(loss(logits, target), F.cross_entropy(logits, target, reduction="none"))


def test_lade_without_its_regulariser_is_balanced_softmax():
    logits, target = random_batch()
    expected = make("balanced_softmax", LONG_TAIL)(logits, target)
    torch.testing.assert_close(make("lade", LONG_TAIL, alpha=0.0)(logits, target), expected)


def test_ride_with_a_single_expert_is_ldam():
    logits, target = random_batch()
    torch.testing.assert_close(make("ride", LONG_TAIL)(logits, target), make("ldam", LONG_TAIL)(logits, target))


# LADE is not among them: its regulariser sees the level of the logits, not only their differences.
@pytest.mark.parametrize(
    "name", ["ce", "balanced_softmax", "bayias", "logit_adjust", "focal", "ldam", "cb", "label_aware_smoothing"]
)
def test_a_constant_on_all_logits_changes_nothing(name):
    logits, target = random_batch()
    loss = make(name, LONG_TAIL)
    torch.testing.assert_close(loss(logits + 3, target), loss(logits, target))


# The prior that the logits embody


@pytest.mark.parametrize(
    "name, options, expected",
    [
        ("ce", {}, [100 / 111, 10 / 111, 1 / 111]),
        ("focal", {}, [100 / 111, 10 / 111, 1 / 111]),
        ("ldam", {}, [100 / 111, 10 / 111, 1 / 111]),
        ("label_aware_smoothing", {}, [100 / 111, 10 / 111, 1 / 111]),
        ("balanced_softmax", {}, [1 / 3, 1 / 3, 1 / 3]),
        ("balanced_softmax", {"tau": 0.5}, [10 / (11 + 10**0.5), 10**0.5 / (11 + 10**0.5), 1 / (11 + 10**0.5)]),
        ("logit_adjust", {"tau": 2.0}, [1 / 111, 10 / 111, 100 / 111]),
        ("bayias", {}, [1 / 3, 1 / 3, 1 / 3]),
        ("bayias", {"test_prior": [0.2, 0.3, 0.5]}, [0.2, 0.3, 0.5]),
        ("lade", {}, [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_logit_prior(name, options, expected):
    assert make(name, **options).logit_prior.numpy() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "name, options",
    [
        ("ce", {}),
        ("balanced_softmax", {}),
        ("balanced_softmax", {"tau": 0.25}),
        ("logit_adjust", {"tau": 1.5}),
        ("bayias", {"test_prior": [0.1, 0.2, 0.4, 0.2, 0.1]}),
        ("cb", {"beta": 0.99}),
    ],
)
def test_logits_of_the_embodied_prior_minimise_the_expected_loss(name, options):
    """Where images tell nothing about the class, training must end at z = log(logit_prior), up to a constant."""
    loss = make(name, LONG_TAIL, **options)
    logits = loss.logit_prior.log().requires_grad_()
    losses = loss(logits.expand(5, 5), torch.arange(5))
    expected_loss = (torch.from_numpy(prior(LONG_TAIL)) * losses).sum()
    assert torch.autograd.grad(expected_loss, logits)[0].abs().max() < 1e-14


def test_logits_of_the_embodied_prior_minimise_equalization_over_all_draws(monkeypatch):
    """As above, over all choices of which of the two rare classes are left out, by their probabilities."""
    loss = make("eql", LONG_TAIL, threshold=0.05, gamma=0.7)
    logits, expected_loss = loss.logit_prior.log().requires_grad_(), 0.0
    for left_out in itertools.product((True, False), repeat=2):
        draws = torch.tensor([0.99] * 3 + [0.0 if out else 0.99 for out in left_out]).expand(5, 5).double()
        monkeypatch.setattr(loss, "uniform", lambda logits, draws=draws: draws)
        probability = np.prod([0.7 if out else 0.3 for out in left_out])
        expected_loss = expected_loss + probability * torch.from_numpy(prior(LONG_TAIL)) @ loss(logits.expand(5, 5), torch.arange(5))
    assert torch.autograd.grad(expected_loss, logits)[0].abs().max() < 1e-14


def test_clouded_logits_embody_about_the_prior_that_is_told():
    """The gradient of the expected loss by each logit, as a share of the class, where images tell nothing about the class."""
    loss = make("gcl", LONG_TAIL)
    probs = (loss.logit_prior.log() - gcl.half_normal(loss.uniform(torch.zeros(40_000, 5).double())) * loss.amplitude).softmax(1)
    assert (probs.mean(0).numpy() / prior(LONG_TAIL)) == pytest.approx(1, abs=0.1)


# Edges


@pytest.mark.parametrize(
    "test_prior", [[0.5, 0.5], [0.5, 0.3, 0.3], [1.0, 0.0, 0.0], [1.2, -0.1, -0.1], [float("nan")] * 3, []]
)
def test_bayias_refuses_a_wrong_test_prior(test_prior):
    with pytest.raises(ValueError, match="test_prior"):
        make("bayias", test_prior=test_prior)


def test_focal_has_finite_gradients_where_the_model_is_certain():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    loss = make("focal", gamma=0.5)(logits, torch.tensor([0]))
    assert torch.isfinite(torch.autograd.grad(loss.sum(), logits)[0]).all()
