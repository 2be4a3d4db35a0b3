"""Embeddings as a data set: the forms they are read from, bad input, and the stages from the index to the xERM student."""

import os
import zipfile

import numpy as np
import pytest

from lt.datasets import embeddings
from lt.models import identity

CENTRES = np.random.RandomState(7).normal(size=(3, 4)) * [1, 1, 100, 1]


def make(counts=(40, 20, 10), seed=0, **arrays) -> dict[str, np.ndarray]:
    """Three classes of four features, one of a much larger scale, that a linear head tells apart."""
    labels = np.repeat(np.arange(3), counts)
    noise = np.random.RandomState(seed).normal(size=(len(labels), 4)) * [0.3, 0.3, 30, 0.3]
    return {"features": (CENTRES[labels] + noise).astype(np.float32), "labels": labels} | arrays


def save(tmp_path, form="npz", **arrays):
    """Writes the arrays; the options of the data set."""
    if form == "folder":
        path = tmp_path / "embeddings"
        path.mkdir()
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
    elif form == "parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        path = tmp_path / "embeddings.parquet"
        parquet.write_table(pa.table({name: list(array) for name, array in arrays.items()}), path)
    else:
        path = tmp_path / "embeddings.npz"
        np.savez(path, **arrays)
    return {"path": str(path)}


@pytest.mark.parametrize("form", ["npz", "folder", "parquet"])
def test_every_form_gives_the_same_parts(tmp_path, form):
    arrays = make()
    arrays["split"] = np.where(np.arange(70) % 5 == 0, "test", "train")
    options = save(tmp_path, form, **arrays)
    train, test = (embeddings.open_split(tmp_path / "data", part, **options) for part in ("train", "test"))
    is_test = arrays["split"] == "test"
    for part, chosen in ((train, ~is_test), (test, is_test)):
        assert np.array_equal(part.images, arrays["features"][chosen]) and part.images.dtype == np.float32
        assert part.labels.tolist() == arrays["labels"][chosen].tolist() and part.classes == ("0", "1", "2")
        assert part.image_size is None
    assert train.read(np.array([3, 0])).tolist() == train.images[[3, 0]].tolist()


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_labels_may_be_names(tmp_path, form):
    names = np.array(["cat", "ant", "bee"])
    train = embeddings.open_split(tmp_path, "train", **save(tmp_path, form, **make(labels=names[make()["labels"]])))
    assert train.classes == ("ant", "bee", "cat") and np.bincount(train.labels).tolist() == [16, 8, 32]


def test_a_test_part_is_carved_out_of_each_class(tmp_path):
    options = save(tmp_path, **make(counts=(10, 3, 1)))
    train, test = (embeddings.open_split(tmp_path, part, **options) for part in ("train", "test"))
    assert np.bincount(train.labels).tolist() == [8, 2, 1] and np.bincount(test.labels, minlength=3).tolist() == [2, 1, 0]
    both = np.concatenate([train.images, test.images])
    assert len(np.unique(both, axis=0)) == 14
    assert np.array_equal(embeddings.open_split(tmp_path, "test", **options).images, test.images)


def with_nan() -> np.ndarray:
    features = make()["features"].copy()
    features[[5, 9], 1] = np.nan
    return features


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"features": with_nan()}, r"features: got NaN, .* in 2 of 70 rows, the first of them \[5, 9\]"),
        ({"features": np.full((70, 4), 1e300)}, "infinite as float32, in 70 of 70 rows"),
        ({"features": np.zeros((70, 2, 2))}, r"features: got float64 \(70, 2, 2\), expected numbers \(N, D\)"),
        ({"features": np.array([["a"]] * 70)}, r"features: got <U1 \(70, 1\), expected numbers"),
        ({"features": np.array([[None]] * 70, dtype=object)}, "without objects, which would be unpickled"),
        ({"labels": np.zeros(69, dtype=int)}, r"labels: got shape \(69,\), expected \(70,\)"),
        ({"labels": np.full(70, 0.5)}, "labels: got float64, .* expected whole numbers from 0"),
        ({"labels": make()["labels"].astype("S")}, r"labels: got \|S\d+, expected whole numbers from 0, or names"),
        ({"labels": make()["labels"] - 1}, "least -1, expected whole numbers from 0"),
        ({"labels": make()["labels"] * 2}, r"no row to train on of 2 of 5 classes, 1 \(1\), 3 \(3\); labels must be without gaps"),
        ({"labels": make()["labels"] * 10**9}, "without gaps"),
        ({"classes": np.array(["a", "b"])}, "expected at least 3 names"),
        ({"classes": np.array(["a", "a", "b"])}, "classes: got .*none of them empty, none twice"),
        ({"classes": np.array(["", "a", "b"])}, "classes: got .*none of them empty, none twice"),
        ({"labels": np.array(["a", "b"] * 35), "classes": np.array(["a"])}, r"got \['b'\], which are not among the 1 names"),
        ({"labels": np.zeros(70, dtype=int)}, "got 1 classes in 70 rows, 14 of them to test on; expected at least two classes"),
        ({"labels": np.arange(70)}, "got 70 classes in 70 rows, 0 of them to test on"),
        ({"split": np.array(["val"] * 70)}, r"split: got \['val'\] \(70,\), expected 'train' or 'test'"),
        ({"split": np.array(["train"] * 70)}, "split: got 'train' alone"),
    ],
)
def test_bad_arrays_are_told(tmp_path, changes, told):
    with pytest.raises(ValueError, match=told):
        embeddings.open_split(tmp_path, "train", **save(tmp_path, **make() | changes))


