"""The long-tailed draw: the counts and positions that the literature uses, the validation part, and the artifact."""

import hashlib
import json
import sys

import numpy as np
import pytest

from lt.core import artifacts, params
from lt.core.artifacts import ArtifactError
from lt.core.counts import shot_groups
from lt.core.subset import index_sha256, read_subset, write_subset
from lt.data.split import Split
from lt.subsample import carve, draw, make, profile
from stages import subsample
from tests.data.test_datasets import PROJECT, needs_cifar100


def split(counts: list[int], images: int = 4) -> Split:
    labels = np.repeat(np.arange(len(counts)), counts)
    classes = tuple(f"class {c}" for c in range(len(counts)))
    shape = (len(labels), images, images, 3)
    return Split(np.zeros(shape, dtype=np.uint8), labels, classes, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))


def subset_of(train: Split, test: Split | None = None, **changes):
    settings = {"kind": "exp", "imbalance": 10, "seed": 0, "val_fraction": 0.0, "raw_sha256": "f" * 64} | changes
    return make("made", train, test or split([3] * len(train.classes)), **settings)


def test_a_reserve_is_never_drawn():
    train = split([500] * 100)
    subset = subset_of(train, imbalance=100, reserve=10)
    assert subset.counts[[0, -1]].tolist() == [490, 4] and subset.counts.sum() == 10626  # Longtail_DA's numbers
    whole = subset_of(train, imbalance=100)
    assert np.isin(subset.train_index, whole.train_index).all() and len(whole.train_index) == 10847
    assert (500 - np.bincount(train.labels[np.union1d(subset.train_index, subset.val_index)]) >= 10).all()
    with pytest.raises(ValueError, match="subset.reserve: got 30, expected less than the smallest class of made has, 30"):
        subset_of(split([30, 30]), reserve=30)


@pytest.mark.parametrize(
    "imbalance, expected",
    [
        (10, [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500]),
        (50, [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100]),
        (100, [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]),
        (200, [5000, 2775, 1540, 854, 474, 263, 146, 81, 45, 25]),
    ],
)
def test_cifar10_counts(imbalance, expected):
    assert profile("exp", np.full(10, 5000), imbalance).tolist() == expected


