"""Your own images: <path>/train/<class>/<image>, and optionally <path>/test/<class>/<image>."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lt.core.options import Count, OpenFraction
from lt.data.decode import ENDINGS, MEAN, OTHER_IMAGES, STD, THREADS, ImageFiles, attempt, listing, refuse
from lt.data.split import Split


def open_split(
    root: Path, split: str, *, path: str = "data/folder", image_size: Count = 32, test_fraction: OpenFraction = 0.2
) -> Split:
    """Train or test part of a folder of images; classes are the names of the class folders, sorted.

    Without a test folder, the test part is carved out of train: of each class, the round(test_fraction * n) images whose paths
    have the smallest sha256, at least one and at most n - 1. So it depends on nothing but the names, and an added image moves
    few others. Images become RGB (transparent parts white, 16-bit grey cut to 8 bits), upright (EXIF), and a centred square of
    image_size pixels.

    root: data root; `path` is absolute or relative to the root's parent, the project    split 'train' or 'test'
    raises ValueError where the folder is not laid out as above, naming all folders or files that are wrong
    """
    folder = Path(root).parent / path
    parts = _parts(folder, test_fraction)
    classes = tuple(parts["train"])
    names = [name for images in parts[split].values() for name in images]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(images) for images in parts[split].values()])
    return Split(ImageFiles([folder / name for name in names], image_size), labels, classes, MEAN, STD)


def raw_files(root: Path, path: str, **_) -> dict[str, Path]:
    """The raw data: name in the index, such as train/cat/1.jpg -> file on disk. ValueError as open_split."""
    folder = Path(root).parent / path
    found = {part: _scan(folder, part) for part in ("train", "test") if part == "train" or (folder / part).is_dir()}
    return {name: folder / name for classes in found.values() for images in classes.values() for name in images}


def prepare(root: Path, path: str, image_size: int, test_fraction: float) -> None:
    """Decodes every image once; ValueError that lists all that cannot be decoded, and as open_split."""
    folder = Path(root).parent / path
    _parts(folder, test_fraction)
    files = list(raw_files(root, path).values())
    with ThreadPoolExecutor(THREADS) as pool:
        results = pool.map(lambda file: attempt(file, image_size), files)
        refuse([(file, result) for file, result in zip(files, results) if isinstance(result, str)])


def _parts(folder: Path, test_fraction: float) -> dict[str, dict[str, list[str]]]:
    """Paths of the images, by part and class, both parts with the same classes in the same order."""
    train = _scan(folder, "train")
    if len(train) < 2:
        raise ValueError(f"{folder / 'train'}: got {len(train)} class folder(s), expected at least two, one per class")
    if (folder / "test").is_dir():
        test = _scan(folder, "test")
        for here, there, where in ((test, train, "test but not in train"), (train, test, "train but not in test")):
            if odd := sorted(set(here) - set(there)):
                raise ValueError(listing(f"classes of {folder} are in {where}; both need the same class folders", odd))
        return {"train": train, "test": test}
    if single := [name for name, images in train.items() if len(images) < 2]:
        what = f"classes of {folder / 'train'} have one image, to train on or to test on; add images, or a test folder"
        raise ValueError(listing(what, single))
    parts = {"train": {}, "test": {}}
    for name, images in train.items():
        by_hash = sorted(images, key=lambda path: hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest())
        taken = set(by_hash[: min(max(round(test_fraction * len(images)), 1), len(images) - 1)])
        parts["test"][name] = [path for path in images if path in taken]
        parts["train"][name] = [path for path in images if path not in taken]
    return parts


def _scan(folder: Path, part: str) -> dict[str, list[str]]:
    """Paths of the images relative to `folder`, sorted, by sorted class; hidden files and those of other kinds are left out."""
    if not (folder / part).is_dir():
        raise ValueError(f"{folder / part} is no folder; expected {folder}/{part}/<class>/<image> ({' '.join(ENDINGS)})")
    found, stray = {}, []
    for entry in _entries(folder / part, folder):
        if entry.is_dir():
            inside = _entries(entry, folder)
            images = [image.name for image in inside if image.name.lower().endswith(ENDINGS) and not image.is_dir()]
            found[entry.name] = [f"{part}/{entry.name}/{image}" for image in images]
            stray += [f"{other.path}: a folder; images stand right in their class folder" for other in inside if other.is_dir()]
            stray += [f"{other.path}: convert it" for other in inside if other.name.lower().endswith(OTHER_IMAGES)]
        elif entry.name.lower().endswith(ENDINGS + OTHER_IMAGES):
            stray.append(f"{entry.path}: an image without a label; move it into the folder of its class")
    if stray:
        raise ValueError(listing("files or folders are not where or what they should be", stray))
    if empty := [str(folder / part / name) for name, images in found.items() if not images]:
        raise ValueError(listing(f"class folders hold no image ({' '.join(ENDINGS)}); add some, or delete the folders", empty))
    return found


def _entries(within: os.DirEntry | Path, folder: Path) -> list[os.DirEntry]:
    """Entries by name, without hidden ones; ValueError where a link leads out of `folder`."""
    with os.scandir(within) as scan:
        entries = sorted((entry for entry in scan if not entry.name.startswith(".")), key=lambda entry: entry.name)
    root = os.path.realpath(folder)
    links = [os.fspath(within), *(entry.path for entry in entries if entry.is_symlink())]
    if outside := [link for link in links if os.path.commonpath([os.path.realpath(link), root]) != root]:
        raise ValueError(listing(f"links lead out of {root}; put the files themselves there", outside))
    return entries
