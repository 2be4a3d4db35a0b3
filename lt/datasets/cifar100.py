"""CIFAR-100: 100 classes of 32 x 32 colour images, 500 train and 100 test images each, in the official order."""

from pathlib import Path
from typing import Literal

from lt.data.cifar import Cifar
from lt.data.split import Split

CIFAR = Cifar("cifar100", "CIFAR100", "cifar-100-python", ("train", "test", "meta"))
raw_files, prepare = CIFAR.raw_files, CIFAR.prepare


def open_split(root: Path, split: str, *, normalization: Literal["image_std", "pixel_std"] = "image_std") -> Split:
    """Train (50000 images) or test part (10000); see lt.data.cifar.Cifar.open_split for what raises.

    root: data root, which holds the folder cifar-100-python    split 'train' or 'test'
    normalization: what each channel is divided by, after its mean is taken off; see lt.data.cifar.NORMALIZATIONS
    (source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images)
    """
    return CIFAR.open_split(root, split, normalization)
