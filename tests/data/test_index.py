"""The index of the raw files: deterministic, complete, and strict about data that differ from it."""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from lt.core import params
from lt.data.index import RawDataError
from lt.data import dataset, index
from stages import index as stage
from tests.data.test_datasets import PROJECT, needs_cifar100
from tests.data.test_folder import fill, save

OPTIONS = {"path": "data/folder"}


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A project with a small folder data set and its index, as the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    fill(tmp_path, {"cat": 3, "dog": 2})
    index.write(index.make("folder", index.data_root(), OPTIONS))
    return tmp_path / "data"


def folder_settings(**changes) -> params.Settings:
    content = params.read_yaml(PROJECT / "params.yaml") | {"dataset": "folder", "imbalance": 1.0} | changes
    content["datasets"] = {"digits": {}, "cifar100": {}, "folder": {"image_size": 4}}
    return params.Settings.model_validate(content)


def test_index_lists_every_file_with_size_and_sha256(root):
    content = json.loads((root / "folder.json").read_text())
    paths = [f"train/cat/{i:03d}.png" for i in range(3)] + [f"train/dog/{i:03d}.png" for i in range(2)]
    assert content["dataset"] == "folder" and [file["path"] for file in content["files"]] == paths
    for file in content["files"]:
        data = (root / "folder" / file["path"]).read_bytes()
        assert file["size"] == len(data) and file["sha256"] == hashlib.sha256(data).hexdigest()
    before = (root / "folder.json").read_bytes()
    index.write(index.make("folder", root, OPTIONS))
    assert (root / "folder.json").read_bytes() == before and before.count(b"\n") == 7


def test_data_as_indexed_pass(root):
    index.verify("folder", index.data_root(), OPTIONS)
    assert dataset.open_dataset(folder_settings(), "train").images.shape == (3, 4, 4, 3)


def test_all_differences_are_told_at_once(root):
    train = root / "folder/train"
    (train / "cat/000.png").unlink()
    save(train / "dog/new.png")
    data = bytearray((train / "cat/001.png").read_bytes())
    data[-1] ^= 1
    (train / "cat/001.png").write_bytes(data)
    with pytest.raises(RawDataError) as error:
        dataset.open_dataset(folder_settings(), "train")
    for line in ("3 differences", "missing: train/cat/000.png", "extra: train/dog/new.png", "changed: train/cat/001.png"):
        assert line in str(error.value)
    assert str(error.value).endswith("python -m stages.index folder")


def test_of_many_differences_ten_are_shown(root):
    fill(root.parent, {"eel": 14})
    with pytest.raises(RawDataError) as error:
        index.verify("folder", root, OPTIONS)
    assert "14 differences" in str(error.value) and "... and 4 more" in str(error.value)
    assert str(error.value).count("extra: ") == 10


def test_a_quick_check_of_much_data_compares_sizes_only(root, monkeypatch):
    changed = root / "folder/train/cat/001.png"
    data = bytearray(changed.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    monkeypatch.setattr(index, "QUICK_BYTES", 10)
    index.verify("folder", root, OPTIONS, full=False)
    with pytest.raises(RawDataError, match="changed: train/cat/001.png"):
        index.verify("folder", root, OPTIONS, full=True)
    changed.write_bytes(data + b"0")
    with pytest.raises(RawDataError, match="changed: train/cat/001.png"):
        index.verify("folder", root, OPTIONS, full=False)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, r"data/folder\.json is missing.*`python -m stages\.index folder`"),
        ('{"dataset": "digits", "files": []}', "is the index of 'digits'"),
        ('{"dataset": "folder", "files": [{"path": "a"}]}', "is not an index of raw data"),
        ("[]", "is not an index of raw data"),
        (json.dumps({"dataset": "folder", "files": [{"path": "a", "size": 1, "sha256": "0"}] * 2}), "lists a file twice"),
    ],
)
def test_a_missing_or_wrong_index_names_the_command(root, content, message):
    (root / "folder.json").unlink()
    if content is not None:
        (root / "folder.json").write_text(content)
    with pytest.raises(RawDataError, match=message):
        dataset.open_dataset(folder_settings(), "train")


def test_an_unknown_data_set_gets_the_valid_names(root):
    with pytest.raises(ValueError, match="expected one of lt/datasets: cifar10, .*, places_lt; nearest: 'digits'"):
        index.make("digit", root, {})


def test_images_that_cannot_be_decoded_never_get_an_index(root, monkeypatch):
    for name in ("cat", "dog"):
        (root / f"folder/train/{name}/bad.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"(?s)2 images cannot be decoded.*cat/bad\.png.*dog/bad\.png"):
        index.make("folder", root, OPTIONS)


def test_a_temporary_workspace_reads_its_own_index_and_the_project_s_images(root, tmp_path, monkeypatch):
    copy = tmp_path / "temporary"
    (copy / "data").mkdir(parents=True)
    (copy / "data/folder.json").write_bytes((root / "folder.json").read_bytes())
    monkeypatch.chdir(copy)
    with pytest.raises(ValueError, match="train is no folder"):
        dataset.open_dataset(folder_settings(), "train")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (root / "folder.json").unlink()
    assert index.data_root() == root and len(dataset.open_dataset(folder_settings(), "test").labels) == 2


def test_tracked_index_of_digits_fits_the_installed_file():
    index_of_project = json.loads((PROJECT / "data/digits.json").read_text())
    assert index.make("digits", PROJECT / "data", {}) == index_of_project


@needs_cifar100
def test_tracked_index_of_cifar100_fits_the_official_files(monkeypatch):
    monkeypatch.chdir(PROJECT)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert len(index.read("cifar100")) == 3
    index.verify("cifar100", index.data_root(), {})


def test_absent_cifar_names_the_missing_files_and_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cifar100.json").write_bytes((PROJECT / "data/cifar100.json").read_bytes())
    with pytest.raises(RawDataError, match=r"(?s)missing: cifar-100-python/meta.*download.*python -m stages\.index cifar100"):
        dataset.open_dataset(folder_settings(dataset="cifar100"), "train")


def test_stage_counts_and_writes(root, monkeypatch, capsys):
    monkeypatch.setattr(params, "load", folder_settings)
    monkeypatch.setattr(sys, "argv", ["index", "folder"])
    (root / "folder.json").unlink()
    stage.main()
    out = capsys.readouterr().out
    assert "train: 3 images of 4 x 4 (datasets.folder.image_size), 2 classes of 1 to 2 images" in out and "data/folder.json: 5 files" in out
    index.verify("folder", root, OPTIONS)
    assert os.stat(root / "folder.json").st_mode & 0o777 == 0o644
    assert np.bincount(dataset.open_dataset(folder_settings(), "test", check="none").labels).tolist() == [1, 1]
