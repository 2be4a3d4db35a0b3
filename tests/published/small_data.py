"""Small stand-ins for the published data sets, in their own forms, and the trees that their recipes read in tests."""

import hashlib
import pickle
from pathlib import Path

import numpy as np

from benchmarks import jpeg_tree
from lt.core.plugins import module_of
from lt.data.image_lists import ListSet

CLASSES, TRAIN, TEST = 10, 40, 10  # of CIFAR; images per class
KEYS = {"cifar10": "labels", "cifar100": "fine_labels"}  # under which a batch holds its labels
TREE = jpeg_tree.Sizes(classes=6, train=70, imbalance=20, val_per_class=3, test_per_class=5)


def write_cifar(root: Path, name: str, monkeypatch) -> None:
    """A CIFAR of 10 classes of 40 and 10 images that can be learnt, which torchvision takes for the official one."""
    module = module_of("datasets", name)
    official = module.CIFAR._torchvision()
    folder, random = root / module.CIFAR.folder, np.random.default_rng(0)
    folder.mkdir(parents=True)
    colours = random.integers(40, 216, size=(CLASSES, 3, 1))

    def put(file: str, content: dict) -> list[str]:
        (folder / file).write_bytes(pickle.dumps(content))
        return [file, hashlib.md5((folder / file).read_bytes()).hexdigest()]

    def batch(file: str, per_class: int) -> list[str]:
        labels = np.tile(np.arange(CLASSES), per_class)
        pixels = (colours[labels] + random.normal(scale=30, size=(len(labels), 3, 32 * 32))).clip(0, 255).astype(np.uint8)
        return put(file, {"data": pixels.reshape(len(labels), -1), KEYS[name]: labels.tolist()})

    files = [file for file, _ in official.train_list]
    monkeypatch.setattr(official, "train_list", [batch(file, TRAIN // len(files)) for file in files])
    monkeypatch.setattr(official, "test_list", [batch(file, TEST) for file, _ in official.test_list])
    meta, md5 = put(official.meta["filename"], {official.meta["key"]: [f"class {c}" for c in range(CLASSES)]})
    monkeypatch.setattr(official, "meta", official.meta | {"filename": meta, "md5": md5})


def write_lists(root: Path, name: str, monkeypatch) -> None:
    """A tree of 6 classes with text lists where ImageNet-LT, Places-LT or iNaturalist 2018 would lie; its sizes pass."""
    module = module_of("datasets", name)
    lists = ListSet(name, None, module.LISTS.mean, module.LISTS.std)
    for part in ("LISTS", "raw_files", "prepare", "parts", "list_images", "compare_images"):
        monkeypatch.setattr(module, part, lists if part == "LISTS" else getattr(lists, part))
    jpeg_tree.write(root / name, TREE, corrupt=0)
