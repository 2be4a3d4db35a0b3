"""The data sets that come with a package or a download: digits, CIFAR-10, CIFAR-100."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lt.data.cifar import Cifar
from lt.datasets import cifar10, cifar100, digits

PROJECT = Path(__file__).parents[2]
needs_cifar100 = pytest.mark.skipif(not (PROJECT / "data/cifar-100-python/train").is_file(), reason="CIFAR-100 is not in data/")


# digits


def test_digits_split_is_fixed_and_balanced_on_the_test_side():
    train, test = digits.open_split(Path(), "train"), digits.open_split(Path(), "test")
    assert train.images.shape == (1297, 8, 8, 3) and train.images.dtype == np.uint8 and train.image_size == 8
    assert np.bincount(test.labels).tolist() == [50] * 10
    assert np.bincount(train.labels).tolist() == [128, 132, 127, 133, 131, 132, 131, 129, 124, 130]
    assert train.classes == tuple("0123456789") == test.classes


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    last = np.concatenate([np.flatnonzero(bunch.target == c)[-50:] for c in range(10)])
    for split, positions in (("test", np.sort(last)), ("train", np.setdiff1d(np.arange(1797), last))):
        part = digits.open_split(Path(), split)
        assert np.array_equal(part.labels, bunch.target[positions])
        for channel in range(3):
            assert np.array_equal(part.images[..., channel], np.rint(bunch.images[positions] * 255 / 16))
    assert part.images.min() == 0 and part.images.max() == 255


def test_digits_constants_are_those_of_the_train_part():
    pixels = digits.open_split(Path(), "train").images / 255
    assert digits.MEAN == pytest.approx(pixels.mean(), abs=5e-5) and digits.STD == pytest.approx(pixels.std(), abs=5e-5)


def test_digits_need_neither_torch_nor_an_import_of_scikit_learn():
    code = (
        "import sys, pathlib, lt.datasets.digits as d, lt.data.index, lt.core.subset; d.open_split(pathlib.Path(), 'test');"
        "print([m for m in ('torch', 'torchvision', 'sklearn') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True).stdout.strip() == "[]"


# CIFAR


@pytest.mark.parametrize("module, name, files", [(cifar10, "cifar10", 7), (cifar100, "cifar100", 3)])
def test_absent_cifar_names_files_folder_and_command(tmp_path, module, name, files):
    with pytest.raises(ValueError) as error:
        module.open_split(tmp_path, "train")
    assert str(tmp_path / module.CIFAR.folder) in str(error.value) and f"python -m stages.index {name}" in str(error.value)
    assert all(f"{file} is missing" in str(error.value) for file in module.CIFAR.files) and len(module.CIFAR.files) == files
    assert list(module.raw_files(tmp_path)) == [f"{module.CIFAR.folder}/{file}" for file in module.CIFAR.files]


def test_corrupt_cifar_is_told_from_absent_and_never_unpickled(tmp_path):
    (tmp_path / cifar100.CIFAR.folder).mkdir()
    (tmp_path / cifar100.CIFAR.folder / "train").write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    with pytest.raises(ValueError, match="train is not the official file; test is missing; meta is missing"):
        cifar100.open_split(tmp_path, "train")


@pytest.mark.parametrize("module", [cifar10, cifar100])
def test_failed_download_says_what_to_do_without_a_network(tmp_path, monkeypatch, module):
    from torchvision.datasets import utils

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(utils, "download_and_extract_archive", offline)
    with pytest.raises(ValueError, match=r"no route to host.*put it into .* and run `python -m stages.index cifar"):
        module.prepare(tmp_path)


def test_preparing_fetches_the_official_archive_where_files_are_missing(tmp_path, monkeypatch):
    from torchvision.datasets import utils

    calls = []
    monkeypatch.setattr(utils, "download_and_extract_archive", lambda *args, **kwargs: calls.append((args, kwargs)))
    cifar100.prepare(tmp_path)
    (url, root), facts = calls[0]
    assert len(calls) == 1 and root == tmp_path and url.endswith("cifar-100-python.tar.gz")
    assert facts == {"filename": "cifar-100-python.tar.gz", "md5": "eb9058c3a382ffc7106e4002c42a8d85"}


@pytest.mark.parametrize("module", [cifar10, cifar100])
def test_cifar_is_normalised_as_asked(tmp_path, monkeypatch, module):
    """image_std: LDAM-DRW's cifar_train.py and what builds on it; pixel_std: Longtail_DA's C-LT/data_utils.py, in 1/255."""
    made = SimpleNamespace(data=np.zeros((2, 32, 32, 3), np.uint8), targets=[0, 1], classes=["a", "b"])
    monkeypatch.setattr(Cifar, "_torchvision", lambda self: lambda *args, **kwargs: made)
    plain, pixel = module.open_split(tmp_path, "train"), module.open_split(tmp_path, "train", normalization="pixel_std")
    assert (plain.mean, plain.std) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    assert np.multiply(pixel.mean, 255) == pytest.approx([125.3, 123.0, 113.9])
    assert np.multiply(pixel.std, 255) == pytest.approx([63.0, 62.1, 66.7])
    assert module.raw_files(tmp_path, normalization="pixel_std") == module.raw_files(tmp_path)


@needs_cifar100
def test_cifar100_keeps_the_official_order(monkeypatch):
    from torchvision.datasets import utils

    test = cifar100.open_split(PROJECT / "data", "test")
    assert test.images.shape == (10000, 32, 32, 3) and test.images.flags.c_contiguous
    assert np.bincount(test.labels).tolist() == [100] * 100
    assert test.labels[:5].tolist() == [49, 33, 72, 51, 71] and test.classes[:3] == ("apple", "aquarium_fish", "baby")
    monkeypatch.setattr(utils, "download_and_extract_archive", lambda *args, **kwargs: pytest.fail("nothing to download"))
    cifar100.prepare(PROJECT / "data")
