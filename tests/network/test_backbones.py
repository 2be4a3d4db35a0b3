"""Backbones of torchvision: the published networks, what is frozen, and weights from elsewhere."""

import hashlib
import inspect
from pathlib import Path

import pytest
import torch
import torchvision  # older releases cannot be imported inside `with torch.device("meta")`
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from lt.check import mistakes
from lt.core import artifacts, params
from lt.core.counts import uniform
from lt.core.plugins import load
from lt.core.schemas import Context
from lt.network import classifier, pretrained, weights_file
from tests.data.test_datasets import PROJECT

NETWORKS = {"resnet10": (4_905_792, 512), "resnet50": (23_508_032, 2048), "resnet152": (58_143_808, 2048),
            "resnext50_32x4d": (22_979_904, 2048)}


def make(name="resnet10", seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return load("models", name)(**options)


def random_images(size=4, side=64):
    return torch.rand(size, 3, side, side, generator=torch.Generator().manual_seed(0))


def batch_norms(module):
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


# networks


@pytest.mark.parametrize("name", NETWORKS)
def test_the_published_networks(name):
    """On the meta device, where nothing is computed but shapes."""
    with torch.device("meta"):
        model = load("models", name)()
        assert sum(parameter.numel() for parameter in model.parameters()) == NETWORKS[name][0]
        assert model.feature_dim == NETWORKS[name][1] and classifier.experts_of(model) == 1
        for side in (32, 64, 224, 256):
            assert model(torch.empty(2, 3, side, side)).shape == (2, model.feature_dim)
    assert f"{NETWORKS[name][0]:,} parameters" in inspect.getdoc(load("models", name))


def test_resnet10_is_four_blocks_of_two_convolutions():
    model = make()
    kernels = [part.kernel_size for part in model.modules() if isinstance(part, nn.Conv2d)]
    assert kernels.count((7, 7)) == 1 and kernels.count((3, 3)) == 8 and kernels.count((1, 1)) == 3  # shortcuts that widen
    for part in model.modules():
        if isinstance(part, nn.Conv2d):  # N(0, 2 / (k^2 out))
            scaled = part.weight * (part.kernel_size[0] ** 2 * part.out_channels / 2) ** 0.5
            assert scaled.std().item() == pytest.approx(1, abs=4 / (2 * scaled.numel()) ** 0.5)


def test_a_bottleneck_network_learns():
    model, images, target = make("resnet50"), random_images(4, 32), torch.arange(4) % 2
    before = model.trunk.layer4[2].bn3.running_mean.clone()
    features = model(images)
    assert features.shape == (4, 2048) and features.min() >= 0
    F.cross_entropy(features[:, :2], target).backward()
    assert [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0] == []
    assert not torch.equal(before, model.trunk.layer4[2].bn3.running_mean)


def test_a_projection_gives_its_own_width():
    plain, model = make().eval(), make(projection=16).eval()
    model.trunk.load_state_dict(plain.trunk.state_dict())
    features = model(random_images())
    assert model.feature_dim == 16 and features.shape == (4, 16) and features.min() >= 0
    linear = model.projection[0]
    torch.testing.assert_close(features, F.relu(plain(random_images()) @ linear.weight.T + linear.bias))


# what is trained


@pytest.mark.parametrize(
    "trainable, trained",
    [("all", {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}), ("last_block", {"layer4"}), ("head", set())],
)
def test_frozen_layers_stay_as_they_are(trainable, trained):
    model = make(trainable=trainable, projection=8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(2):
        model.train()
        model(random_images()).square().sum().backward()
        torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.01).step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[1] for name in changed if name.startswith("trunk")} == trained
    assert {name for name in changed if name.startswith("projection")} == {"projection.0.weight", "projection.0.bias"}
    assert {part.training for part in batch_norms(model.trunk.layer1)} == {trainable == "all"}
    model.eval()
    assert not any(part.training for part in batch_norms(model))


@pytest.mark.parametrize("group, slow", [("head", {"trunk"}), ("trunk", {"trunk", "projection"})])
def test_the_projection_shares_the_learning_rate_that_it_is_asked_to(group, slow):
    model = make(projection=8, projection_group=group)
    found = {*model.slow_parameters()}
    assert {name.split(".")[0] for name, parameter in model.named_parameters() if parameter in found} == slow
    assert all(parameter in found for parameter in model.trunk.parameters())


