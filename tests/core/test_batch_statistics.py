"""Batch-norm statistics of the frozen backbone: what each method names, who is refused, and of which batches they are the mean."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from lt.check import mistakes
from lt.core import batch_statistics, params
from lt.core.plugins import names
from lt.features import recalibrate
from tests.conftest import ROOT

NAMED = {
    "balanced_softmax": "natural", "balms": "mixture", "crt": "balanced", "dro_lt": None, "longtail_da": "natural",
    "lws": "balanced", "meta_reweighter": "mixture", "ncm": "frozen", "pc": "frozen", "tau_norm": "frozen", "tde": "frozen",
}  # fmt: skip


def test_every_method_names_its_statistics():
    found = {name: batch_statistics.of_method(name, {}) for name in names("methods")}
    assert {name: found[name] for name in NAMED} == NAMED  # what is added to these is its author's to say
    assert batch_statistics.of_method("crt", {"sampling": "instance"}) == "natural"
    assert batch_statistics.of_method("balanced_softmax", {"sampling": "class_balanced"}) == "balanced"


def test_a_method_that_names_none_is_told(monkeypatch, tmp_path):
    (tmp_path / "new.py").write_text("def fit(inputs, *, steps: Count = 1):\n    pass\n")
    monkeypatch.setattr(batch_statistics, "path_of", lambda kind, name: tmp_path / "new.py")
    with pytest.raises(ValueError, match=r"new.py: no STATISTICS; .* frozen, natural, balanced, mixture"):
        batch_statistics.of_method("new", {})
    assert batch_statistics.mistakes("frozen", {"new": None}) == []


@pytest.mark.parametrize("bn", [f"recalibrate_{statistics}" for statistics in batch_statistics.CYCLES])
def test_only_methods_with_these_statistics_are_let_through(bn, tmp_path):
    content = params.read_yaml(ROOT / "params.yaml") | {"teachers": {}, "report": {"row": "base"}}
    content["features"]["bn"] = bn
    path = tmp_path / "params.yaml"

    def load(methods):
        path.write_text(yaml.safe_dump(content | {"methods": dict.fromkeys(methods, {})}))
        return mistakes.load(path)

    fitting = [name for name, named in NAMED.items() if named in (None, bn.removeprefix("recalibrate_"))]
    assert list(load(fitting).methods) == fitting
    for other in NAMED.keys() - {*fitting, "tde"}:
        with pytest.raises(params.ParamsError, match=f"1 mistake; .*\n.*features.bn: got '{bn}', but methods.{other} wants"):
            load([*fitting, other])


class Brightness(nn.Module):
    """The batch norm of an image's mean value."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def features(self, images):
        return self.norm(images.mean((1, 2, 3))[:, None])


@pytest.mark.parametrize("statistics, share", [("natural", 0.1), ("balanced", 0.5), ("mixture", (0.1 + 0.5 + 0.1) / 3)])
def test_statistics_are_those_of_the_batches_that_are_named(statistics, share):
    labels = np.repeat([0, 1], [5400, 600])
    images = torch.from_numpy(labels).mul(255).byte()[:, None, None, None].expand(-1, 3, 2, 2)
    subset = SimpleNamespace(counts=np.array([5400, 600]), train_labels=labels)
    part = SimpleNamespace(images=images, labels=torch.from_numpy(labels), subset=subset)
    model = Brightness()
    recalibrate(model, part, lambda images, keys: images, statistics, batch_size=100, seed=0)
    assert model.norm.running_mean.item() == pytest.approx(share, abs=0.02)


def test_a_mixture_has_a_whole_cycle_however_few_images_there_are():
    labels = np.array([0, 0, 1])
    part = SimpleNamespace(
        images=torch.zeros(3, 3, 2, 2, dtype=torch.uint8), labels=torch.from_numpy(labels),
        subset=SimpleNamespace(counts=np.array([2, 1]), train_labels=labels),
    )  # fmt: skip
    model = Brightness()
    recalibrate(model, part, lambda images, keys: images, "mixture", batch_size=64, seed=0)
    assert model.norm.num_batches_tracked == 3
