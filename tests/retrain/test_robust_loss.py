"""The robust loss of DRO-LT: worked numbers, gradients, what must not change it, centroids and radii."""

import numpy as np
import pytest
import torch

from lt.core import keys
from lt.retrain.robust_loss import class_centroids, initial_eps, nearest_centroid_accuracy, robust_loss

FEATURES = torch.tensor([[0, 0], [1, 0], [0, 1], [2, 2]], dtype=torch.float64)
TARGET = torch.tensor([0, 1, 0, 1])
CENTROIDS = torch.tensor([[0, 0.5], [1.5, 1.0]], dtype=torch.float64)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def loss(eps=(0.5, 1.0), temperature=1.0, weights=None, features=FEATURES, target=TARGET, centroids=CENTROIDS):
    return robust_loss(features, target, centroids, double(*eps), temperature, weights and double(*weights))


@pytest.mark.parametrize(
    "eps, temperature, per_class",
    [
        ((0, 0), 1.0, (0.983702, 1.158998)),
        ((1, 1), 1.0, (1.343659, 1.653625)),
        ((0.5, 1), 1.0, (1.135200, 1.653625)),
        ((1, 2), 1.0, (1.343659, 2.376660)),  # the paper's factor 2, eps (0.5, 1)
        ((0.5, 1), 0.5, (1.043633, 1.990697)),
    ],
)
def test_worked_numbers(eps, temperature, per_class):
    assert loss(eps, temperature).item() == pytest.approx(sum(per_class) / 2, abs=2e-6)
    for c, weights in enumerate([(1, 0), (0, 1)]):
        assert loss(eps, temperature, weights).item() == pytest.approx(per_class[c], abs=2e-6)


def test_class_weights():
    assert loss(weights=(1, 0.25)).item() == pytest.approx(1.238885, abs=2e-6)


def test_each_radius_belongs_to_its_own_class():
    """Radii handed out by the order of the batch, as released, give 1.385328."""
    assert loss().item() == pytest.approx(1.394413, abs=2e-6) != 1.385328
    assert [loss((1, 2)).item(), loss(temperature=0.5).item()] == pytest.approx([1.860160, 1.517165], abs=2e-6)
    order = torch.tensor([3, 0, 2, 1])
    assert loss(features=FEATURES[order], target=TARGET[order]).item() == pytest.approx(1.394413, abs=2e-6)


def test_gradients():
    eps, features = double(0.5, 1).requires_grad_(), FEATURES.clone().requires_grad_()
    robust_loss(features, TARGET, CENTROIDS, eps, 1.0).backward()
    assert eps.grad.tolist() == pytest.approx([0.178642, 0.308645], abs=2e-6)
    expected = double([0.109112, -0.016579], [-0.196730, -0.074173], [0.177508, 0.089321], [0.040333, 0.116519])
    torch.testing.assert_close(features.grad, expected, atol=2e-6, rtol=0)
    torch.autograd.gradcheck(lambda f, e: robust_loss(f, TARGET, CENTROIDS, e, 0.7), (features, eps))


def test_an_absent_class_changes_nothing():
    """Divided by the weights of all classes that have a centroid, as released, it would give 0.929608."""
    more = torch.cat([CENTROIDS, double([5, 5])])
    assert loss((0.5, 1, 3), centroids=more).item() == pytest.approx(loss().item())
    assert loss((0.5, 1, 3), centroids=more, weights=(1, 1, 1)).item() == pytest.approx(loss().item())


def test_radii_only_fall():
    generator = keys.generator("radii")
    features, target = torch.randn(40, 6, generator=generator), torch.arange(40) % 5
    eps = torch.randn(5, generator=generator).requires_grad_()
    gradient, = torch.autograd.grad(robust_loss(features, target, class_centroids(features, target, 5), eps, 0.5), eps)
    assert (gradient > 0).all()


def test_far_features_and_low_temperatures_stay_finite():
    features = torch.tensor([[52.0, 0], [60.0, 0]], requires_grad=True)
    eps = torch.zeros(2, requires_grad=True)
    centroids = torch.zeros(2, 2)
    found = [robust_loss(features, torch.tensor(target), centroids, eps, 0.07) for target in ([0, 1], [1, 0])]
    assert [value.item() for value in found] == pytest.approx([114.285714 / 2] * 2, rel=1e-6)
    found[0].backward()
    assert features.grad.isfinite().all() and eps.grad.isfinite().all()
    at_centroid = torch.zeros(2, 2, requires_grad=True)  # where the distance has no slope
    robust_loss(at_centroid, torch.tensor([0, 1]), centroids, eps, 0.07).backward()
    assert at_centroid.grad.isfinite().all()


def test_initial_radii():
    counts = np.array([100, 10, 1])
    assert initial_eps("count", 1.0, counts).tolist() == pytest.approx([0.211830, 0.669866, 2.118303], abs=2e-6)
    assert initial_eps("count", 0.5, counts).mean() == pytest.approx(0.5)
    assert initial_eps("shared", 0.5, counts).tolist() == initial_eps("learned_free", 0.5, counts).tolist() == [0.5, 0.5, 0.5]


def test_centroids_are_class_means(monkeypatch):
    torch.testing.assert_close(class_centroids(FEATURES, TARGET, 2), CENTROIDS)
    monkeypatch.setattr("lt.retrain.robust_loss.ROWS_AT_ONCE", 3)
    torch.testing.assert_close(class_centroids(FEATURES, TARGET, 2), CENTROIDS)
    with pytest.raises(ValueError, match=r"classes \[2\] have no example"):
        class_centroids(FEATURES, TARGET, 3)


def test_nearest_centroid_goes_by_angle_and_averages_over_classes():
    features = double([1, 0.1], [9, 0], [0.1, 0.5], [3, 1], [0, 2])
    target = torch.tensor([0, 0, 1, 1, 1])
    centroids = double([0.1, 0], [0, 50])
    assert nearest_centroid_accuracy(features, target, centroids) == pytest.approx((1 + 2 / 3) / 2)
