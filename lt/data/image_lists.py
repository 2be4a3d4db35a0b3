"""Data sets given as text lists, one line "relative/path label" per image: how lists are read, checked and opened."""

import posixpath
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Iterable, Iterator, Sequence

import numpy as np

from lt.data.decode import MEAN, STD, ImageFiles, listing
from lt.data import compact_index
from lt.data.split import Split

SHOWN = 10
LINES_AT_ONCE = 2**16  # held as Python objects, three times as large as an array of strings
FORM = "a relative path, a blank and a label, such as `train/cat/1.jpg 3`"


@dataclass(frozen=True)
class ImageList:
    """One list: paths (N,) of numpy's string type, relative to the images' folder, and labels (N,) int64, in file order."""

    paths: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Expected:
    """What the lists of a published set hold: images by part, classes, and the largest and smallest class of its train part."""

    images: dict[str, int]
    classes: int
    largest: int | None = None
    smallest: int | None = None


class Files(Sequence):
    """Paths under a folder, made when asked for: a million of them as Path objects would take a gigabyte."""

    def __init__(self, folder: Path, names: np.ndarray):
        self.folder, self.names = folder, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, position: int) -> Path:
        return self.folder / self.names[position]


def read_list(file: Path) -> ImageList:
    """Reads lines "relative/path label"; paths may hold blanks, empty lines are left out, `./` and `//` are simplified.

    Raises ValueError where the file is missing or empty, or telling the lines that have another form.
    """
    if not file.is_file():
        raise ValueError(f"{file} is missing; expected a text file with a line per image: {FORM}")
    wrong: list[str] = []
    with open(file, encoding="utf-8-sig") as lines:
        try:
            most, images = sum(1 for _ in lines), 0
            lines.seek(0)
            paths, labels = np.empty(most, dtype=np.dtypes.StringDType()), np.empty(most, dtype=np.int64)
            entries = _entries(lines, wrong)
            while piece := list(islice(entries, LINES_AT_ONCE)):
                rows = slice(images, images + len(piece))
                paths[rows], labels[rows] = zip(*piece)
                images = rows.stop
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is not UTF-8 text ({error}); expected a line per image: {FORM}") from None
    if wrong:
        raise ValueError(listing(f"lines of {file} are not {FORM}", wrong, SHOWN))
    if not images:
        raise ValueError(f"{file} is empty; expected a line per image: {FORM}")
    return ImageList(paths[:images], labels[:images])


def _entries(lines: Iterable[str], wrong: list[str]) -> Iterator[tuple[str, int]]:
    """Path and label of each line; lines of another form are added to `wrong`."""
    for number, line in enumerate(lines, 1):
        fields = line.rsplit(None, 1)
        if len(fields) == 2 and fields[1].isdecimal() and len(fields[1]) < 10:
            path = fields[0]
            yield posixpath.normpath(path) if "./" in path or "//" in path else path, int(fields[1])
        elif fields:
            wrong.append(f"line {number}: {line.strip()[:80]!r}")


@dataclass(frozen=True)
class Sources:
    """Where a set lies: the images' folder, the list of each part, and the file of class names, if there is one."""

    images: Path
    lists: dict[str, Path]
    class_names: Path | None


