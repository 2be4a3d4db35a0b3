"""Heads: worked numbers of the causal head, geometry of the others, and the contract of every file in lt/heads."""

import pytest
import torch
from torch.nn import functional as F

from lt.core.plugins import load, names

ALL = names("heads")
FEATURES = torch.tensor([[1.0, 2, 2, 0], [0.5, 0, 1, 3]], dtype=torch.float64)
WEIGHT = torch.tensor([[0.3, -0.1, 0.2, 0.4], [-0.2, 0.5, 0.1, 0], [0.1, 0.1, -0.3, 0.2]], dtype=torch.float64)


def make(name, feature_dim=8, num_classes=5, seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return load("heads", name)(feature_dim, num_classes, **options)


def random_features(size=30, feature_dim=8, seed=0):
    return torch.randn(size, feature_dim, generator=torch.Generator().manual_seed(seed)).relu()


def causal(**options):
    head = make("causal", 4, 3, **options).double()
    with torch.no_grad():
        head.weight.copy_(WEIGHT)
        head.feature_mean.copy_(torch.tensor([2.0, 1, 2, 1]))
    return head


# Worked numbers


@pytest.mark.parametrize(
    "num_heads, alpha, total, direct",
    [
        (
            1, 2.0,
            [[4.605860, 9.211720, -3.822737], [13.379250, 0, 4.179078]],
            [[-14.554518, 4.790095, -1.783944], [-0.086318, -3.107439, 5.611905]],
        ),
        (
            2, 3.0,
            [[4.373659, 11.118642, 0.090433], [14.309258, -0.880684, 6.570130]],
            [[-24.033187, -5.016951, -5.027002], [-12.194304, -14.130486, -2.360748]],
        ),
    ],
)
def test_causal_numbers(num_heads, alpha, total, direct):
    head = causal(num_heads=num_heads, alpha=alpha)
    expected = {"atol": 6e-7, "rtol": 0}
    torch.testing.assert_close(head(FEATURES), torch.tensor(total, dtype=torch.float64), **expected)
    torch.testing.assert_close(head.balanced(FEATURES), torch.tensor(direct, dtype=torch.float64), **expected)


def test_causal_running_mean_numbers():
    head = make("causal", 4, 3, mu=0.9).double()
    for row in FEATURES:
        head.observe(row[None], lr=0.0)
    torch.testing.assert_close(head.feature_mean, torch.tensor([1.4, 1.8, 2.8, 3.0], dtype=torch.float64))


@pytest.mark.parametrize("lr, mu", [(0.1, 0.9), (0.02, 0.9), (0.01, 0.95), (0.001, 0.995), (0.0001, 0.9995), (0.0, 1.0)])
def test_causal_decay_follows_the_learning_rate(lr, mu):
    head = make("causal", 4, 3).double()
    head.feature_mean.fill_(1)
    head.observe(torch.zeros(2, 4, dtype=torch.float64), lr)
    assert head.feature_mean.tolist() == pytest.approx([mu] * 4, abs=1e-12)


# The causal head


def test_causal_views_agree_without_a_mean_or_with_alpha_zero():
    features = random_features()
    unobserved, alpha_zero = make("causal"), make("causal", alpha=0.0)
    alpha_zero.observe(features, lr=0.1)
    for head in (unobserved, alpha_zero):
        torch.testing.assert_close(head.balanced(features), head(features))


def test_causal_view_with_alpha_one_ignores_the_mean_direction():
    head, features = causal(alpha=1.0), FEATURES
    torch.testing.assert_close(head.balanced(head.feature_mean[None]), torch.zeros(1, 3, dtype=torch.float64), atol=1e-12, rtol=0)
    assert head.balanced(features).abs().min() > 1e-3


def test_causal_observes_without_a_graph():
    head = make("causal")
    head.observe(random_features().requires_grad_(), lr=0.1)
    assert not head.feature_mean.requires_grad


def test_causal_heads_must_divide_the_features():
    with pytest.raises(ValueError, match="num_heads: got 3, expected a divisor of the 8 features"):
        make("causal", num_heads=3)


# The other heads


def test_linear_with_and_without_bias():
    assert set(make("linear").state_dict()) == {"weight", "bias"}
    assert set(make("linear", bias=False).state_dict()) == {"weight"}
    head = make("linear", 64, 10)
    assert head.weight.abs().max() <= 1 / 8 and head.weight.abs().max() > 0.9 / 8


def test_cosine_sees_directions_only():
    head, features = make("cosine", scale=7.0), random_features()
    with torch.no_grad():
        expected = 7 * F.cosine_similarity(features[:, None], head.weight[None], dim=2)
        torch.testing.assert_close(head(features), expected)
        torch.testing.assert_close(head(5 * features), expected)
        head.weight.mul_(torch.tensor([[0.1], [1], [2], [3], [40]]))
        torch.testing.assert_close(head(features), expected)


def test_cosine_weights_start_at_unit_length():
    torch.testing.assert_close(make("cosine").weight.norm(dim=1), torch.ones(5))


def test_nearest_mean_ranks_by_distance():
    head, features = make("nearest_mean", scale=2.0).double(), random_features().double()
    with torch.no_grad():
        head.centre.copy_(features.mean(0))
        head.means.copy_(torch.randn(5, 8, generator=torch.Generator().manual_seed(1)))
        centred = F.normalize(features - features.mean(0), dim=1)
        distances = torch.cdist(centred, head.means).square()
        torch.testing.assert_close(head(features), 2 * (1 - distances))
        torch.testing.assert_close(head.normalised(features), centred)


def test_nearest_mean_by_plain_distances():
    head, features = make("nearest_mean", scale=0.5, normalise=False).double(), random_features().double()
    with torch.no_grad():
        head.centre.copy_(features.mean(0))
        centred = features - features.mean(0)
        expected = centred.square().sum(1, keepdim=True) - torch.cdist(centred, head.means).square()
        torch.testing.assert_close(head(features), expected / 2)


def test_nearest_mean_with_unit_means_is_a_cosine_head_of_twice_the_scale():
    head, cosine, features = make("nearest_mean", scale=15.0), make("cosine", scale=30.0), random_features()
    cosine.weight.data.copy_(head.means.data)
    torch.testing.assert_close(head(features) + 15, cosine(features), atol=1e-5, rtol=1e-5)


# The contract of every head


@pytest.mark.parametrize("name", ALL)
def test_shape_and_gradients(name):
    head, features = make(name), random_features().requires_grad_()
    logits = head(features)
    assert logits.shape == (30, 5) and logits.dtype == torch.float32 and torch.isfinite(logits).all()
    assert head(features[:1]).shape == (1, 5)
    F.cross_entropy(logits, torch.arange(30) % 5).backward()
    assert features.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())


