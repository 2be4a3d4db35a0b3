"""BALMS: the worked step, the closed form against autograd, and the two draws."""

import numpy as np
import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F

from lt.losses import balanced_softmax, ce
from lt.methods import balms
from lt.network.classifier import build_head
from lt.retrain import bilevel
from lt.retrain.bank import ClassPool
from lt.retrain.contracts import Inputs
from lt.retrain.heads import trainable
from lt.training.objective import expert_sum
from lt.training.sgd import SGD

COUNTS = np.array([3, 2, 1])
FEATURES = torch.tensor([[1, 0], [0.5, 0.5], [1, -0.5], [0, 1], [-0.5, 1], [-1, -1]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 0, 1, 1, 2])
GUMBEL = torch.tensor([[0.1, 1.7, -0.4, 0.3, 0.9, 0.2], [-0.6, 0.4, 0, 0.8, -0.2, 2.1]], dtype=torch.float64)
META = torch.tensor([[0.8, 0.1], [0.1, 0.9], [-0.7, -0.8]], dtype=torch.float64), torch.tensor([0, 1, 2])
PSI = torch.tensor([0, 0.2, -0.1], dtype=torch.float64)


def near(values):
    return pytest.approx(np.asarray(values), abs=6e-7)


def worked_head(nesterov):
    """The head of the worked step, and its optimizer in mid-run: momentum buffers of 0.01."""
    head = torch.nn.Linear(2, 3).double()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.3, -0.2], [-0.1, 0.4], [0.05, -0.3]]))
        head.bias.copy_(torch.tensor([0.1, 0, -0.1]))
    optimizer = SGD(head.parameters(), 0.1, 0.9, 5e-4, nesterov)
    for buffer in optimizer.momenta:
        buffer.fill_(0.01)
    return head, optimizer


def worked_step(nesterov):
    head, optimizer = worked_head(nesterov)
    winners, draw = balms.draw_instances(torch.from_numpy(COUNTS), F.logsigmoid(PSI), (-GUMBEL).exp())
    batch = FEATURES[winners], LABELS[winners]
    inner, outer = balanced_softmax.make(COUNTS), ce.make(COUNTS)
    outcome, feedback = bilevel.step_and_feedback(head, optimizer, inner, batch, outer, META)
    gradient = balms.rates_gradient(draw, feedback, torch.sigmoid(PSI))
    return head, winners, draw, outcome, feedback, gradient, outer(head(META[0]), META[1]).mean().item()


def test_worked_step():
    head, winners, draw, outcome, feedback, gradient, meta_loss = worked_step(nesterov=False)
    assert torch.sigmoid(PSI).numpy() == near([0.5, 0.549834, 0.475021])
    assert winners.tolist() == [1, 5] and draw.classes.tolist() == [0, 2]
    assert draw.soft.numpy() == near([0.434476, 0.548417])
    assert draw.shares.numpy() == near([[0.575400, 0.332499, 0.092101], [0.214939, 0.236644, 0.548417]])
    assert outcome.losses.numpy() == near([0.639621, 1.580499]) and outcome.losses.mean().item() == near(1.110060)
    probs = (outcome.logits + torch.from_numpy(COUNTS).log()).softmax(1)
    assert probs.numpy() == near([[0.527492, 0.351661, 0.120847], [0.531588, 0.262540, 0.205872]])
    assert head.weight.detach().numpy() == near([[0.337477, -0.162498], [-0.096560, 0.403415], [0.006370, -0.343613]])
    assert head.bias.detach().numpy() == near([0.096141, -0.031610, -0.067231])
    assert meta_loss == pytest.approx(0.836478, abs=6e-7)
    assert feedback.numpy() == pytest.approx(np.array([-0.00117043, -0.02883680]), abs=6e-9)
    assert gradient.numpy() == pytest.approx(np.array([0.00159163, 0.00176083, -0.00372460]), abs=6e-9)


def test_worked_step_with_nesterov():
    *_, gradient, meta_loss = worked_step(nesterov=True)
    assert meta_loss == pytest.approx(0.810399, abs=6e-7)
    assert gradient.numpy() == pytest.approx(np.array([0.00290288, 0.00311395, -0.00667936]), abs=6e-9)