@dataclass(frozen=True)
class ListSet:
    """A data set of lists: its name, and for a published one what its lists must hold and the mean and sd of its pixels."""

    name: str
    expected: Expected | None = None
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD

    def open_split(
        self, root: Path, split: str, *, image_size: int, test_crop: int | None, packed: bool, max_corrupt: float, **where
    ) -> Split:
        """One part, whose images are decoded when they are read; `where` are the options that sources takes.

        Raises ValueError where the images' folder or a list is missing, a line is malformed, the labels are not dense from 0 in
        the train list or reach beyond it in another, or the numbers are not those of the published set.
        """
        if test_crop and test_crop > image_size:
            raise ValueError(f"datasets.{self.name}.test_crop: got {test_crop}, expected at most image_size ({image_size})")
        places = self.sources(root, **where)
        if split not in places.lists:
            raise ValueError(f"{self.name}: got split {split!r}, expected one of {', '.join(places.lists)}")
        train = read_list(places.lists["train"])
        chosen = train if split == "train" else read_list(places.lists[split])
        counts = self._counts(train.labels, places.lists["train"])
        self._check_part(chosen, split, places.lists[split], counts)
        crop = test_crop if split != "train" else None
        files = ImageFiles(Files(places.images, chosen.paths), image_size, max_corrupt, packed, crop)
        return Split(files, chosen.labels, self._class_names(places, len(counts)), self.mean, self.std)

    def sources(
        self, root: Path, *, images: str, train_list: str, val_list: str | None, test_list: str, class_names: str | None, **_
    ) -> Sources:
        """Paths as options give them, absolute or relative to the project, which is the data root's parent."""
        project = Path(root).parent
        lists = {"train": train_list, "val": val_list, "test": test_list}
        named = project / class_names if class_names else None
        return Sources(project / images, {part: project / file for part, file in lists.items() if file}, named)

    def parts(self, **options) -> tuple[str, ...]:
        """The parts there are: train, val where it has a list, test."""
        return tuple(self.sources(Path("data"), **options).lists)

    def raw_files(self, root: Path, **options) -> dict[str, Path]:
        """The lists and the file of class names: name in the index -> file; ValueError where the images' folder is missing."""
        places = self.sources(root, **options)
        if not places.images.is_dir():
            raise ValueError(
                f"{places.images} is no folder; expected the images of {self.name} there, as {places.lists['train'].name} has "
                f"them; put or link them there, or set datasets.{self.name}.images in params.yaml"
            )
        named = {f"class_names/{places.class_names.name}": places.class_names} if places.class_names else {}
        return {f"{part}_list/{file.name}": file for part, file in places.lists.items()} | named

    def prepare(self, root: Path, *, image_size: int, max_corrupt: float, **where) -> None:
        """Checks all lists, and decodes one image in a thousand.

        Raises ValueError as open_split does, and where paths leave the images' folder or stand twice, in one list or in two.
        """
        places = self.sources(root, **where)
        self.raw_files(root, **where)
        lists = {part: read_list(file) for part, file in places.lists.items()}
        counts = self._counts(lists["train"].labels, places.lists["train"])
        self._class_names(places, len(counts))
        for part, listed in lists.items():
            self._check_part(listed, part, places.lists[part], counts)
        _check_paths({f"{places.lists[part]} ({part})": listed.paths for part, listed in lists.items()})
        for listed in lists.values():
            files = Files(places.images, listed.paths)
            there = [i for i in range(0, len(files), compact_index.BLOCK) if files[i].is_file()]
            for start in range(0, len(there), 64):
                ImageFiles(files, image_size, max_corrupt).read(np.array(there[start : start + 64]))

    def list_images(self, root: Path, contents: bool, **options) -> list[dict[str, Any]]:
        """Index of the images of all parts, as lt.data.compact_index.make has it; ValueError that lists those that are missing."""
        found, wrong = [], []
        places = self.sources(root, **options)
        for part, file in places.lists.items():
            try:
                found += compact_index.make(part, places.images, read_list(file).paths, contents)
            except ValueError as error:
                wrong += str(error).split("\n")
        if wrong:
            what = f"images of {self.name} are not where the lists have them, under {places.images}"
            raise ValueError(listing(what, wrong, SHOWN))
        return found

    def compare_images(self, root: Path, indexed: list[dict[str, Any]], full: bool, **options) -> list[str]:
        """Differences of the images from their index, one per line; `full` as in lt.data.compact_index.differences."""
        places = self.sources(root, **options)
        others = sorted({entry["part"] for entry in indexed} - places.lists.keys())
        told = [f"extra: images of a part {part!r}, which has no list" for part in others]
        for part, file in places.lists.items():
            entries = [entry for entry in indexed if entry["part"] == part]
            told += compact_index.differences(places.images, read_list(file).paths, entries, full)
        return told

    def _counts(self, labels: np.ndarray, file: Path) -> np.ndarray:
        """Images per class (C,); ValueError where a number below the largest label has none, or the set is another one."""
        present = np.unique(labels)
        if len(present) <= present[-1]:
            upto = np.arange(min(present[-1], len(present) + SHOWN) + 1)
            absent = ", ".join(map(str, np.setdiff1d(upto, present)[:SHOWN]))
            raise ValueError(
                f"{file}: got {len(present)} labels from {present[0]} to {present[-1]}; {present[-1] + 1 - len(present)} numbers "
                f"from 0 to {present[-1]} have no image, such as {absent}; expected labels 0, 1, 2, ... without a gap: "
                "number them anew, in all lists alike"
            )
        counts = np.bincount(labels)
        if self.expected:
            wanted = (self.expected.classes, self.expected.largest, self.expected.smallest)
            got = (len(counts), int(counts.max()), int(counts.min()))
            if any(want not in (None, has) for want, has in zip(wanted, got)):
                words = ["any" if want is None else str(want) for want in wanted]
                raise ValueError(
                    f"{file}: got {got[0]} classes, the largest of {got[1]} images, the smallest of {got[2]}; expected "
                    f"{words[0]}, {words[1]} and {words[2]}: these are not the lists of {self.name}; for others take listfile"
                )
        return counts

    def _check_part(self, listed: ImageList, part: str, file: Path, counts: np.ndarray) -> None:
        wanted = self.expected.images.get(part) if self.expected else None
        if wanted not in (None, len(listed.labels)):
            raise ValueError(
                f"{file}: got {len(listed.labels)} images, expected the {wanted} of the {part} part of {self.name}; for other "
                "lists take dataset listfile"
            )
        beyond = np.flatnonzero(listed.labels >= len(counts))
        if len(beyond):
            items = [f"{listed.paths[i]} {listed.labels[i]}" for i in beyond]
            what = f"labels of {file} are above {len(counts) - 1}, the largest of the train list"
            raise ValueError(listing(what, items, SHOWN))

    def _class_names(self, places: Sources, num_classes: int) -> tuple[str, ...]:
        """Names in label order, one per line of their file; the numbers where there is none."""
        if places.class_names is None:
            return tuple(map(str, range(num_classes)))
        if not places.class_names.is_file():
            expected = f"expected a class name per line, or datasets.{self.name}.class_names: null"
            raise ValueError(f"{places.class_names} is missing; {expected}")
        try:
            text = places.class_names.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{places.class_names} is not UTF-8 text ({error}); expected a class name per line") from None
        names = [line.strip() for line in text.splitlines() if line.strip()]
        if len(names) != num_classes or len(set(names)) != num_classes:
            got = f"got {len(names)} names, {len(set(names))} of them different"
            raise ValueError(f"{places.class_names}: {got}, expected {num_classes}")
        return tuple(names)


def _check_paths(lists: dict[str, np.ndarray]) -> None:
    """ValueError where paths of a list leave the folder that they are relative to, or stand twice, in one list or in two.

    lists: what each is called -> paths
    """
    if outside := [f"{name}: {path}" for name, paths in lists.items() for path in paths if path.startswith(("/", "../"))]:
        raise ValueError(listing("paths leave the images' folder; write them relative to it", outside, SHOWN))
    if twice := list(_twice(lists)):
        raise ValueError(listing("paths stand twice: they would be trained and tested on, or count double", twice, SHOWN))


def _twice(lists: dict[str, np.ndarray]) -> Iterator[str]:
    seen: dict[str, set[str]] = {}
    for name, paths in lists.items():
        own = set()
        for path in paths:
            if path in own:
                yield f"{path}: twice in {name}"
            own.add(path)
        for earlier, others in seen.items():
            yield from (f"{path}: in {earlier} and in {name}" for path in sorted(own & others))
        seen[name] = own