def test_recalibrating_leaves_frozen_statistics_alone(monkeypatch):
    from types import SimpleNamespace

    import numpy as np

    from lt.features import recalibrate

    spec = classifier.classifier_spec("resnet10", {"trainable": "last_block"}, "linear", {}, 2, (0.5,) * 3, (0.25,) * 3)
    model = classifier.build(spec, seed=0)
    frozen, trained = model.backbone.trunk.bn1, model.backbone.trunk.layer4[0].bn1
    frozen.running_mean.fill_(0.25), trained.running_mean.fill_(100.0)
    labels = np.array([0, 0, 0, 1])
    subset = SimpleNamespace(counts=np.array([3, 1]), train_labels=labels)
    images = (random_images(side=32) * 255).byte()
    part = SimpleNamespace(images=images, labels=torch.from_numpy(labels), subset=subset)
    recalibrate(model, part, lambda images, keys: images, "balanced", batch_size=4, seed=0)
    assert frozen.running_mean.eq(0.25).all() and frozen.momentum == 0.1
    assert trained.running_mean.abs().max() < 50 and not model.training


def test_freezing_random_layers_is_refused_before_training(tmp_path):
    import yaml

    content = params.read_yaml(PROJECT / "params.yaml") | {"model": "resnet10"}
    content["models"]["resnet10"]["trainable"] = "last_block"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(params.ParamsError, match="models.resnet10.trainable: got 'last_block', expected 'all' without weights"):
        mistakes.load(tmp_path / "params.yaml")
    content["models"]["resnet10"]["weights"] = "data/r10.pth@sha256:0123456789ab"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    assert mistakes.load(tmp_path / "params.yaml").model == "resnet10"
    content["models"]["resnet10"]["weights"] = "torchvision"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(params.ParamsError, match="models.resnet10.weights: got 'torchvision', which has none of resnet10"):
        mistakes.load(tmp_path / "params.yaml")


# weights


def tensors_equal(model, other):
    return all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


def saved(path: Path, how: str, trunk: dict) -> Path:
    """The trunk's tensors as others would write them."""
    if how == "safetensors":
        save_file(trunk | {"fc.weight": torch.zeros(3, 512)}, path)
    elif how == "plain":
        torch.save(trunk, path)
    elif how == "nested":
        feat = {f"module.{name}": tensor for name, tensor in trunk.items()}
        torch.save({"epoch": 90, "best": {"feat_model": feat, "classifier": {"module.fc.weight": torch.zeros(3, 512)}}}, path)
    elif how == "old":
        torch.save({name: tensor for name, tensor in trunk.items() if not name.endswith("num_batches_tracked")}, path)
    return path


def named(path: Path) -> str:
    return f"{path}@sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.mark.parametrize("how", ["safetensors", "plain", "nested", "old"])
def test_weights_of_a_file(tmp_path, monkeypatch, how):
    source = make(seed=1)
    path = saved(tmp_path / f"weights.{'safetensors' if how == 'safetensors' else 'pth'}", how, source.trunk.state_dict())
    assert not tensors_equal(make().trunk, source.trunk)
    assert tensors_equal(make(weights=named(path)).trunk, source.trunk)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    short = named(path).removeprefix(f"{tmp_path}/")[:-52]
    assert tensors_equal(make(weights=short, trainable="head").trunk, source.trunk)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_a_file_that_has_changed_since_it_was_named_is_not_loaded(tmp_path, name):
    path = saved(tmp_path / name, "safetensors" if name.endswith("safetensors") else "plain", make(seed=1).trunk.state_dict())
    weights = named(path)
    saved(path, "safetensors" if name.endswith("safetensors") else "plain", make(seed=2).trunk.state_dict())
    with pytest.raises(ValueError, match=f"weights: got {path} with sha256 .*, expected {weights[-64:]}: this is another file"):
        make(weights=weights)
    with pytest.raises(ValueError, match=f"expected the file and its content's hash; write weights: {named(path)[:-52]}"):
        make(weights=str(path))


@pytest.mark.parametrize("how", ["safetensors", "plain"])
def test_what_is_loaded_is_what_was_hashed(tmp_path, monkeypatch, how):
    """Another process replaces the file right after it was read."""
    path = saved(tmp_path / f"weights.{'safetensors' if how == 'safetensors' else 'pth'}", how, make(seed=1).trunk.state_dict())
    weights, read = named(path), weights_file.read

    def replaced(*arguments):
        found = read(*arguments)
        saved(path, how, make(seed=2).trunk.state_dict())
        return found

    monkeypatch.setattr(weights_file, "read", replaced)
    assert tensors_equal(make(weights=weights).trunk, make(seed=1).trunk)


