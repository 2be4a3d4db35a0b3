"""DRO-LT: what the backbone minimises, and a tiny training from start to end, killed and continued, with every head."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lt.augments import crop
from lt.core import artifacts, keys, params
from lt.core.counts import prior
from lt.core.subset import read_subset
from lt.data.dataset import open_dataset
from lt.distill.xerm import read_teacher
from lt.features import features_of, fill_views
from lt.input.part import training_part
from lt.methods import dro_lt
from lt.network import classifier
from lt.network.classifier import DecisionRule
from lt.network.inference import predict
from lt.retrain.contracts import Inputs, Training
from lt.retrain.robust_loss import RobustObjective, Robustness, over_layers, robust_loss
from lt.samplers import class_aware
from lt.training import checkpoint
from lt.training.contracts import Mixed

FEATURES = torch.tensor([[0, 0], [1, 0], [0, 1], [2, 2]], dtype=torch.float64)
TARGET = torch.tensor([0, 1, 0, 1])
CENTROIDS = torch.tensor([[0, 0.5], [1.5, 1.0]], dtype=torch.float64)
OPTIONS = Robustness(2.0, 1.0, "learned_free", 0.5, 2, "lt", "none", "clean")


def objective(counts=np.array([8, 2]), shape=(2,), **changes):
    made = RobustObjective(dataclasses.replace(OPTIONS, **changes), counts, shape, lambda *_: (FEATURES.float(), TARGET))
    made.start_epoch(0, None, None, None)
    return made


def mixed(target=TARGET):
    return Mixed(torch.zeros(len(target), 3, 2, 2), target, target, torch.ones(len(target)))


def test_objective_is_weighted_cross_entropy_plus_robust_loss():
    logits = torch.tensor([[2.0, 0], [1, 0], [0, 1], [0, 3]])
    made = objective()
    found = made(FEATURES.float(), logits, mixed())
    weighted = F.cross_entropy(logits, TARGET, weight=torch.tensor([1, 0.25]))
    assert found.shape == (4,)
    robust = robust_loss(FEATURES, TARGET, CENTROIDS, torch.ones(2), 1.0).item()  # eps 0.5, twice
    assert found.mean().item() == pytest.approx(weighted.item() + 2 * robust, rel=1e-5)
    stats = made.epoch_stats()
    assert stats["ce"] == pytest.approx(weighted.item(), rel=1e-5) and stats["robust"] == pytest.approx(robust, rel=1e-5)
    assert (stats["eps_min"], stats["eps_mean"], stats["eps_max"]) == (0.5, 0.5, 0.5)
    plain = objective(ce_weight="none", eps_factor=1, lambda_robust=0.0)(FEATURES.float(), logits, mixed()).mean()
    assert plain.item() == pytest.approx(F.cross_entropy(logits, TARGET).item(), rel=1e-6)


def test_published_weighting_of_the_cross_entropy():
    logits = torch.tensor([[1.0, 0.5, -0.2], [0.3, -1.0, 2.0]])
    made = RobustObjective(dataclasses.replace(OPTIONS, lambda_robust=0.0), np.array([100, 10, 1]), (2,), None)
    target = torch.tensor([2, 0])
    found = made(torch.zeros(2, 2), logits, mixed(target)).mean().item()
    assert found == pytest.approx(1.908396, abs=2e-6)


def test_experts_are_summed():
    logits = torch.zeros(4, 2, 2)
    doubled = torch.stack([FEATURES, FEATURES], 1).float()
    made = RobustObjective(OPTIONS, np.array([8, 2]), (2, 2), lambda *_: (doubled, TARGET))
    made.start_epoch(0, None, None, None)
    torch.testing.assert_close(made(doubled, logits, mixed()), 2 * objective()(FEATURES.float(), logits[:, 0], mixed()))


def test_layers_are_summed_each_with_its_own_centroids_and_radii():
    """The worked example at two layers: 2 * 1.394413 where both are alike, and a layer's own radii where they differ."""
    wide = torch.cat([FEATURES, FEATURES], 1).float()
    options = dataclasses.replace(OPTIONS, lambda_robust=1.0, eps_factor=1, ce_weight="none", layers=2)
    made = RobustObjective(options, np.array([8, 2]), (4,), lambda *_: (wide, TARGET), (2, 2))
    made.start_epoch(0, None, None, None)
    assert made.eps.shape == (2, 2)
    logits = torch.tensor([[2.0, 0], [1, 0], [0, 1], [0, 3]])

    def robust(*radii):
        made.eps.data = torch.tensor(radii)
        return (made(wide, logits, mixed()) - F.cross_entropy(logits, TARGET, reduction="none")).mean().item()

    assert robust([0.5, 1.0], [0.5, 1.0]) == pytest.approx(2 * 1.394413, abs=5e-6)
    assert robust([0.0, 0.0], [0.5, 1.0]) == pytest.approx(1.071350 + 1.394413, abs=5e-6)
    assert made.centroid_accuracy.item() == objective().centroid_accuracy.item()


