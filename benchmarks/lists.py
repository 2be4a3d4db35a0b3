"""The index of a data set of lists: reading and checking a million lines, which takes no image, and looking at files."""

import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.apart import Peak, measure_apart
from benchmarks.timing import Row, medians, seconds
from lt.data import compact_index
from lt.datasets import listfile

LINES, CLASSES, TEST_SHARE, FILES = 1_000_000, 8142, 20, 20_000
GROWTH_BAR = 2.2


def rows(quick: bool) -> list[Row]:
    """Time and memory of twice the lines by those of a million, each in a process of its own; files looked at per second."""
    lines, repeats = (LINES // 50, 1) if quick else (LINES, 2)
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, str(size)) for size in (2 * lines, lines)]
        for folder in folders:
            write_lists(folder, int(folder.name))
        # They take turns, so that what else the machine does falls on both.
        rounds = [[measure_apart("benchmarks.lists", folder) for folder in folders] for _ in range(repeats)]
        twice, once = ({key: min(one[key] for one in column) for key in ("s", "mib")} for column in zip(*rounds))
        pair = f"lists of {2 * lines:,} lines read and checked, against {lines:,}"
        return [
            Row(f"{pair}: time", twice["s"], once["s"], "s", twice["s"] / once["s"], GROWTH_BAR, at_least=False),
            Row(f"{pair}: memory", twice["mib"], once["mib"], "MiB", twice["mib"] / once["mib"], GROWTH_BAR, at_least=False),
            files_row(Path(name), FILES // 50 if quick else FILES, repeats),
        ]


def write_lists(folder: Path, lines: int) -> None:
    """train.txt and test.txt, one line in TEST_SHARE in the latter: `lines` in all, with paths as long as iNaturalist's."""
    folder.mkdir()
    for part, start, stop in (("train", 0, lines - lines // TEST_SHARE), ("test", lines - lines // TEST_SHARE, lines)):
        with open(folder / f"{part}.txt", "w") as file:
            file.writelines(f"{part}/{i % CLASSES:04d}/{i:032x}.jpg {i % CLASSES}\n" for i in range(start, stop))


def measure(folder: Path) -> dict[str, float]:
    """What the index does with lists alone, and opens for its counts: s, and mib of private memory that it takes.

    All that is asked of the files is whether one in a thousand is there, to be decoded; none is.
    """
    lists = {f"{part}_list": str(folder / f"{part}.txt") for part in ("train", "test")}
    options = {"images": str(folder), "val_list": None, "class_names": None, "image_size": 256, "max_corrupt": 0.0, **lists}

    def check() -> None:
        listfile.prepare(folder, **options)
        for part in listfile.parts(**options):
            listfile.open_split(folder, part, **options)

    with Peak() as peak:
        taken_s = seconds(check)
    return {"s": taken_s, "mib": (peak.kib - peak.before_kib) / 1024}


def files_row(folder: Path, count: int, repeats: int) -> Row:
    """The compact index of many small files on the local disk, against asking for their sizes in a plain loop."""
    names = [f"{i // compact_index.BLOCK:03d}/{i:06d}.jpg" for i in range(count)]
    for start in range(0, count, compact_index.BLOCK):
        (folder / names[start]).parent.mkdir()
    for name in names:
        (folder / name).write_bytes(name.encode())
    index_s, plain_s = medians(
        repeats, lambda: compact_index.make("train", folder, names), lambda: [os.stat(folder / name).st_size for name in names]
    )
    rates = count / index_s, count / plain_s
    return Row(f"index of {count:,} files, against their sizes in a plain loop", *rates, "files/s", rates[0] / rates[1])


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
