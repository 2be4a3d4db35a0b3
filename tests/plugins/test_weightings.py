"""Weightings: class-balanced weights with a deferred start; Longtail_DA's look-ahead gradient and its development set."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from lt.base.trained import train_base
from lt.core import keys
from lt.core.counts import effective_number_weights
from lt.core.params import Settings
from lt.core.plugins import load, names
from lt.data.split import Split
from lt.input.part import training_part
from lt.network.classifier import Classifier
from lt.subsample import make as make_subset
from lt.training import development, engine
from lt.training.contracts import Step
from lt.weightings.longtail_da import corrected, eps_gradient

COUNTS = np.array([100, 10, 1])
W = torch.tensor([[0.2, -0.1], [0, 0.3], [-0.4, 0.1]], dtype=torch.float64)
X = torch.tensor([[1, 2], [0.5, -1], [-1, 1]], dtype=torch.float64)
DEV = (torch.tensor([[-0.5, 1.5]], dtype=torch.float64), torch.tensor([2]))
MEAN = [0.007055, -0.020289, -0.033631]
SUM = [0.021791, -0.049988, -0.086461]


class Net(nn.Module):
    """A model as the engine has it: features and a head; flat inputs."""

    def __init__(self, features: nn.Module, head: nn.Module):
        super().__init__()
        self.features, self.head = features, head


def linear_model():
    head = nn.Linear(2, 3, bias=False, dtype=torch.float64)
    head.weight.data.copy_(W)
    return Net(nn.Identity(), head)


def net_with_batch_norm(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 5), nn.BatchNorm1d(5))
        return Net(layers, nn.Linear(5, 3)).double().train()


def random_batch(size, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 4, generator=generator, dtype=torch.float64), torch.arange(size) % 3


def objective(model, images, target):
    return F.cross_entropy(model.head(model.features(images)), target, reduction="none")


def step_of(model, images, target, epoch=0, lr=0.1, dev=DEV):
    losses = objective(model, images, target)
    return Step(epoch, 0, lr, model, images, target, lambda: losses, objective, lambda size: dev, torch.Generator())


def worked_step(**kwargs):
    return step_of(linear_model(), X, torch.arange(3), **kwargs)


def by_double_backward(step, weights, dev, inner_lr, scale):
    """d L_dev(theta~(eps)) / d eps through the graph of the inner step."""
    eps = torch.zeros_like(weights, requires_grad=True)
    parameters = dict(step.model.named_parameters())

    def losses(at, images, target):
        values = at | {name: buffer.clone() for name, buffer in step.model.named_buffers()}
        logits = functional_call(Chain(step.model), {f"model.{name}": value for name, value in values.items()}, (images,))
        return F.cross_entropy(logits, target, reduction="none")

    inner = ((weights + eps) * losses(parameters, step.images, step.target)).sum() * scale
    gradients = torch.autograd.grad(inner, list(parameters.values()), create_graph=True)
    ahead = {name: p - inner_lr * g for (name, p), g in zip(parameters.items(), gradients)}
    return torch.autograd.grad(losses(ahead, *dev).mean(), eps)[0]


class Chain(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model.head(self.model.features(images))


@pytest.mark.parametrize("name", names("weightings"))
def test_contract(name):
    weighting = load("weightings", name)(COUNTS)
    assert np.asarray(weighting.class_weights).shape == (3,) and (np.asarray(weighting.class_weights) > 0).all()
    for epoch in (0, 500):
        weights = weighting(worked_step(epoch=epoch))
        assert weights.shape == (3,) and weights.dtype == torch.float64 and not weights.requires_grad
        assert torch.isfinite(weights).all()


@pytest.mark.parametrize("name", ["class_balanced", "longtail_da"])
def test_weights_start_at_their_epoch(name):
    weighting = load("weightings", name)(COUNTS, start_epoch=7)
    assert weighting(worked_step(epoch=6)).tolist() == [1, 1, 1]
    assert weighting(worked_step(epoch=7)).tolist() == pytest.approx([0.027159, 0.270369, 2.702472], abs=2e-3)
    with pytest.raises(ValueError, match=r"classes \[1\] have no training example"):
        load("weightings", name)(np.array([5, 0, 3]))


def test_class_balanced_worked_numbers():
    weighting = load("weightings", "class_balanced")(COUNTS)
    expected = [0.027159, 0.270369, 2.702472]
    assert weighting.class_weights.tolist() == pytest.approx(expected, abs=1e-6)
    assert weighting(worked_step()).tolist() == pytest.approx(expected, abs=1e-6)
    step = step_of(linear_model(), X, torch.tensor([0, 0, 1]))
    assert weighting(step).tolist() == pytest.approx([0.027159, 0.027159, 0.270369], abs=1e-6)


def test_class_balanced_per_batch_is_torchs_weighted_mean():
    weighting = load("weightings", "class_balanced")(COUNTS, normalize="batch")
    target = torch.tensor([0, 0, 1])
    step = step_of(linear_model(), X, target)
    expected = F.cross_entropy(X @ W.T, target, weight=torch.from_numpy(weighting.class_weights))
    torch.testing.assert_close((weighting(step) * step.losses()).mean(), expected)


@pytest.mark.parametrize("reduction, expected", [("mean", MEAN), ("sum", SUM)])
def test_worked_eps_gradient_and_weights(reduction, expected):
    weights = torch.from_numpy(effective_number_weights(COUNTS, 0.9999))
    step = worked_step()
    scale = 1.0 if reduction == "sum" else 1 / 3
    assert eps_gradient(step, weights, DEV, 0.1, scale).tolist() == pytest.approx(expected, abs=1e-6)
    for eps_lr, mean_loss in ((0.01, {"mean": 0.866207, "sum": 0.866416}), (10.0, {"mean": 1.015012, "sum": 1.223895})):
        weighting = load("weightings", "longtail_da")(COUNTS, start_epoch=0, inner_lr=0.1, eps_lr=eps_lr, reduction=reduction)
        learned = weighting(step)
        wanted = weights - eps_lr * torch.tensor(expected).double()
        torch.testing.assert_close(learned, wanted, atol=1e-6 * max(1, eps_lr), rtol=0)
        assert (learned * step.losses()).mean().item() == pytest.approx(mean_loss[reduction], abs=1e-5)


@pytest.mark.parametrize("inner_lr", [0.5, 0.01])
@pytest.mark.parametrize("seed", [0, 1])
def test_eps_gradient_equals_double_backward_through_batch_norm(inner_lr, seed):
    """At any base weights, that is, at eps = 0 and at eps other than 0."""
    step = step_of(net_with_batch_norm(seed), *random_batch(9, seed))
    dev = random_batch(12, seed + 10)
    uneven = torch.rand(9, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 3 - 0.5
    for weights in (torch.ones(9).double(), uneven):
        expected = by_double_backward(step, weights, dev, inner_lr, 1 / 9)
        torch.testing.assert_close(eps_gradient(step, weights, dev, inner_lr, 1 / 9), expected, rtol=1e-10, atol=1e-14)
        assert expected.abs().max() > 1e-6


def test_sum_with_a_smaller_rate_is_mean():
    step = step_of(net_with_batch_norm(), *random_batch(9, 0), dev=random_batch(12, 1))
    options = {"start_epoch": 0, "eps_lr": 1.0}
    by_sum = load("weightings", "longtail_da")(COUNTS, reduction="sum", inner_lr=0.5 / 9, **options)(step)
    by_mean = load("weightings", "longtail_da")(COUNTS, reduction="mean", inner_lr=0.5, **options)(step)
    torch.testing.assert_close(by_sum, by_mean, rtol=1e-12, atol=0)
    assert not torch.equal(by_sum, load("weightings", "longtail_da")(COUNTS, reduction="sum", inner_lr=0.5, **options)(step))


def test_look_ahead_at_the_current_lr_is_plain_sgd():
    """The development gradient is taken where torch's SGD, without momentum and decay, would go."""
    weights = torch.from_numpy(effective_number_weights(COUNTS, 0.9999))
    model, seen = linear_model(), []

    def spying(at, images, target):
        seen.append(at.head.weight.detach().clone())
        return objective(at, images, target)

    step = replace(step_of(model, X, torch.arange(3), lr=0.1), objective=spying)
    load("weightings", "longtail_da")(COUNTS, start_epoch=0)(step)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    (weights * step.losses()).sum().backward()
    optimizer.step()
    torch.testing.assert_close(seen[1], model.head.weight.detach())
    torch.testing.assert_close(seen[1][0], torch.tensor([0.249401, -0.137382]).double(), atol=1e-6, rtol=0)


