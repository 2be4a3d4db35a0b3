"""Manifests: what belongs to an artifact, that damage is told with its mending, and that damage is not believed."""

import json
import os

import numpy as np
import pytest
import torch
from torch import nn

from lt.core import artifacts, manifest
from lt.core.artifacts import ArtifactError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """artifacts/retrain/crt/0 with one file of each kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LT_VERIFY", raising=False)
    place = artifacts.stage_dir("retrain", "crt", 0)
    with artifacts.writing(place) as part:
        artifacts.write_json(part / "row.json", {"logit_prior": [0.5, 0.5]})
        artifacts.write_array(part / "logits.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
        artifacts.write_weights(part / "weights.safetensors", nn.Linear(2, 1))
        artifacts.write_log(part / "log.csv", [{"step": 1, "loss": 0.5}])
    return place


READERS = {
    "row.json": artifacts.read_json,
    "logits.npy": lambda path: artifacts.read_array(path, mmap=True),
    "weights.safetensors": lambda path: artifacts.read_weights(path, nn.Linear(2, 1)),
    "log.csv": artifacts.read_log,
}


def flip(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_it_lists_every_file_with_its_size_hash_shape_and_dtype(folder):
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert set(files) == set(READERS)
    assert all(files[name]["bytes"] == (folder / name).stat().st_size for name in files)
    assert files["logits.npy"]["shape"] == [2, 3] and files["logits.npy"]["dtype"] == "float32"
    assert "shape" not in files["log.csv"]


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit_is_told_with_the_commands_that_mend_it(folder, name):
    READERS[name](folder / name)
    flip(folder / name, -2)
    with pytest.raises(ArtifactError) as error:
        READERS[name](folder / name)
    assert str(error.value).startswith(f"{folder / name} is damaged: its sha256")
    for part in ( f"dvc checkout --force {folder}", "dvc repro --force --single-item retrain@crt-0"):
        assert part in str(error.value)


@pytest.mark.parametrize("change, told", [(os.unlink, "got nothing"), (lambda path: os.truncate(path, 3), "got 3 bytes")])
def test_a_file_of_the_folder_that_is_gone_or_cut_is_told_by_the_reader_of_any_other(folder, change, told):
    change(folder / "weights.safetensors")
    with pytest.raises(ArtifactError, match=f"weights.safetensors is damaged: {told}"):
        artifacts.read_json(folder / "row.json")


def test_a_file_that_does_not_belong_to_the_folder_is_not_read(folder):
    artifacts.write_json(folder / "other.json", {})
    with pytest.raises(ArtifactError, match="other.json is damaged: it is not in .*manifest.json"):
        artifacts.read_json(folder / "other.json")


def test_an_artifact_without_a_manifest_is_refused_and_other_folders_need_none(folder, monkeypatch, tmp_path):
    (folder / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="artifacts/retrain/crt/0 has no manifest.json: an older version .*: dvc repro retrain@crt-0 .*LT_VERIFY=0"):
        artifacts.read_json(folder / "row.json")
    artifacts.write_json(tmp_path / "other.json", {})
    artifacts.read_json(tmp_path / "other.json")
    with pytest.raises(ArtifactError, match="artifacts/base/7/row.json is missing; run the stage"):
        artifacts.read_json(artifacts.stage_dir("base", 7) / "row.json")
    monkeypatch.setenv("LT_VERIFY", "0")
    artifacts.read_json(folder / "row.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": []}', b'{"files": {"row.json": {"bytes": "1"}}}', b"\xff"])
def test_a_damaged_manifest_is_told(folder, content):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError, match="manifest.json is damaged: .*dvc checkout"):
        artifacts.read_json(folder / "row.json")


def test_a_file_is_hashed_once_and_not_at_all_where_that_is_switched_off(folder, monkeypatch):
    hashed, plain = [], manifest.sha256
    monkeypatch.setattr(manifest, "sha256", lambda path: hashed.append(path.name) or plain(path))
    for _ in range(3):
        artifacts.read_json(folder / "row.json")
    assert hashed == ["row.json"]
    monkeypatch.setenv("LT_VERIFY", "0")
    artifacts.read_log(folder / "log.csv")
    assert hashed == ["row.json"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_told_where_they_are_and_not_written(value, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "CHUNK", 4)  # found in any part of a large array
    with artifacts.writing(tmp_path / "0") as part:
        artifacts.write_text(part / "old.txt", "old")
    array = np.zeros((3, 5), np.float16)
    array[2, 1] = value
    with pytest.raises(ArtifactError, match=r"a.npy: got .* at \(2, 1\), expected finite numbers"), artifacts.writing(tmp_path / "0") as part:
        artifacts.write_array(part / "a.npy", array)
    assert (tmp_path / "0/old.txt").is_file()
    weights = nn.Linear(2, 1)
    torch.nn.init.constant_(weights.bias, value)
    with pytest.raises(ArtifactError, match="w.safetensors: got NaN or infinity in bias"):
        artifacts.write_weights(tmp_path / "w.safetensors", weights)


@pytest.mark.slow
@pytest.mark.pipeline
def test_the_commands_of_the_message_mend_what_is_damaged(project):
    logits = project.folder / "artifacts/base/0/test_logits.npy"
    project.dvc("repro", "base@0")
    good = logits.read_bytes()

    def told():
        done = project.run("python", "-m", "stages.evaluate", "base", ok=False)
        assert done.returncode == 1 and "test_logits.npy is damaged" in done.stderr
        return done.stderr

    flip(logits)
    first, second = told().split("dvc checkout ")[1].split(";")[0], "chmod -R u+w .dvc/cache/files && dvc repro --force --single-item base@0"
    project.dvc("checkout", *first.split())
    assert logits.read_bytes() == good

    (cached,) = (path for path in project.folder.glob(".dvc/cache/files/md5/*/*") if path.read_bytes() == good)
    cached.chmod(0o644)
    flip(cached)
    cached.chmod(0o444)
    logits.parent.joinpath("log.csv").unlink()
    project.dvc("checkout", *first.split())
    logits.unlink()
    project.dvc("checkout", *first.split())
    assert logits.read_bytes() != good  # DVC believes its cache
    assert second in told()
    project.run("sh", "-c", second)
    assert logits.read_bytes() == cached.read_bytes() == good