def test_the_weights_of_an_artifact_are_weights_too(tmp_path):
    spec = classifier.classifier_spec("resnet10", {}, "linear", {}, 3, (0.5,) * 3, (0.25,) * 3)
    model = classifier.build(spec, seed=1)
    artifacts.write_weights(tmp_path / "weights.safetensors", model)
    assert tensors_equal(make(weights=named(tmp_path / "weights.safetensors")).trunk, model.backbone.trunk)


def test_an_artifact_does_not_need_the_file_that_training_began_with(tmp_path):
    path = saved(tmp_path / "begin.pth", "plain", make(seed=1).trunk.state_dict())
    options = {"weights": named(path), "trainable": "last_block", "projection": None}
    spec = classifier.classifier_spec("resnet10", options, "linear", {}, 3, (0.5,) * 3, (0.25,) * 3)
    model = classifier.build(spec, seed=0)
    classifier.write_classifier(tmp_path, model, spec, uniform(3), dict.fromkeys(Context.model_fields, "x"))
    path.unlink()
    again, row = classifier.read_classifier(tmp_path)
    assert tensors_equal(again, model) and row["classifier"] == spec
    assert not again.backbone.trunk.conv1.weight.requires_grad and again.backbone.trunk.layer4[0].conv1.weight.requires_grad


class Evil:
    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize(
    "how, told",
    [
        ("missing", "cannot be read .*; expected torchvision, or a file"),
        ("code", "holds other things than tensors, or is damaged"),
        ("noise", "holds other things than tensors, or is damaged"),
        ("noise.safetensors", "is not a safetensors file"),
        ("empty", "got no 'conv1.weight' and 59 more, expected the 60 tensors of one network"),
        ("another", "got no 'layer1.0.conv1.weight'"),
        ("twice", "got 2 networks that fit, under 'a.', 'b.'"),
        ("shape", r"conv1.weight: got shape \(64, 1, 7, 7\), expected \(64, 3, 7, 7\); 1 tensors differ"),
    ],
)
def test_weights_that_cannot_be_had_are_told(tmp_path, capsys, how, told):
    path = tmp_path / ("weights.safetensors" if how.endswith("safetensors") else "weights.pth")
    trunk = make().trunk.state_dict()
    content = {
        "code": {"state": trunk, "evil": Evil()}, "empty": {"epoch": 3},
        "another": {name.replace("layer1.0", "layer1.9"): tensor for name, tensor in trunk.items()},
        "twice": {"a": trunk, "b": trunk}, "shape": trunk | {"conv1.weight": torch.zeros(64, 1, 7, 7)},
    }
    if how in content:
        torch.save(content[how], path)
    elif how != "missing":
        path.write_bytes(b"no weights at all")
    with pytest.raises(ValueError, match=told):
        make(weights=named(path) if path.exists() else str(path))
    assert "unpickled" not in capsys.readouterr().out


def test_torchvision_s_own_weights_are_the_first_ones(monkeypatch):
    from torchvision.models import ResNet50_Weights, _api

    asked = []

    def fetched(self, *args, **options):
        asked.append((self, options))
        return make("resnet50", seed=1).trunk.state_dict()

    monkeypatch.setattr(_api.WeightsEnum, "get_state_dict", fetched)
    model = make("resnet50", weights="torchvision", trainable="head")
    assert tensors_equal(model.trunk, make("resnet50", seed=1).trunk)
    assert asked == [(ResNet50_Weights.IMAGENET1K_V1, {"progress": False, "check_hash": True})]


def test_torchvision_has_no_resnet10_and_may_be_out_of_reach(monkeypatch):
    from torchvision.models import _api

    with pytest.raises(ValueError, match="which has none of resnet10; give a file, or null"):
        make(weights="torchvision")

    def offline(self, *args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(_api.WeightsEnum, "get_state_dict", offline)
    with pytest.raises(ValueError, match=r"download torchvision's resnet50 \(no route to host\); without a network, fetch"):
        pretrained.load(nn.Identity(), "torchvision", "resnet50")