@pytest.mark.parametrize("model, options, widths", [
    ("resnet8", {}, (16, 32, 64)), ("resnet32_bbn", {}, (16, 32, 128)), ("ride_resnet32", {"experts": 2}, (16, 24, 48)),
])
def test_over_layers_puts_the_last_stages_side_by_side_and_the_head_on_the_last(model, options, widths):
    spec = {**SPEC, "model": {"name": model, "options": options}, "head": {"name": "causal", "options": {}}}
    base = classifier.build(spec, 1).eval()
    images = torch.rand(3, 3, 8, 8, generator=keys.generator("images"))
    features = base.features(images)
    one, two = over_layers(base, 1), over_layers(base, 2)
    assert torch.equal(one.features(images), features) and torch.equal(one(images), base(images))
    assert two.features(images).shape == (*features.shape[:-1], sum(widths[-2:]))
    assert torch.equal(two.features(images)[..., -widths[-1] :], features) and torch.equal(two(images), base(images))
    two.head.observe(two.features(images), 0.1)
    first = base.head.heads[0] if hasattr(base.head, "heads") else base.head
    assert first.feature_mean.abs().sum() > 0, "the causal head was shown the last layer"
    assert not hasattr(over_layers(classifier.build(SPEC, 1), 2).head, "observe")
    with pytest.raises(ValueError, match="layers: got 4, expected at most 3, the stages of"):
        over_layers(base, 4)


def test_more_layers_train_another_backbone_of_the_same_form():
    quick = {**QUICK, "epochs": 1, "head_epochs": 1}
    results = [dro_lt.fit(make_inputs(), **quick, layers=layers) for layers in (1, 2, 3)]
    assert len({digests(result)[0] for result in results}) == 3
    assert [result.arrays["eps"].shape for result in results] == [(4,)] * 3
    assert [result.arrays["eps_of_layers"].shape for result in results[1:]] == [(2, 4), (3, 4)]
    keys_of = [list(result.backbone.state_dict()) for result in results]
    assert keys_of[0] == keys_of[1] == keys_of[2]
    losses = [result.backbone_log[0]["robust"] for result in results]
    assert losses[0] < losses[1] < losses[2]
    # What one layer alone minimises is what the default does.
    assert digests(dro_lt.fit(make_inputs(), **quick)) == digests(results[0])


@pytest.mark.parametrize("mode, trained", [("learned_free", True), ("shared", False), ("count", False)])
def test_only_free_radii_are_trained(mode, trained):
    assert ("eps" in dict(objective(eps_mode=mode).named_parameters())) == trained


# A tiny training from start to end: images of 8 x 8 pixels, one bright row per class.
COUNTS = np.array([24, 12, 6, 3])
SPEC = classifier.classifier_spec("resnet8", {}, "linear", {}, len(COUNTS), (0.5,) * 3, (0.5,) * 3)
QUICK = {"epochs": 2, "batch_size": 32, "lr": 0.02, "head_epochs": 3}


def make_inputs(head="linear", seed=0):
    generator = keys.generator("images")
    labels = torch.arange(4).repeat_interleave(torch.from_numpy(COUNTS))
    images = torch.randint(0, 120, (len(labels), 3, 8, 8), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels):
        image[:, 2 * label] += 100
    spec = {**SPEC, "head": {"name": head, "options": {}}}
    augment = crop.make(8, padding=1)

    def training():
        return Training(images, labels, classifier.build(spec, 1).eval(), augment, {"subset": "bright rows"})

    base = training().base
    clean = features_of(base, images, 64, np.dtype(np.float32))
    views = np.empty((2, *clean.shape), np.float32)
    fill_views(views, base, images, augment, 64, seed)

    def new_head(name=None, **options):
        spec = {**base.head.spec, "name": name, "options": options} if name else base.head.spec
        return classifier.build_head(spec, keys.derive(seed, "new"))

    return Inputs(views, clean, labels.numpy(), COUNTS, base.head, new_head, prior(COUNTS), seed, torch.device("cpu"), training)


