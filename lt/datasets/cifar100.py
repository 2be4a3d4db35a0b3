"""CIFAR-100: 100 classes of 32 x 32 colour images, 500 train and 100 test images each, in the official order."""

from pathlib import Path

import numpy as np

from lt.data import Split

FOLDER = "cifar-100-python"
FILES = ("train", "test", "meta")
# The constants that the long-tail literature uses for both CIFAR sets (Cao et al. 2019, LDAM).
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def open_split(root: Path, split: str) -> Split:
    """Train (50000 images) or test part (10000); nothing is downloaded here.

    root: data root, which holds the folder cifar-100-python    split 'train' or 'test'
    raises ValueError, naming the files, where they are missing or not the official ones (md5)
    (source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images)
    """
    try:
        data = _cifar()(root, train=split == "train", download=False)
    except RuntimeError:  # torchvision does not say which file is wrong
        raise ValueError(
            f"CIFAR-100 in {Path(root) / FOLDER}: {'; '.join(_wrong_files(root))}; "
            f"to download it, run `python -m stages.index cifar100`"
        ) from None
    return Split(
        images=np.ascontiguousarray(data.data),
        labels=np.asarray(data.targets, dtype=np.int64),
        classes=tuple(data.classes),
        mean=MEAN,
        std=STD,
    )


def raw_files(root: Path) -> dict[str, Path]:
    """The raw data: name in the index -> file on disk, there or not."""
    return {f"{FOLDER}/{name}": Path(root) / FOLDER / name for name in FILES}


def prepare(root: Path) -> None:
    """Downloads the official archive (about 170 MB) if a file is missing or wrong; ValueError where that fails."""
    from torchvision.datasets.utils import download_and_extract_archive

    if not _wrong_files(root):
        return
    cifar = _cifar()
    try:
        download_and_extract_archive(cifar.url, root, filename=cifar.filename, md5=cifar.tgz_md5)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"could not download {cifar.url} to {root} ({error}); without a network, fetch that file elsewhere, "
            f"put it into {root} and run `python -m stages.index cifar100` again"
        ) from error


def _wrong_files(root: Path) -> list[str]:
    from torchvision.datasets.utils import check_md5

    cifar, found = _cifar(), []
    for name, md5 in [*cifar.train_list, *cifar.test_list, (cifar.meta["filename"], cifar.meta["md5"])]:
        path = Path(root) / FOLDER / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif not check_md5(path, md5):
            found.append(f"{name} is not the official file")
    return found


def _cifar() -> type:
    from torchvision.datasets import CIFAR100  # takes seconds to import, so only where it is used

    return CIFAR100