@pytest.mark.parametrize(
    "classes, imbalance, total, groups",
    [
        (10, 10, 20431, (10, 0, 0)), (100, 10, 19573, (69, 31, 0)),
        (10, 50, 13996, (9, 1, 0)), (100, 50, 12608, (41, 41, 18)),
        (10, 100, 12406, (8, 2, 0)), (100, 100, 10847, (35, 35, 30)),
        (10, 200, 11203, (7, 3, 0)), (100, 200, 9502, (30, 31, 39)),
    ],
)
def test_cifar_totals_and_shot_groups(classes, imbalance, total, groups):
    counts = profile("exp", np.full(classes, 50000 // classes), imbalance)
    assert counts.sum() == total
    assert tuple(int(mask.sum()) for mask in shot_groups(counts).values()) == groups


@pytest.mark.parametrize("classes, head, totals", [
    (100, 490, (19183, 15594, 12354, 10626, 9304)), (10, 4990, (20391, 16989, 13967, 12380, 11177)),
    (100, 100, (3876, None, 2486, 2131, None)),  # the test part at the imbalance of the training part
])
def test_totals_from_other_largest_classes(classes, head, totals):
    for imbalance, total in zip((10, 20, 50, 100, 200), totals):
        if total is not None:
            assert profile("exp", np.full(classes, head), imbalance).sum() == total


@pytest.mark.parametrize(
    "imbalance, sha", [(10, "7f990766cbb5e57b"), (50, "8f43f6eb10ed026f"), (100, "a86899e02756da51"), (200, "7b521240327ba674")]
)
def test_every_cifar100_count(imbalance, sha):
    counts = profile("exp", np.full(100, 500), imbalance)
    assert hashlib.sha256(",".join(map(str, counts)).encode()).hexdigest()[:16] == sha


def test_draw_of_three_small_classes():
    assert draw(np.repeat([0, 1, 2], 6), np.array([6, 3, 1]), seed=0).tolist() == [5, 2, 1, 3, 0, 4, 7, 9, 10, 15]


def test_draw_of_cifar10_at_100():
    counts = profile("exp", np.full(10, 5000), 100)
    index = draw(np.arange(50000) % 10, counts, seed=0)
    assert index.dtype == np.int64 and len(index) == 12406
    assert index[:3].tolist() == [3980, 38330, 48360] and index[4999] == 27320
    assert index[-50:-47].tolist() == [22049, 38169, 22069] and index[-1] == 11629
    assert index_sha256(index) == "563055e23a86ca16a1817853b5083e2cc07118f9307ecc8082d4fcdc922f6f6b"


def test_draw_of_cifar100_at_100():
    index = draw(np.arange(50000) % 100, profile("exp", np.full(100, 500), 100), seed=0)
    assert index[:3].tolist() == [9000, 25400, 28300] and index[-5:].tolist() == [34899, 15399, 36399, 36199, 29999]
    assert index_sha256(index) == "7ebcb6242d814b39233926ff2bf7384134fe218439f2616771d2a54baec405cb"


def test_draw_leaves_the_global_random_state_alone():
    before = np.random.get_state()[1].copy()
    first = draw(np.repeat([0, 1], 50), np.array([20, 5]), seed=3)
    assert np.array_equal(np.random.get_state()[1], before)
    assert not np.array_equal(first, draw(np.repeat([0, 1], 50), np.array([20, 5]), seed=4))


@pytest.mark.parametrize("labels, counts", [([0, 0, 1], [2, 2]), ([0, 1, 2], [1, 1])])
def test_draw_refuses_what_is_not_there(labels, counts):
    with pytest.raises(ValueError, match="expected at most what each class has"):
        draw(np.array(labels), np.array(counts), seed=0)


@needs_cifar100
def test_draw_of_the_real_cifar100_is_that_of_the_reference(monkeypatch):
    from lt.datasets import cifar100

    labels = cifar100.open_split(PROJECT / "data", "train").labels
    counts = profile("exp", np.full(100, 500), 100)
    np.random.seed(0)  # what the reference does, with numpy's global state
    expected = []
    for c in range(100):
        positions = np.where(labels == c)[0]
        np.random.shuffle(positions)
        expected += positions[: counts[c]].tolist()
    index = draw(labels, counts, seed=0)
    assert index.tolist() == expected
    assert index_sha256(index) == "e0d58a4d2700c46062da852554e5d185bbee74d3c612b052ea2a839bdadf939e"


def test_carve_takes_the_share_of_each_class_and_leaves_one():
    labels = np.repeat([0, 1, 2, 3], [20, 5, 2, 1])
    index = np.arange(100, 128)
    train, val = carve(index, labels, 0.2)
    assert np.bincount(labels[train - 100]).tolist() == [16, 4, 1, 1] and np.bincount(labels[val - 100]).tolist() == [4, 1, 1]
    assert train.tolist() == [*range(100, 116), *range(120, 124), 125, 127] and val.tolist() == [116, 117, 118, 119, 124, 126]
    train, val = carve(index, labels, 0.99)
    assert np.bincount(labels[train - 100]).tolist() == [1, 1, 1, 1] and len(val) == 24
    assert carve(index, labels, 0.0)[0].tolist() == index.tolist() and len(carve(index, labels, 0.0)[1]) == 0


def test_counts_are_those_of_the_training_part():
    subset = subset_of(split([100] * 3), val_fraction=0.25)
    assert subset.drawn.tolist() == [100, 31, 10] and subset.counts.tolist() == [75, 23, 8]
    assert np.bincount(subset.val_labels).tolist() == [25, 8, 2]
    assert not set(subset.train_index) & set(subset.val_index)
    assert np.array_equal(np.sort([*subset.train_index, *subset.val_index]), np.sort(subset_of(split([100] * 3)).train_index))
    assert subset.sha256 == index_sha256(subset.train_index) != subset_of(split([100] * 3)).sha256


@pytest.mark.parametrize("kind", ["exp", "step"])
def test_a_profile_of_imbalanced_data_is_refused(kind):
    with pytest.raises(ValueError, match=r"49 to 100 images per class.*-S subset\.profile=none"):
        subset_of(split([100, 80, 49]), kind=kind)
    assert subset_of(split([100, 80, 50]), kind=kind).counts.max() == 50


def test_profile_none_takes_everything_and_measures_the_imbalance():
    subset = subset_of(split([2, 100, 25]), kind="none", imbalance=7)
    assert subset.counts.tolist() == [2, 100, 25] and subset.imbalance == 50
    assert sorted(subset.train_index) == list(range(127))


def test_parts_with_other_classes_are_refused():
    with pytest.raises(ValueError, match="in test, expected the same in both"):
        subset_of(split([10, 10]), split([5, 5, 5]))


def test_artifact_comes_back_as_written(tmp_path):
    subset = subset_of(split([30, 30], images=6), val_fraction=0.1)
    write_subset(tmp_path, subset)
    back = read_subset(tmp_path)
    for name, value in vars(subset).items():
        assert type(getattr(back, name)) is type(value) and np.array_equal(getattr(back, name), value), name
    assert json.loads((tmp_path / "subset.json").read_text())["test_size"] == 6 and back.image_size == 6
    assert {path.name for path in tmp_path.iterdir()} == {
        "subset.json", "train_index.npy", "train_labels.npy", "val_index.npy", "val_labels.npy", "test_labels.npy",
    }


@pytest.mark.parametrize(
    "name, edit, message",
    [
        ("train_labels", None, "train_labels.npy is missing"),
        ("train_labels", lambda labels: labels * 0, "do not have the counts"),
        ("test_labels", lambda labels: labels + 1, "labels 0 to 2, expected 0 to 1"),
        ("train_index", lambda index: index[::-1], "does not have the sha256"),
        ("val_index", lambda index: index[:-1], r"val_index.npy: got shape \(3,\), expected \(4,\)"),
        ("train_index", lambda index: index.astype(np.int32), "got dtype int32, expected int64"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, name, edit, message):
    write_subset(tmp_path, subset_of(split([30, 30]), val_fraction=0.1))
    path = tmp_path / f"{name}.npy"
    array = np.load(path)
    path.unlink()
    if edit:
        np.save(path, edit(array))
    with pytest.raises(ArtifactError, match=message):
        read_subset(tmp_path)


@pytest.mark.parametrize("old, new", [("seed", "seeed"), ("test_size", "size"), ("classes", "names")])
def test_facts_under_other_names_are_refused(tmp_path, old, new):
    write_subset(tmp_path, subset_of(split([30, 30])))
    facts = json.loads((tmp_path / "subset.json").read_text())
    facts[new] = facts.pop(old)
    (tmp_path / "subset.json").write_text(json.dumps(facts))
    with pytest.raises(ArtifactError, match=rf"subset.json: {old}: got nothing"):
        read_subset(tmp_path)


def demo_settings(**changes) -> params.Settings:
    content = params.read_yaml(PROJECT / "params.yaml") | {"dataset": "digits", "imbalance": 50.0}
    content["subset"] = {"profile": "exp", "seed": 0, "val_fraction": 0.0} | changes
    return params.Settings.model_validate(content)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A project folder with the tracked index of digits, as the working directory."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/digits.json").write_bytes((PROJECT / "data/digits.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(params, "load", demo_settings)
    monkeypatch.setattr(sys, "argv", ["subsample"])
    return tmp_path


def test_stage_writes_the_same_bytes_again(workspace, capsys):
    subsample.main()
    files = sorted(artifacts.stage_dir("data").iterdir())
    before = [path.read_bytes() for path in files]
    subsample.main()
    assert [path.read_bytes() for path in sorted(artifacts.stage_dir("data").iterdir())] == before and len(files) == 7
    lines = capsys.readouterr().out.splitlines()
    subset = read_subset()
    assert lines[0] == lines[1] and len(lines) == 2
    assert subset.sha256[:12] in lines[0] and "124 80 51 33 21 14 9 5 3 2" in lines[0]
    assert subset.counts.tolist() == [124, 80, 51, 33, 21, 14, 9, 5, 3, 2] and subset.image_size == 8
    assert subset.raw_sha256 == hashlib.sha256((workspace / "data/digits.json").read_bytes()).hexdigest()


def test_stage_that_fails_leaves_no_artifact(workspace, monkeypatch):
    (workspace / "data/digits.json").unlink()
    with pytest.raises(ValueError, match=r"data/digits\.json is missing.*python -m stages\.index digits"):
        subsample.main()
    assert not artifacts.stage_dir("data").exists()


def test_summary_shortens_many_classes():
    line = subsample.summary(subset_of(split([500] * 100), split([1] * 100), imbalance=100))
    assert "100 classes of 500 477 455 434 415 ... 5 5 5 images, 10847 to train on" in line