@pytest.fixture(autouse=True)
def states(tmp_path, monkeypatch):
    """Training states go into a folder of the test."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path / ".resume"


def digests(result):
    weights = [checkpoint.digest(module) for module in (result.backbone, result.head)]
    return *weights, result.backbone_log, result.log, result.arrays["eps"].tobytes()


def test_fit_trains_the_backbone_and_then_the_head():
    inputs = make_inputs()
    before, views = checkpoint.digest(inputs.open_training().base.backbone), inputs.views.copy()
    result = dro_lt.fit(inputs, **QUICK)
    assert checkpoint.digest(result.backbone) != before
    assert checkpoint.digest(result.head) != checkpoint.digest(make_inputs().head)
    assert np.array_equal(inputs.views, views)
    assert [row["epoch"] for row in result.backbone_log] == [1, 2] and result.log[-1]["step"] == 3 * 3
    assert {row["lr"] for row in result.log} == {0.01} and {row["lr"] for row in result.backbone_log} == {0.02}
    first, last = result.backbone_log
    assert 1 > first["eps_mean"] > last["eps_mean"] and last["robust"] < first["robust"]
    assert result.arrays["eps"].shape == (4,) and result.arrays["eps"].mean() == pytest.approx(last["eps_mean"])
    assert all(0 <= row["centroid_accuracy"] <= 1 for row in result.backbone_log)
    np.testing.assert_allclose(result.logit_prior, 0.25)
    rule = DecisionRule(result.head, result.offset, result.balanced_view, 4)
    images = inputs.open_training().images
    assert rule(result.backbone((images / 255 - 0.5) / 0.5)).isfinite().all()


def test_equal_inputs_give_equal_bytes():
    assert digests(dro_lt.fit(make_inputs(), **QUICK)) == digests(dro_lt.fit(make_inputs(), **QUICK, centroid_source="clean"))


def test_a_killed_training_goes_on_to_the_same_bytes(monkeypatch, states):
    whole = dro_lt.fit(make_inputs(), **QUICK)
    whole.state.clear()
    monkeypatch.setattr(checkpoint, "SAVE_EVERY_S", -1.0)
    train_step, steps = dro_lt.engine._train_step, []

    def dies_in_the_second_epoch(*arguments):
        steps.append(arguments)
        if len(steps) == 5:
            raise MemoryError("killed")
        return train_step(*arguments)

    monkeypatch.setattr(dro_lt.engine, "_train_step", dies_in_the_second_epoch)
    with pytest.raises(MemoryError):
        dro_lt.fit(make_inputs(), **QUICK)
    assert [path.suffix for path in states.iterdir()] == [".pt"]
    resumed = dro_lt.fit(make_inputs(), **QUICK)
    assert len(steps) == 5 + 2
    assert digests(resumed) == digests(whole)
    resumed.state.clear()
    assert not list(states.iterdir())


def test_every_head():
    inputs = make_inputs()
    base = inputs.head.weight.detach().clone()
    results = {head: dro_lt.fit(make_inputs(), **QUICK, head=head) for head in ("linear", "crt", "lws", "tau_norm")}
    assert len({digests(result)[0] for result in results.values()}) == 1, "the head does not change the backbone"
    assert len({digests(result)[1] for result in results.values()}) == 4
    torch.testing.assert_close(results["tau_norm"].head.weight, F.normalize(base, dim=1))
    ratios = results["lws"].head.weight / base
    torch.testing.assert_close(ratios, ratios[:, :1].expand_as(ratios))
    np.testing.assert_allclose(results["lws"].logit_prior, 0.25)
    half = dro_lt.fit(make_inputs(), **QUICK, head="tau_norm", head_tau=0.0)
    np.testing.assert_allclose(half.logit_prior, prior(COUNTS))
    assert half.log == []


def test_the_nearest_centroid_of_the_new_features():
    inputs = make_inputs()
    training = inputs.open_training()
    result = dro_lt.fit(dataclasses.replace(inputs, open_training=lambda: training), **QUICK, head="ncm")
    assert digests(result)[0] == digests(dro_lt.fit(make_inputs(), **QUICK))[0] and result.log == []
    new = features_of(training.base, training.images, 64, np.dtype(np.float32))
    means = np.stack([new[inputs.labels == c].mean(0) for c in range(4)])
    angles = (new @ means.T) / np.linalg.norm(means, axis=1)
    with torch.no_grad():
        found = result.head(torch.from_numpy(new)).argmax(1).numpy()
    assert (found == angles.argmax(1)).mean() > 0.99 and not np.allclose(new, inputs.clean)
    np.testing.assert_allclose(result.logit_prior, 0.25)


@pytest.mark.parametrize(
    "option, value", [("centroid_source", "sampled_aug"), ("eps_mode", "count"), ("lambda_robust", 0.0), ("robust_weight", "lt")]
)
def test_options_change_the_backbone(option, value):
    quick = {**QUICK, "epochs": 1, "head_epochs": 1}
    assert digests(dro_lt.fit(make_inputs(), **quick, **{option: value}))[0] != digests(dro_lt.fit(make_inputs(), **quick))[0]


def test_heads_without_class_vectors_are_refused_before_training():
    inputs = dataclasses.replace(make_inputs("cosine"), open_training=None)
    for head in ("lws", "tau_norm"):
        with pytest.raises(ValueError, match=f"dro_lt with head: {head} rescales"):
            dro_lt.fit(inputs, head=head)


def test_a_cosine_base_head_is_trained_on():
    result = dro_lt.fit(make_inputs("cosine"), **{**QUICK, "epochs": 1, "head_epochs": 1})
    assert result.head.spec["name"] == "cosine"


def test_sampled_bank_holds_an_epoch_of_class_aware_draws():
    inputs = make_inputs()
    training = inputs.open_training()
    sampler = class_aware.make(inputs.labels, COUNTS, 32, group=4)
    bank = dro_lt.sampled_bank(sampler, training.augment, 0)
    features, target = bank(0, training.base.train(), training.images, training.labels)
    assert torch.bincount(target).tolist() == [24] * 4 and features.shape == (96, 64)
    again, _ = bank(0, training.base, training.images, training.labels)
    assert torch.equal(features, again)
    assert not torch.equal(features, bank(1, training.base, training.images, training.labels)[0])


def test_the_stage_writes_the_backbone_and_the_teacher_uses_it(stages_in, monkeypatch):
    monkeypatch.setattr(checkpoint, "SAVE_EVERY_S", -1.0)
    options = {"epochs": 1, "batch_size": 64, "head_epochs": 1, "eps_mode": "count"}
    folder = stages_in(
        {"train.epochs": 1, "train.schedule": "constant", "methods.dro_lt": options},
        "subsample", "base --seed 0", "features --seed 0", "retrain dro_lt --seed 0",
    )
    monkeypatch.chdir(folder)
    written = folder / "artifacts/retrain/dro_lt/0"
    assert {path.name for path in written.iterdir()} == {
        "manifest.json", "row.json", "weights.safetensors", "backbone.safetensors", "log.csv", "backbone_log.csv", "eps.npy", "test_logits.npy"
    }
    assert (folder / ".resume").is_dir() and not list(folder.glob(".resume/*")), "the training states are cleared"
    assert len(artifacts.read_log(written / "backbone_log.csv")) == 1
    settings, subset = params.load(), read_subset()
    part = training_part(open_dataset(settings, "train"), subset, torch.device("cpu"))
    teacher = read_teacher("dro_lt", 0, part)
    views = predict_views(teacher, open_dataset(settings, "test", check="none"))
    base, row = (artifacts.read_array(artifacts.row_dir(name, 0) / "test_logits.npy") for name in ("base", "dro_lt"))
    np.testing.assert_allclose(views[0], base, atol=1e-4)
    np.testing.assert_allclose(views[1], row, atol=1e-4)
    assert np.abs(base - row).max() > 0.1


def predict_views(teacher, split):
    """Both views of a split's images, as the stages would predict them."""
    class View(torch.nn.Module):
        def __init__(self, number):
            super().__init__()
            self.number = number

        def forward(self, images):
            return teacher(images)[self.number]

    return [predict(View(number), split, torch.device("cpu")) for number in (0, 1)]
