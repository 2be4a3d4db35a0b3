"""Longtail_DA: worked numbers, the closed form against forward mode and double backward, the development split."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jvp

from lt.core import keys
from lt.core.counts import effective_number_weights
from lt.losses import cb, ce
from lt.methods import longtail_da
from lt.network.classifier import build_head
from lt.retrain.bank import FeatureBank, shuffled_batches
from lt.retrain.contracts import Inputs
from lt.retrain.heads import trainable
from lt.retrain.loop import fit_head
from lt.training.objective import expert_sum

COUNTS = np.array([100, 10, 1])
BATCH = torch.tensor([[1, 2], [0.5, -1], [-1, 1]], dtype=torch.float64), torch.tensor([0, 1, 2])
DEV = torch.tensor([[-0.5, 1.5]], dtype=torch.float64), torch.tensor([2])
WEIGHTS = torch.from_numpy(effective_number_weights(COUNTS, 0.9999))


def worked_head():
    head = nn.Linear(2, 3, bias=False).double()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.2, -0.1], [0, 0.3], [-0.4, 0.1]]))
    return head


def worked_gradient(inner_lr, scale):
    return longtail_da.eps_gradient(worked_head(), ce.make(COUNTS), BATCH, WEIGHTS, DEV, inner_lr, scale)


def test_worked_weights():
    assert WEIGHTS.numpy() == pytest.approx(np.array([0.027159, 0.270369, 2.702472]), abs=6e-7)


@pytest.mark.parametrize(
    "scale, gradient, small, large, mean_losses",
    [
        (
            1 / 3, [0.007055, -0.020289, -0.033631],
            [0.027088, 0.270572, 2.702809], [-0.043395, 0.473262, 3.038778], (0.866207, 1.015012),
        ),
        (
            1.0, [0.021791, -0.049988, -0.086461],
            [0.026941, 0.270869, 2.703337], [-0.190749, 0.770253, 3.567086], (0.866416, 1.223895),
        ),
    ],
    ids=["mean", "sum"],
)
def test_worked_step(scale, gradient, small, large, mean_losses):
    got = worked_gradient(0.1, scale)
    assert got.numpy() == pytest.approx(np.array(gradient), abs=6e-7)
    losses = ce.make(COUNTS)(worked_head()(BATCH[0]), BATCH[1]).detach()
    for eps_lr, expected, mean_loss in ((0.01, small, mean_losses[0]), (10, large, mean_losses[1])):
        weights = longtail_da.corrected(WEIGHTS, -eps_lr * got, None, False)
        assert weights.numpy() == pytest.approx(np.array(expected), abs=2e-6)
        assert (weights * losses).mean().item() == pytest.approx(mean_loss, abs=2e-6)


@pytest.mark.parametrize(
    "scale, head, loss_ahead, products, wrong",
    [
        (
            1 / 3, [[0.216467, -0.112461], [0.035336, 0.260033], [-0.451803, 0.152427]], 0.876438,
            [-0.211660, 0.608679, 1.008918], [0.006811, -0.022146, -0.035981],
        ),
        (
            1.0, [[0.249401, -0.137382], [0.106009, 0.180100], [-0.555409, 0.257282]], 0.698045,
            [-0.217907, 0.499884, 0.864614], [0.020433, -0.066439, -0.107944],
        ),
    ],
    ids=["mean", "sum"],
)
def test_the_development_gradient_is_taken_ahead(scale, head, loss_ahead, products, wrong):
    """Taken at the head as it is, which is right only without class weights, it would give the last numbers."""
    loss, weight = ce.make(COUNTS), worked_head().weight.detach().requires_grad_()
    losses = loss(BATCH[0] @ weight.T, BATCH[1])
    gradients = [torch.autograd.grad(each, weight, retain_graph=True)[0] for each in losses]
    ahead = (weight - 0.1 * scale * sum(w * g for w, g in zip(WEIGHTS, gradients))).detach().requires_grad_()
    assert ahead.detach().numpy() == pytest.approx(np.array(head), abs=1e-6)
    found = {}
    for name, place in (("ahead", ahead), ("here", weight)):
        dev_loss = loss(DEV[0] @ place.T, DEV[1]).mean()
        (direction,) = torch.autograd.grad(dev_loss, place)
        found[name] = dev_loss.item(), np.array([(g * direction).sum().item() for g in gradients])
    assert [found["ahead"][0], found["here"][0]] == pytest.approx([loss_ahead, 0.976061], abs=1e-6)
    assert found["ahead"][1] == pytest.approx(np.array(products), abs=1e-6)
    assert -0.1 * scale * found["here"][1] == pytest.approx(np.array(wrong), abs=1e-6)
    got = worked_gradient(0.1, scale).numpy()
    assert got == pytest.approx(-0.1 * scale * found["ahead"][1], abs=1e-12)
    assert np.abs(got - np.array(wrong)).max() > 1e-3


def test_sum_with_a_smaller_step_is_the_mean():
    torch.testing.assert_close(worked_gradient(0.1 / 3, 1.0), worked_gradient(0.1, 1 / 3), rtol=1e-12, atol=0)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # raised inside torch by its forward mode
@pytest.mark.parametrize("name, experts", [("linear", 1), ("linear", 3), ("cosine", 1), ("cosine", 2)])
@pytest.mark.parametrize("scale", [1.0, 1 / 6])
def test_closed_form_is_forward_mode_is_double_backward(name, experts, scale):
    generator = torch.Generator().manual_seed(1)
    head = build_head({"name": name, "options": {}, "feature_dim": 5, "num_classes": 3, "num_experts": experts}, 0).double()

    def draw(size):
        shape = (size, 5) if experts == 1 else (size, experts, 5)
        return torch.randn(shape, generator=generator, dtype=torch.float64), torch.arange(size) % 3

    (features, target), (dev_features, dev_target), inner_lr = draw(6), draw(4), 0.7
    loss, parameters = ce.make(COUNTS), trainable(head)
    weights = WEIGHTS[target]
    got = longtail_da.eps_gradient(head, loss, (features, target), weights, (dev_features, dev_target), inner_lr, scale)

    def losses_at(values):
        return expert_sum(loss, functional_call(head, values, (features,)), target)

    eps = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    inner_loss = scale * ((weights + eps) * losses_at(parameters)).sum()
    gradients = torch.autograd.grad(inner_loss, list(parameters.values()), create_graph=True)
    ahead = {name: value - inner_lr * gradient for (name, value), gradient in zip(parameters.items(), gradients)}
    dev_loss = expert_sum(loss, functional_call(head, ahead, (dev_features,)), dev_target).mean()
    (double_backward,) = torch.autograd.grad(dev_loss, eps, retain_graph=True)
    assert double_backward.abs().max() > 1e-5
    assert (got - double_backward).abs().max() < 1e-12

    direction = dict(zip(ahead, torch.autograd.grad(dev_loss, list(ahead.values()))))
    here = {name: value.detach() for name, value in parameters.items()}
    _, tangent = jvp(losses_at, (here,), (direction,))
    assert (got + inner_lr * scale * tangent).abs().max() < 1e-12


def test_head_is_left_as_it_was():
    head = worked_head()
    before = head.weight.detach().clone()
    longtail_da.eps_gradient(head, ce.make(COUNTS), BATCH, WEIGHTS, DEV, 0.1, 1.0)
    assert torch.equal(head.weight, before) and head.weight.grad is None


def test_corrected_weights():
    weights, eps = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-2.0, 1.0, 0.0])
    assert longtail_da.corrected(weights, eps, None, False).tolist() == [-1, 3, 3]
    assert longtail_da.corrected(weights, eps, 0.0, False).tolist() == [0, 3, 3]
    assert longtail_da.corrected(weights, eps, 0.5, True).tolist() == pytest.approx([6 * part / 6.5 for part in (0.5, 3, 3)])
    assert longtail_da.corrected(weights, -weights, 0.0, True).tolist() == [0, 0, 0]


@pytest.fixture
def inputs():
    counts = np.array([30, 12, 5, 2])
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), counts))
    views = np.random.default_rng(1).normal(size=(2, 49, 6)).astype(np.float32)
    head = build_head({"name": "linear", "options": {}, "feature_dim": 6, "num_classes": 4, "num_experts": 1}, 0)
    return Inputs(views, views[0], labels, counts, head, None, counts / counts.sum(), 0, torch.device("cpu"))


def test_without_eps_it_is_class_balanced_weighting(inputs):
    start = {name: value.clone() for name, value in inputs.head.state_dict().items()}
    recipe = {"steps": 30, "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}
    result = longtail_da.fit(inputs, batch_size=16, eps_lr=0.0, beta=0.99, **recipe)
    trained = {name: value.clone() for name, value in result.head.state_dict().items()}
    inputs.head.load_state_dict(start)
    generator = keys.generator(0, "longtail_da")
    batches = shuffled_batches(49, 16, generator)
    loss, bank = cb.make(inputs.counts, beta=0.99), FeatureBank(inputs, torch.float32)
    fit_head(inputs.head, loss, bank, lambda: next(batches), generator, **recipe)
    for name, value in inputs.head.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-5, atol=1e-6)
        assert not torch.equal(start[name], value)


def test_eps_matters_when_it_is_large_and_is_logged(inputs):
    start = {name: value.clone() for name, value in inputs.head.state_dict().items()}
    heads, ratios = [], []
    for eps_lr in (0.0, 0.01, 10.0):
        inputs.head.load_state_dict(start)
        result = longtail_da.fit(inputs, steps=20, batch_size=16, eps_lr=eps_lr)
        heads.append(result.head.weight.detach().clone())
        ratios.append(result.log[0]["eps_to_weight"])
    assert ratios[0] == 0 < ratios[1] < ratios[2]
    assert not torch.allclose(heads[0], heads[2], atol=1e-3)


def test_development_images_are_held_out(inputs):
    trained_on, dev = longtail_da.development_split(inputs.labels, inputs.counts, "train_subset", 3, torch.Generator())
    assert np.array_equal(np.sort(np.concatenate([trained_on, dev])), np.arange(49))
    assert np.bincount(inputs.labels[dev]).tolist() == [3, 3, 2, 1]
    everything, again = longtail_da.development_split(inputs.labels, inputs.counts, "train_resampled", 3, torch.Generator())
    assert np.array_equal(everything, again) and len(again) == 49


def test_development_split_depends_on_the_seed(inputs):
    def held_out(seed):
        generator = torch.Generator().manual_seed(seed)
        return longtail_da.development_split(inputs.labels, inputs.counts, "train_subset", 3, generator)[1].tolist()

    assert held_out(0) == held_out(0) != held_out(1)


def test_held_out_images_do_not_count(inputs):
    result = longtail_da.fit(inputs, steps=2, batch_size=16, dev_source="train_subset", dev_per_class=3)
    left = np.array([27, 9, 3, 1])
    expected = left * effective_number_weights(left, 0.9999)
    np.testing.assert_allclose(result.logit_prior, expected / expected.sum())


def test_a_class_of_one_image_cannot_be_split():
    with pytest.raises(ValueError, match=r"classes \[1\] have one; use train_resampled"):
        longtail_da.development_split(np.array([0, 0, 1]), np.array([2, 1]), "train_subset", 10, torch.Generator())


def test_normalize_needs_clip_min(inputs):
    with pytest.raises(ValueError, match="needs clip_min"):
        longtail_da.fit(inputs, steps=1, normalize=True)