def test_a_file_that_is_none_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"nothing.npz is missing; expected a .npz or .parquet file, or a folder"):
        embeddings.open_split(tmp_path, "train", path=str(tmp_path / "nothing.npz"))
    np.save(tmp_path / "one.npy", np.zeros((3, 2)))
    with pytest.raises(ValueError, match="of another kind than .npz and .parquet; put features.npy and labels.npy into a folder"):
        embeddings.open_split(tmp_path, "train", path=str(tmp_path / "one.npy"))
    for noise in (b"noise", b"PK\x03\x04 noise"):
        (tmp_path / "noise.npz").write_bytes(noise)
        with pytest.raises(ValueError, match="noise.npz: got "):
            embeddings.open_split(tmp_path, "train", path=str(tmp_path / "noise.npz"))
    for name in ("pipe.npz", "pipe.parquet"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match=f"{name}: got no regular file"):
            embeddings.open_split(tmp_path, "train", path=str(tmp_path / name))
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("features.npy", b"text")
    with pytest.raises(ValueError, match="text.npz: got no array in features"):
        embeddings.open_split(tmp_path, "train", path=str(tmp_path / "text.npz"))
    with pytest.raises(ValueError, match="holds no features"):
        embeddings.open_split(tmp_path, "train", **save(tmp_path, labels=np.zeros(3)))


@pytest.mark.parametrize("features", [[1.0, 2.0, 3.0], [[1.0], [2.0], None], [[], [], []], ["a", "b", "c"]])
def test_a_column_that_is_no_table_of_numbers_is_told(tmp_path, features):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"features": features, "labels": [0, 1, 1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="a.parquet: features: got 3 rows of widths .*, expected lists of one width"):
        embeddings.open_split(tmp_path, "train", path=str(tmp_path / "a.parquet"))


def test_another_width_names_both():
    import torch

    with pytest.raises(ValueError, match=r"got \(2, 5\), width 5, expected \(B, 4\), the width of the base model"):
        identity.make(width=4)(torch.zeros(2, 5))


STAGES = (
    "check", "subsample", "base --seed 0", "features --seed 0", "retrain pc --seed 0", "retrain crt --seed 0", "retrain ncm --seed 0",
    "retrain lws --seed 0", "distill pc --seed 0", "evaluate xerm_pc",
)
CHANGES = {
    "dataset": "embeddings", "model": "identity", "augment": "none", "train.epochs": 0, "subset.profile": "none",
    "features.views": 1, "methods.crt.steps": None,
}


def test_the_stages_from_the_index_to_the_student(stages_in, tmp_path, capsys):
    path = save(tmp_path, **make(counts=(200, 40, 10)))["path"]
    changes = CHANGES | {"datasets.embeddings.path": path}
    folder = stages_in(changes, "index embeddings", *STAGES)
    assert "embeddings of width 4" in capsys.readouterr().out
    clean = np.load(folder / "artifacts/features/0/clean.npy")
    assert np.allclose(clean.mean(0), 0, atol=1e-5) and np.allclose(clean.std(0), 1, atol=1e-5)
    labels = np.load(folder / "artifacts/data/test_labels.npy")
    for row in ("base", "retrain/pc", "retrain/crt", "retrain/ncm", "retrain/lws", "distill/pc"):
        logits = np.load(folder / f"artifacts/{row}/0/test_logits.npy")
        assert logits.shape == (50, 3) and np.mean(logits.argmax(1) == labels) > 0.8, row
    with pytest.raises(ValueError, match="row pc: dataset embeddings holds embeddings; there is no network here"):
        stages_in(changes, f"predict --row pc {folder}/params.yaml")
    before = {path: path.read_bytes() for path in (folder / "artifacts/base/0").iterdir()}
    stages_in(changes, "base --seed 0")
    assert before == {path: path.read_bytes() for path in (folder / "artifacts/base/0").iterdir()}


def test_embeddings_of_another_width_than_the_base_model_are_refused(stages_in, tmp_path):
    narrow = {name: array[:, :3] if name == "features" else array for name, array in make(counts=(200, 40, 10)).items()}
    with pytest.raises(ValueError, match=r"width 3, expected \(B, 4\)"):
        stages_in(CHANGES | {"datasets.embeddings.path": save(tmp_path, **narrow)["path"]}, "index embeddings", "features --seed 0")


def test_methods_that_train_a_backbone_have_none(stages_in, tmp_path):
    path = save(tmp_path, **make(counts=(200, 40, 10)))["path"]
    changes = CHANGES | {"datasets.embeddings.path": path, "methods.dro_lt": {}}
    with pytest.raises(ValueError, match="this method trains the backbone, and dataset 'embeddings' holds embeddings"):
        stages_in(changes, "index embeddings", "features --seed 0", "retrain dro_lt --seed 0")


def test_settings_that_need_images_are_told_at_once(stages_in):
    from lt.core.params import ParamsError

    changes = CHANGES | {"model": "resnet8", "augment": "crop", "train.epochs": 1, "train.warmup_epochs": 0}
    with pytest.raises(ParamsError) as error:
        stages_in(changes, "check")
    for line in ("model: got 'resnet8', expected 'identity'", "augment: got 'crop'", "train.epochs: got 1, expected 0"):
        assert line in str(error.value)