def test_the_model_and_its_running_statistics_stay_as_they_are():
    model = net_with_batch_norm()
    step = step_of(model, *random_batch(9, 0), dev=random_batch(12, 1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load("weightings", "longtail_da")(COUNTS, start_epoch=0, eps_lr=1.0)(step)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    step.losses().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_batchs_own_graph_is_not_alive_while_it_looks_ahead():
    load("weightings", "longtail_da")(COUNTS, start_epoch=0)(replace(worked_step(), losses=pytest.fail))


def test_eps_lr_zero_is_deferred_class_balanced():
    plain = load("weightings", "class_balanced")(COUNTS, start_epoch=3)
    learned = load("weightings", "longtail_da")(COUNTS, start_epoch=3, eps_lr=0.0)
    for epoch in (2, 3):
        assert torch.equal(plain(worked_step(epoch=epoch)), learned(worked_step(epoch=epoch)))
    assert np.array_equal(plain.class_weights, learned.class_weights)


def test_clipped_and_normalised_weights():
    weights, eps = torch.tensor([0.1, 1.0, 2.0]), torch.tensor([-0.3, 0.5, 0.4])
    torch.testing.assert_close(corrected(weights, eps, None, False), torch.tensor([-0.2, 1.5, 2.4]))
    torch.testing.assert_close(corrected(weights, eps, 0.0, False), torch.tensor([0.0, 1.5, 2.4]))
    torch.testing.assert_close(corrected(weights, eps, 0.0, True), torch.tensor([0.0, 1.5, 2.4]) * 3.1 / 3.9)
    assert corrected(weights, -3 * weights, 0.0, True).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="longtail_da.normalize: needs clip_min"):
        load("weightings", "longtail_da")(COUNTS, normalize=True)


def test_epoch_stats_are_means_since_the_last_call():
    weighting = load("weightings", "longtail_da")(COUNTS, start_epoch=1, inner_lr=0.1)
    assert weighting.epoch_stats() == {"eps_to_weight": 0.0}
    weights = torch.from_numpy(weighting.class_weights)
    ratio = (0.01 * torch.tensor(SUM).abs() / weights).mean().item()
    weighting(worked_step(epoch=1))
    resumed = load("weightings", "longtail_da")(COUNTS, start_epoch=1, inner_lr=0.1)
    resumed.load_state_dict(weighting.state_dict())
    resumed(worked_step(epoch=1))
    for one in (weighting, resumed):
        assert one.epoch_stats()["eps_to_weight"] == pytest.approx(ratio, rel=1e-4)
        assert one.epoch_stats() == {"eps_to_weight": 0.0}


# The development set, and training with it.


def tiny_part(counts=(30, 12, 5, 2)):
    """Images whose colour tells the class, long-tailed."""
    labels = np.repeat(np.arange(4), counts)
    images = (np.random.RandomState(0).randint(0, 60, (len(labels), 8, 8, 3)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    split = Split(images, labels, tuple("abcd"), (0.5,) * 3, (0.25,) * 3)
    subset = make_subset("tiny", split, split, kind="none", imbalance=1.0, seed=0, val_fraction=0.0, raw_sha256="0")
    return training_part(split, subset, torch.device("cpu"))


def test_resampled_development_set_is_the_training_part():
    part = tiny_part()
    left, (images, labels) = development.development_split(part, "train_resampled", 10, 0)
    assert left is part and images is part.images and labels is part.labels
    assert (labels.diff() >= 0).all()


def test_held_out_images_are_not_trained_on(capsys):
    part = tiny_part()
    left, (images, labels) = development.development_split(part, "train_subset", 3, 0)
    assert np.bincount(labels).tolist() == [3, 3, 2, 1] and (labels.diff() >= 0).all()
    assert left.subset.counts.tolist() == [27, 9, 3, 1] == np.bincount(left.labels).tolist()
    assert np.array_equal(left.subset.train_labels, left.labels.numpy()) and len(left.images) == 40
    assert "9 of 49 training images are held out" in capsys.readouterr().out
    whole = {image.numpy().tobytes() for image in part.images}
    kept, dev = ({image.numpy().tobytes() for image in some} for some in (left.images, images))
    assert kept | dev == whole and not kept & dev
    assert np.array_equal(part.split.labels[left.subset.train_index], left.subset.train_labels)
    again, other = (development.development_split(part, "train_subset", 3, seed)[1][0] for seed in (0, 1))
    assert torch.equal(again, images) and not torch.equal(other, images)
    with pytest.raises(ValueError, match=r"classes \[3\] have one: use train_resampled"):
        development.development_split(tiny_part((5, 4, 3, 1)), "train_subset", 3, 0)


def reserved_part(per_class=40, reserve=3, val_fraction=0.0):
    """A long-tailed part of a balanced pool in which every image is another one, with `reserve` images of each class left."""
    labels = np.tile(np.arange(4), per_class)
    images = np.random.RandomState(0).randint(0, 256, (len(labels), 8, 8, 3)).astype(np.uint8)
    split = Split(images, labels, tuple("abcd"), (0.5,) * 3, (0.25,) * 3)
    options = {"kind": "exp", "imbalance": 10.0, "seed": 0, "val_fraction": val_fraction, "raw_sha256": "0", "reserve": reserve}
    return training_part(split, make_subset("tiny", split, split, **options), torch.device("cpu"))


def test_further_images_are_neither_trained_on_nor_validated_with(capsys):
    part = reserved_part(val_fraction=0.2)
    left, (images, labels) = development.development_split(part, "train_pool_extra", 3, 0)
    assert left is part and part.subset.drawn.max() == 37 and len(part.subset.val_index)
    assert np.bincount(labels).tolist() == [3] * 4 and (labels.diff() >= 0).all()
    known = np.concatenate([part.subset.train_index, part.subset.val_index])
    used = {image.tobytes() for image in part.split.read(known).transpose(0, 3, 1, 2)}
    pool = {image.tobytes(): label for image, label in zip(part.split.images.transpose(0, 3, 1, 2), part.split.labels)}
    for image, label in zip(images, labels):
        assert image.numpy().tobytes() not in used and pool[image.numpy().tobytes()] == label
    assert "12 further labelled images, 3 of each class" in capsys.readouterr().out
    again, other = (development.development_split(part, "train_pool_extra", 3, seed)[1][0] for seed in (0, 1))
    assert torch.equal(again, images) and not torch.equal(other, images)
    with pytest.raises(ValueError, match=r"needs 3 images of each class .* classes \[0\] have fewer: set subset.reserve to 3"):
        development.development_split(reserved_part(reserve=2), "train_pool_extra", 3, 0)


def configured(settings: Settings, **options) -> Settings:
    content = settings.model_dump()
    content["train"] |= {"epochs": 2, "batch_size": 16, "warmup_epochs": 0, "schedule": "constant", "compile": "off"}
    content |= {"weighting": "longtail_da", "augment": "none"}
    content["weightings"]["longtail_da"] |= {"start_epoch": 1, "dev_batch_size": 8, **options}
    return Settings.model_validate(content)


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """Run objects that train_base hands to the engine, which still trains."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    seen, train = [], engine.train
    monkeypatch.setattr(engine, "train", lambda run: seen.append(run) or train(run))
    return seen


def test_base_trains_with_a_held_out_development_set(settings, runs):
    trained = train_base(configured(settings, dev_source="train_subset", dev_per_class=3), tiny_part(), 0)
    (run,) = runs
    assert len(run.images) == 40 and len(run.dev_images) == 9
    assert run.weighting.class_weights == pytest.approx(effective_number_weights(np.array([27, 9, 3, 1]), 0.9999))
    assert [line["eps_to_weight"] > 0 for line in trained.log] == [False, True]
    assert trained.logit_prior == pytest.approx([0.25] * 4, abs=0.01)


def test_base_trains_on_the_whole_subset_beside_further_images(settings, runs):
    trained = train_base(configured(settings, dev_source="train_pool_extra", dev_per_class=3), reserved_part(), 0)
    (run,) = runs
    assert len(run.images) == reserved_part().subset.counts.sum() and len(run.dev_images) == 12
    assert [line["eps_to_weight"] > 0 for line in trained.log] == [False, True]


def test_development_batches_are_class_balanced(settings, runs):
    train_base(configured(settings, eps_lr=0.0), tiny_part(), 0)
    (run,) = runs
    step = engine._weighting_step(run, 0, 0, 0.1, run.mix(run.images / 255, run.labels, 0, None), None, keys.generator(0))
    images, target = step.dev_batch(4000)
    assert (np.bincount(target, minlength=4) / 4000).tolist() == pytest.approx([0.25] * 4, abs=0.03)
    assert torch.equal((images * 255).round().mean(dim=(1, 2, 3)).div(60).long(), target), "images and labels belong together"
    assert len(images[target == 0].flatten(1).unique(dim=0)) == 30, "every image of a class can be drawn"


def test_what_does_not_go_together_is_refused(settings, runs):
    with pytest.raises(ValueError, match=r"longtail_da.start_epoch: got 2, expected less than train.epochs \(2\)"):
        train_base(configured(settings, start_epoch=2), tiny_part(), 0)
    mixed = Settings.model_validate(configured(settings).model_dump() | {"mix": "mixup"})
    with pytest.raises(ValueError, match="mix: got 'mixup', expected 'none' with weighting longtail_da"):
        train_base(mixed, tiny_part(), 0)
    assert not runs


@pytest.mark.parametrize("loss", names("losses"))
def test_every_loss_can_look_ahead(loss, settings):
    from lt.models import resnet8

    counts, criterion = np.array([30, 12, 5, 2]), load("losses", loss)(np.array([30, 12, 5, 2]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Classifier(resnet8.make(), nn.Linear(64, 4), (0.5,) * 3, (0.25,) * 3).train()

    if criterion.random:
        criterion.start_step(keys.generator(1))

    def objective(model, images, target):
        return criterion(model(images), target)

    images, target = torch.rand(6, 3, 8, 8, generator=keys.generator(0)), torch.tensor([0, 0, 1, 2, 3, 0])
    step = Step(0, 0, 0.1, model, images, target, None, objective, lambda n: (images, target), None)
    weights = load("weightings", "longtail_da")(counts, start_epoch=0, eps_lr=10.0)(step)
    assert torch.isfinite(weights).all()
    plain = load("weightings", "class_balanced")(counts)(replace(step, losses=lambda: objective(model, images, target)))
    assert not torch.allclose(weights, plain, atol=1e-4)
