"""Your own images: <path>/train/<class>/<image>, and optionally <path>/test/<class>/<image>."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lt.core.options import Count, Fraction, Index, OpenFraction
from lt.data.decode import ENDINGS, MEAN, OTHER_IMAGES, STD, THREADS, Corrupt, ImageFiles, attempt, listing, undecodable
from lt.data.split import Split


def open_split(
    root: Path, split: str, *, path: str = "data/folder", image_size: Count = 32, test_fraction: OpenFraction = 0.2,
    folds: Index = 0, fold: Index = 0, max_corrupt: Fraction = 0.0,
) -> Split:
    """Train or test part of a folder of images; classes are the names of the class folders, sorted.

    Without a test folder, the test part is carved out of train: of each class, the round(test_fraction * n) images whose paths
    have the smallest sha256, at least one and at most n - 1. So it depends on nothing but the names, and an added image moves
    few others. With `folds`, it is every folds-th image of each class in that order, from a place that goes with `fold`: over
    all folds, each image is tested once. Images become RGB (transparent parts white, 16-bit grey cut to 8 bits, the first frame of several), upright (EXIF),
    and a centred square of image_size pixels.

    max_corrupt: share of a part's images that may fail to decode; they are told, and grey squares stand for them

    root: data root; `path` is absolute or relative to the root's parent, the project    split 'train' or 'test'
    raises ValueError where the folder is not laid out as above, naming all folders or files that are wrong, and where it cannot
    be parted into so many folds
    """
    folder = Path(root).parent / path
    parts = _parts(folder, test_fraction, folds, fold)
    classes = tuple(parts["train"])
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(images) for images in parts[split].values()])
    return Split(ImageFiles(_files(folder, parts[split]), image_size, max_corrupt), labels, classes, MEAN, STD)


def raw_files(root: Path, path: str, **_) -> dict[str, Path]:
    """The raw data: name in the index, such as train/cat/1.jpg -> file on disk. ValueError as open_split."""
    folder = Path(root).parent / path
    found, wrong = _layout(folder)
    _refuse(wrong)
    return {name: folder / name for classes in found.values() for images in classes.values() for name in images}


def prepare(root: Path, path: str, image_size: int, test_fraction: float, folds: int, fold: int, max_corrupt: float) -> None:
    """Decodes every image once; ValueError that tells all that is wrong at once: the layout as open_split, and what cannot be
    decoded, where that is more than max_corrupt of a part."""
    folder = Path(root).parent / path
    found, wrong = _layout(folder)
    parts = found if wrong else _parts(folder, test_fraction, folds, fold)
    corrupt: list[tuple[Path, str]] = []
    for part in parts.values():
        files = _files(folder, part)
        with ThreadPoolExecutor(THREADS) as pool:
            results = pool.map(lambda file: attempt(file, image_size), files)
            bad = {position: result for position, result in enumerate(results) if isinstance(result, str)}
        if len(bad) > max_corrupt * len(files):
            corrupt += [(files[position], reason) for position, reason in bad.items()]
        else:
            Corrupt(files, max_corrupt).add(bad)
    _refuse(wrong + ([undecodable(sorted(corrupt), max_corrupt)] if corrupt else []))


def _files(folder: Path, part: dict[str, list[str]]) -> list[Path]:
    return [folder / name for images in part.values() for name in images]


def _refuse(wrong: list[str]) -> None:
    if wrong:
        raise ValueError("\n".join(wrong))


def _parts(folder: Path, test_fraction: float, folds: int, fold: int) -> dict[str, dict[str, list[str]]]:
    """Paths of the images, by part and class, both parts with the same classes in the same order."""
    found, wrong = _layout(folder)
    _refuse(wrong + (_fold_mistakes(folder, found, folds, fold) if folds else []))
    if "test" in found:
        return found
    parts = {"train": {}, "test": {}}
    for number, (name, images) in enumerate(found["train"].items()):
        by_hash = sorted(images, key=lambda path: hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest())
        if folds:
            taken = set(by_hash[(fold - number) % folds :: folds])  # the images left over of each class fall to different folds
        else:
            taken = set(by_hash[: min(max(round(test_fraction * len(images)), 1), len(images) - 1)])
        parts["test"][name] = [path for path in images if path in taken]
        parts["train"][name] = [path for path in images if path not in taken]
    return parts


def _fold_mistakes(folder: Path, found: dict[str, dict[str, list[str]]], folds: int, fold: int) -> list[str]:
    """Why these images cannot be parted into so many folds."""
    wrong = [] if folds > 1 else [f"folds: got {folds}, expected 2 or more, or 0 for one test part of test_fraction"]
    if fold >= folds:
        wrong.append(f"fold: got {fold}, expected 0 to {folds - 1}, the fold of {folds} that is tested on")
    if "test" in found:
        wrong.append(f"folds: got {folds}, and {folder / 'test'} is the test part; expected 0, or no such folder")
    elif few := [f"{name}: {len(images)}" for name, images in found["train"].items() if len(images) < folds]:
        wrong.append(listing(f"classes of {folder / 'train'} have fewer images than folds ({folds}); lower folds, or add images", few))
    return wrong


def _layout(folder: Path) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    """What is there, by part and class, and all that is wrong with it."""
    wrong: list[str] = []
    found = {part: _scan(folder, part, wrong) for part in ("train", "test") if part == "train" or (folder / part).is_dir()}
    train, test = found["train"], found.get("test")
    if (folder / "train").is_dir() and len(train) < 2:
        wrong.append(f"{folder / 'train'}: got {len(train)} class folder(s), expected at least two, one per class")
    if test is not None:
        for here, there, where in ((test, train, "test but not in train"), (train, test, "train but not in test")):
            if odd := sorted(set(here) - set(there)):
                wrong.append(listing(f"classes of {folder} are in {where}; both need the same class folders", odd))
    elif single := [name for name, images in train.items() if len(images) == 1]:
        what = f"classes of {folder / 'train'} have one image, to train on or to test on; add images, or a test folder"
        wrong.append(listing(what, single))
    return found, wrong


def _scan(folder: Path, part: str, wrong: list[str]) -> dict[str, list[str]]:
    """Paths of the images relative to `folder`, sorted, by sorted class; hidden files and those of other kinds are left out.

    What is wrong is added to `wrong`.
    """
    if not (folder / part).is_dir():
        wrong.append(f"{folder / part} is no folder; expected {folder}/{part}/<class>/<image> ({' '.join(ENDINGS)})")
        return {}
    found, stray = {}, []
    for entry in _entries(folder / part, folder, wrong):
        if entry.is_dir():
            inside = _entries(entry, folder, wrong)
            images = [image.name for image in inside if image.name.lower().endswith(ENDINGS) and not image.is_dir()]
            found[entry.name] = [f"{part}/{entry.name}/{image}" for image in images]
            stray += [f"{other.path}: a folder; images stand right in their class folder" for other in inside if other.is_dir()]
            stray += [f"{other.path}: convert it" for other in inside if other.name.lower().endswith(OTHER_IMAGES)]
        elif entry.name.lower().endswith(ENDINGS + OTHER_IMAGES):
            stray.append(f"{entry.path}: an image without a label; move it into the folder of its class")
    if stray:
        wrong.append(listing("files or folders are not where or what they should be", stray))
    if empty := [str(folder / part / name) for name, images in found.items() if not images]:
        wrong.append(listing(f"class folders hold no image ({' '.join(ENDINGS)}); add some, or delete the folders", empty))
    return found


def _entries(within: os.DirEntry | Path, folder: Path, wrong: list[str]) -> list[os.DirEntry]:
    """Entries by name, without hidden ones and links that lead out of `folder`, which are added to `wrong`."""
    with os.scandir(within) as scan:
        entries = sorted((entry for entry in scan if not entry.name.startswith(".")), key=lambda entry: entry.name)
    root = os.path.realpath(folder)
    links = [os.fspath(within), *(entry.path for entry in entries if entry.is_symlink())]
    outside = [link for link in links if os.path.commonpath([os.path.realpath(link), root]) != root]
    if outside:
        wrong.append(listing(f"links lead out of {root}; put the files themselves there", outside))
    return [] if os.fspath(within) in outside else [entry for entry in entries if entry.path not in outside]