def test_first_adam_step():
    labels = LABELS.numpy()
    sampler = balms.MetaSampler(ClassPool(labels, 3), PSI.clone(), "instance", 0.01, (0.9, 0.999))
    *_, draw, _, feedback, _, _ = worked_step(nesterov=False)
    sampler.learn(draw, feedback)
    assert sampler.psi.numpy() == pytest.approx(np.array([-0.00999994, 0.19000006, -0.09000003]), abs=6e-9)


def gradient_by_autograd(head, optimizer, inner, features, target, soft, psi, straight_through=True):
    """d L_meta / d psi by differentiating through the draw (or the weights `soft`) and through one written-out SGD step."""
    options = optimizer.options
    weights = soft - soft.detach() + 1 if straight_through else soft
    parameters = trainable(head)
    inner_loss = (weights * expert_sum(inner, head(features), target)).mean()
    gradients = torch.autograd.grad(inner_loss, list(parameters.values()), create_graph=True)
    stepped = {}
    for (name, parameter), gradient, momentum in zip(parameters.items(), gradients, optimizer.momenta):
        gradient = gradient + options["weight_decay"] * parameter
        buffer = options["momentum"] * momentum + gradient
        update = gradient + options["momentum"] * buffer if options["nesterov"] else buffer
        stepped[name] = parameter - optimizer.lr * update
    meta = torch.randn(7, *features.shape[1:], generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    meta_target = torch.arange(7) % 3
    outer_loss = expert_sum(ce.make(COUNTS), functional_call(head, stepped, (meta,)), meta_target).mean()
    return torch.autograd.grad(outer_loss, psi)[0], (meta, meta_target)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("gumbel", ["class", "instance"])
@pytest.mark.parametrize("name, experts", [("linear", 1), ("linear", 2), ("cosine", 1), ("cosine", 2)])
def test_closed_form_is_the_gradient_through_draw_and_step(gumbel, nesterov, name, experts):
    generator = torch.Generator().manual_seed(3)
    spec = {"name": name, "options": {}, "feature_dim": 4, "num_classes": 3, "num_experts": experts}
    head = build_head(spec, 0).double()
    optimizer = SGD(head.parameters(), 0.3, 0.9, 5e-3, nesterov)
    for buffer in optimizer.momenta:
        buffer.copy_(torch.randn(buffer.shape, generator=generator, dtype=torch.float64))
    psi = torch.tensor([0.3, -0.8, 1.1], dtype=torch.float64, requires_grad=True)
    counts = torch.from_numpy(COUNTS)
    if gumbel == "class":
        noise = balms.exponential((5, 3), generator, torch.float64)
        draw = balms.draw_classes(counts, F.logsigmoid(psi).detach(), noise)
        soft = F.softmax(counts.double().log() + F.logsigmoid(psi) - noise.log(), dim=1)[torch.arange(5), draw.classes]
    else:
        noise = balms.exponential((5, 6), generator, torch.float64)
        winners, draw = balms.draw_instances(counts, F.logsigmoid(psi).detach(), noise)
        soft = F.softmax(F.logsigmoid(psi)[LABELS] - noise.log(), dim=1)[torch.arange(5), winners]
    shape = (5, 4) if experts == 1 else (5, experts, 4)
    features = torch.randn(shape, generator=generator, dtype=torch.float64)
    inner = balanced_softmax.make(COUNTS)
    expected, meta_batch = gradient_by_autograd(head, optimizer, inner, features, draw.classes, soft, psi)
    _, feedback = bilevel.step_and_feedback(head, optimizer, inner, (features, draw.classes), ce.make(COUNTS), meta_batch)
    got = balms.rates_gradient(draw, feedback, torch.sigmoid(psi).detach())
    assert expected.abs().max() > 1e-5
    assert (got - expected).abs().max() < 1e-10


def test_initial_rates():
    counts = np.array([100, 10, 1])
    assert torch.sigmoid(balms.initial_psi(counts, 0.0)).numpy() == near([0.5, 0.5, 0.5])
    assert torch.sigmoid(balms.initial_psi(counts, 0.1)).numpy() == near([0.386863, 0.487032, 0.613137])
    assert torch.sigmoid(balms.initial_psi(counts, 0.3)).numpy() == near([0.200760, 0.400569, 0.799240])
    places, imagenet = (balms.initial_psi(np.array(ends), init_pow) for ends, init_pow in (([4980, 5], 0.3), ([1280, 5], 0.1)))
    assert torch.sigmoid(places).numpy() == near([0.111935, 0.888065])
    assert torch.sigmoid(imagenet).numpy() == near([0.364817, 0.635183])


@pytest.mark.parametrize("gumbel", ["class", "instance"])
def test_draws_follow_the_rates(gumbel, monkeypatch):
    monkeypatch.setattr(balms, "NOISE_AT_ONCE", 64)  # several parts, each of few rows
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [12, 5, 2]))
    sampler = balms.MetaSampler(ClassPool(labels, 3), torch.tensor([-1.0, 0.5, 2.0]), gumbel, 0.01, (0.9, 0.999))
    index, draw = sampler.draw(20_000, torch.Generator().manual_seed(0))
    assert index.shape == draw.classes.shape == draw.soft.shape == (20_000,) and draw.shares.shape == (20_000, 3)
    assert np.array_equal(labels[index], draw.classes)
    expected = sampler.shares(np.array([12, 5, 2]))
    assert expected == pytest.approx(np.array([12 * 0.268941, 5 * 0.622459, 2 * 0.880797]) / 8.101183, abs=1e-5)
    shares = np.bincount(draw.classes, minlength=3) / 20_000
    assert (np.abs(shares - expected) < 5 * np.sqrt(expected * (1 - expected) / 20_000)).all()
    images = np.bincount(index, minlength=19)
    per_image = (expected / [12, 5, 2])[labels] * 20_000
    assert (np.abs(images - per_image) < 5 * np.sqrt(per_image)).all()
    torch.testing.assert_close(draw.shares.sum(1), torch.ones(20_000))