@pytest.mark.parametrize("name", ALL)
def test_gradients_in_float64(name):
    head, features = make(name).double(), random_features(size=4).double() + 0.1
    parameters = tuple(p.detach().requires_grad_() for p in head.parameters())
    keys = [key for key, _ in head.named_parameters()]

    def logits(features, *values):
        return torch.func.functional_call(head, dict(zip(keys, values)), (features,))

    assert torch.autograd.gradcheck(logits, (features.requires_grad_(), *parameters))


@pytest.mark.parametrize("name", ALL)
def test_zero_features_give_finite_logits_and_gradients(name):
    head, features = make(name), torch.zeros(3, 8, requires_grad=True)
    for view in (head, getattr(head, "balanced", head)):
        logits = view(features)
        assert torch.isfinite(logits).all()
        F.cross_entropy(logits, torch.arange(3)).backward()
    assert torch.isfinite(features.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


@pytest.mark.parametrize("name", ALL)
def test_state_dict_holds_the_whole_state(name):
    features = random_features()
    head, fresh = make(name, seed=0), make(name, seed=1)
    for step in range(3):
        F.cross_entropy(head(features), torch.arange(30) % 5).backward()
        torch.optim.SGD(head.parameters(), lr=0.1).step()
        if hasattr(head, "observe"):
            head.observe(features, lr=0.1)
    assert not torch.equal(fresh(features), head(features))
    fresh.load_state_dict(head.state_dict())
    assert torch.equal(fresh(features), head(features))
    if hasattr(head, "balanced"):
        assert torch.equal(fresh.balanced(features), head.balanced(features))


@pytest.mark.parametrize("name", ALL)
def test_the_global_generator_decides_the_weights(name):
    for first, second, same in ((0, 0, True), (0, 1, False)):
        states = make(name, seed=first).state_dict(), make(name, seed=second).state_dict()
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0]) == same


@pytest.mark.parametrize("name", ALL)
def test_training_mode_makes_no_difference(name):
    head, features = make(name), random_features()
    assert torch.equal(head.train()(features), head.eval()(features))


@pytest.mark.parametrize("name", ALL)
def test_a_training_step_lowers_the_loss(name):
    head, features, target = make(name), random_features(), torch.arange(30) % 5
    before = F.cross_entropy(head(features), target)
    before.backward()
    torch.optim.SGD(head.parameters(), lr=0.001).step()
    assert F.cross_entropy(head(features), target) < before


@pytest.mark.parametrize("name", ALL)
def test_compiles_to_one_graph(name):
    head, features = make(name), random_features()
    torch.testing.assert_close(torch.compile(head, backend="eager", fullgraph=True)(features), head(features))


# Linear head


@pytest.mark.parametrize("init, deviation", [("torch", (3 * 64) ** -0.5), ("kaiming_normal", (2 / 64) ** 0.5)])
def test_the_scale_that_a_linear_head_starts_with(init, deviation):
    head = make("linear", 64, 1000, init=init)
    assert head.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert (head.weight.abs().max() <= 1 / 8) == (init == "torch") and head.bias.abs().max() <= 1 / 8


def test_a_linear_head_of_torch_starts_as_torch_has_it():
    torch.manual_seed(3)
    expected = torch.nn.Linear(8, 5)
    found = make("linear", seed=3)
    assert torch.equal(found.weight, expected.weight) and torch.equal(found.bias, expected.bias)
