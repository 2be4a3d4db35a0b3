"""What the drawn data and the machine do not allow is told before anything is deleted."""

import json
import shutil

import numpy as np
import pytest

from lt.check import feasible
from lt.core import artifacts, params
from lt.core.files import sha256
from tests.conftest import ROOT


@pytest.fixture
def content(tmp_path, monkeypatch):
    """The shipped params in a folder where two classes of six images in all are drawn, and base and features of seed 0 are there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    shutil.copy(ROOT / "data/digits.json", "data")
    index = sha256(artifacts.Path("data/digits.json"))
    facts = {
        "dataset": "digits", "raw_sha256": index, "classes": ["a", "b"], "train_size": 6, "image_size": 8, "counts": [4, 2], "drawn": [4, 2],
        "val_size": 0, "test_size": 2, "profile": "exp", "imbalance": 2.0, "val_fraction": 0.0, "seed": 0, "sha256": "0", "mean": [0.5] * 3,
        "std": [0.5] * 3, "val_part": "train",
    }
    with artifacts.writing(artifacts.stage_dir("data")) as folder:
        artifacts.write_json(folder / "subset.json", facts)
    with artifacts.writing(artifacts.stage_dir("base", 0)) as folder:
        artifacts.write_json(folder / "row.json", {"classifier": {"model": {"name": "resnet8"}}})
    with artifacts.writing(artifacts.stage_dir("features", 0)) as folder:
        artifacts.write_array(folder / "clean.npy", np.zeros((6, 64), np.float32))
    return params.read_yaml(ROOT / "params.yaml")


def test_the_shipped_params_are_feasible(content):
    assert feasible.mistakes(content) == []


@pytest.mark.parametrize(
    "key, value, told",
    [
        ("methods.pc.target_prior", [0.5, 0.25, 0.25], "methods.pc.target_prior: got 3 numbers that sum to 1, expected 2"),
        ("methods.pc.target_prior", [0.5, 0.4], "got 2 numbers that sum to 0.9, expected 2"),
        ("methods.pc.target_prior", [1, 0], "expected numbers above 0"),
        ("methods.pc.target_prior", ["a", None], "expected numbers above 0"),
        ("features.views", 10**9, r"features.views: 1000000000 views of 6 images, 64 numbers wide, take 1430.5 GiB"),
        ("methods.crt.batch_size", 10**9, r"methods.crt.batch_size: one batch of 1000000000 takes 238.4 GiB"),
    ],
)
def test_what_is_not_is_told(content, key, value, told, monkeypatch):
    monkeypatch.setattr(feasible.os, "sysconf", lambda name: 2**15)  # a GiB of memory
    monkeypatch.setattr(feasible.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(0, 0, 2**30))
    *blocks, last = key.split(".")
    params.at(content, ".".join(blocks))[last] = value
    (line,) = feasible.mistakes(content)
    assert line.startswith(key) and told in line


def test_a_prior_of_the_selected_loss_is_looked_at_and_those_of_others_are_not(content):
    content["losses"]["bayias"]["test_prior"] = [1.0]
    assert feasible.mistakes(content) == []
    assert "losses.bayias.test_prior: got 1 numbers" in feasible.mistakes(content | {"loss": "bayias"})[0]


@pytest.mark.parametrize("spoil", ["other data set", "other index", "damaged", "of another shape", "missing"])
def test_data_that_are_not_those_of_the_params_refuse_nothing(content, spoil):
    content["methods"]["pc"]["target_prior"] = [1.0]
    path = artifacts.stage_dir("data") / "subset.json"
    if spoil == "other data set":
        content["dataset"] = "cifar100"
    elif spoil == "other index":
        artifacts.Path("data/digits.json").write_text("{}")
    elif spoil == "damaged":
        path.write_text(json.dumps({"dataset": "digits"}))
    elif spoil == "of another shape":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"image_size": "8"}))
    else:
        path.unlink()
    assert feasible.mistakes(content) == []


def test_a_manifest_with_a_size_that_nothing_has_is_left_to_those_who_read_it(content):
    path = artifacts.stage_dir("features", 0) / "manifest.json"
    listed = json.loads(path.read_text())
    listed["files"]["clean.npy"]["shape"][1] = 1e308
    path.write_text(json.dumps(listed))
    assert feasible.mistakes(content) == []