def test_draws_survive_rates_that_underflow():
    counts, psi = torch.tensor([5, 2]), torch.tensor([-300.0, -301.0])
    draw = balms.draw_classes(counts, F.logsigmoid(psi), torch.ones(1, 2))
    assert draw.shares[0].numpy() == pytest.approx(np.array([5, 2 * np.exp(-1)]) / (5 + 2 * np.exp(-1)), rel=1e-5)
    _, draw = balms.draw_instances(counts, F.logsigmoid(psi), torch.ones(1, 7))
    assert draw.shares[0].numpy() == pytest.approx(np.array([5, 2 * np.exp(-1)]) / (5 + 2 * np.exp(-1)), rel=1e-5)


def test_noise_is_exponential_and_never_zero():
    noise = balms.exponential((1000, 1000), torch.Generator().manual_seed(0), torch.float32)
    assert noise.min() > 0
    assert noise.mean().item() == pytest.approx(1, abs=0.01) and noise.var().item() == pytest.approx(1, abs=0.02)


def small_inputs():
    counts = np.array([120, 60, 15, 5])
    labels = np.repeat(np.arange(4), counts)
    rng = np.random.default_rng(0)
    views = (rng.normal(size=(4, 8))[labels] + rng.normal(size=(2, 200, 8))).astype(np.float32)
    spec = {"name": "linear", "options": {}, "feature_dim": 8, "num_classes": 4, "num_experts": 1}
    return Inputs(views, views[0], labels, counts, None, lambda: build_head(spec, 0), counts / 200, 0, torch.device("cpu"))


@pytest.mark.parametrize("init_pow", [0.0, 0.3])
def test_rates_start_where_init_pow_says(init_pow):
    inputs = small_inputs()
    result = balms.fit(inputs, steps=2, batch_size=8, meta_lr=1e-9, init_pow=init_pow)
    expected = torch.sigmoid(balms.initial_psi(inputs.counts, init_pow)).numpy()
    np.testing.assert_allclose(result.arrays["rates"], expected, atol=1e-6)


@pytest.mark.parametrize("gumbel", ["class", "instance"])
def test_plain_softmax_learns_to_sample_the_tail(gumbel):
    inputs = small_inputs()
    result = balms.fit(inputs, steps=150, batch_size=64, meta_batch_size=64, meta_lr=0.05, loss="ce", gumbel=gumbel)
    rates, shares = result.arrays["rates"], result.arrays["shares"]
    assert rates[0] < 0.5 < rates[3] and rates[0] + 0.2 < rates[3]
    np.testing.assert_allclose(shares, inputs.counts * rates / (inputs.counts * rates).sum(), rtol=1e-6)
    last = result.log[-1]
    assert [last["p_min"], last["p_max"], last["p_mean"]] == pytest.approx([rates.min(), rates.max(), rates.mean()])
    assert [last["share_head"], last["share_mid"], last["share_tail"]] == pytest.approx([shares[:2].sum(), shares[2], shares[3]])
