"""Light fine-tuning: adapters change nothing at the start, merge into the layers they stand beside, and are all that is trained."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lt.base.trained import share_trained
from lt.network import adapters, classifier
from lt.network.adapters import LowRank
from tests.network.test_pretrained_networks import make, written


def perturbed(module):
    """The adapters as a training would leave them: U is no longer zero."""
    for part in module.modules():
        if isinstance(part, LowRank):
            nn.init.normal_(part.up.weight, std=0.1)
    return module


def test_an_adapter_is_a_low_rank_update():
    torch.manual_seed(0)
    layer, x = nn.Linear(5, 3), torch.randn(7, 5)
    adapted, plain = LowRank(layer, 2), layer(x)
    assert torch.equal(adapted(x), plain)
    perturbed(adapted)
    update = adapted.up.weight @ adapted.down.weight
    expected = plain + x @ update.T
    assert torch.linalg.matrix_rank(update) == 2 and not torch.allclose(expected, plain)
    torch.testing.assert_close(adapted(x), expected)
    torch.testing.assert_close(F.linear(x, adapted.weight, adapted.bias), expected)
    merged = adapted.merged()
    assert type(merged) is nn.Linear
    torch.testing.assert_close(merged(x), expected)


def test_a_network_starts_as_it_was_and_merges_into_itself():
    pytest.importorskip("timm")
    images = torch.rand(2, 3, 160, 160)
    plain = make(name="test_vit", seed=3).eval()
    adapted = make(name="test_vit", seed=4, trainable="adapters", rank=4).eval()
    own = plain.state_dict()
    found = adapted.load_state_dict({name: own.get(name.replace(".layer.", "."), tensor) for name, tensor in adapted.state_dict().items()})
    assert not found.missing_keys
    torch.testing.assert_close(adapted(images), plain(images))
    before = perturbed(adapted)(images)
    assert not torch.allclose(before, plain(images), atol=1e-3)
    names = set(dict(adapters.merge(adapted).named_parameters()))
    assert names == set(dict(plain.named_parameters()))
    torch.testing.assert_close(adapted(images), before)


@pytest.mark.parametrize(
    "options, ends, share",
    [
        ({"trainable": "adapters", "rank": 2}, ("attn.qkv.down.weight", "attn.proj.up.weight", "mlp.fc1.up.weight", "mlp.fc2.down.weight"), 0.1),
        ({"trainable": "bias"}, ("attn.qkv.bias", "norm1.bias", "patch_embed.proj.bias"), 0.03),
    ],
)
def test_a_small_share_is_trained(options, ends, share):
    pytest.importorskip("timm")
    model = make(name="test_vit", **options)
    trained = {name: parameter for name, parameter in model.trunk.named_parameters() if parameter.requires_grad}
    assert all(any(name.endswith(end) for name in trained) for end in ends)
    assert all(name.endswith((".down.weight", ".up.weight", "bias")) for name in trained)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert 0 < sum(parameter.numel() for parameter in trained.values()) < share * total
    spec = classifier.classifier_spec("timm", {"name": "test_vit", **options}, "linear", {}, 10, (0.5,) * 3, (0.5,) * 3)
    whole = classifier.build(spec, 0)
    count = sum(parameter.numel() for parameter in trained.values()) + 650
    assert share_trained(whole).startswith(f"{count:,} of {total + 650:,} parameters are trained, ")
    assert share_trained(nn.Linear(3, 2)) == ""


def test_a_network_without_such_layers_is_refused():
    pytest.importorskip("timm")
    told = "models.timm.trainable: adapters: resnet10t: got a network of 0 linear layers in attention and MLP, none of rank above 8"
    with pytest.raises(ValueError, match=told):
        make(name="resnet10t", trainable="adapters", image_size=32)
    with pytest.raises(ValueError, match="test_vit: got a network of 24 linear layers .*, none of rank above 64"):
        make(name="test_vit", trainable="adapters", rank=64)


@pytest.mark.parametrize("trainable", ["adapters", "bias"])
def test_the_stages_train_nothing_else(stages_in, tmp_path, capsys, trainable):
    pytest.importorskip("timm")
    weights = written(tmp_path / "vit.safetensors", make(name="test_vit", seed=1).trunk.state_dict())
    folder = stages_in(
        {"model": "timm", "models.timm.name": "test_vit", "models.timm.image_size": 32, "models.timm.trainable": trainable,
         "models.timm.rank": 2, "models.timm.weights": weights,
         "loss": "balanced_softmax", "imbalance": 50, "train.epochs": 1, "train.schedule": "constant", "train.lr": 0.01, "features.views": 1},
        "subsample", "base --seed 0", "features --seed 0", "retrain crt --seed 0",
    )
    assert "parameters are trained, " in capsys.readouterr().out
    base, _ = classifier.read_classifier(folder / "artifacts/base/0")
    own = make(name="test_vit", image_size=32, weights=weights).trunk.state_dict()
    state = {name.replace(".layer.", "."): tensor for name, tensor in base.backbone.trunk.state_dict().items()}
    moved = {name for name, tensor in state.items() if name in own and not torch.equal(tensor, own[name])}
    if trainable == "adapters":
        assert not moved and all(tensor.abs().max() > 0 for name, tensor in state.items() if name.endswith(".up.weight"))
    else:
        assert moved and all(name.endswith("bias") for name in moved)
    assert np.isfinite(np.load(folder / "artifacts/retrain/crt/0/test_logits.npy")).all()
