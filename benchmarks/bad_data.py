"""Raw data that are bad: indices, lists of images, folders, embeddings, packs."""

import io
import random
import shutil
from functools import partial
from pathlib import Path
from typing import Any, Callable

import numpy as np
from PIL import Image

from benchmarks import damage
from benchmarks.bad_case import Cases, at, on, set_params, written


def index_files(good: Path, draw: random.Random) -> Cases:
    """data/<name>.json."""
    for project, name in (("digits", "digits"), ("lists", "listfile"), ("tree", "folder"), ("embeddings", "embeddings")):
        file = f"data/{name}.json"
        every = [*damage.of_place(file), *damage.of_bytes(draw, 40), *damage.of_json(draw, 60)]
        for what, change in every:
            # blanks alone are what can be other: subset.json notes the hash of the file
            valid = "bytes" in what
            yield on(project, "index", f"{project}: {what}", ["subsample"], at(file, change), (f"{name}.json",), valid)


LINES = ["nothing", "a b c", "train/000/00000.jpg", "train/000/00000.jpg -1", "train/000/00000.jpg 99999999999",
    "train/000/00000.jpg 1.0", "train/000/00000.jpg ٣", "../x.jpg 0", "/etc/passwd 0",
         "train/000/00000.jpg 0", "test/000/00000.jpg 0", "nowhere.jpg 0", "\x00 0", "é.jpg 0", "a" * 5000 + " 0", "train/000 0",
         "train/000/00000.jpg 7", " 0", "0", "./train/../../x 1", "train/000/00000.jpg\t0"]  # fmt: skip


def lists(good: Path, draw: random.Random) -> Cases:
    """Lists of images, class names, and the images that they name."""
    for argv in (["index", "listfile"], ["subsample"]):
        for part in ("train", "val", "test"):
            file = f"data/lists/{part}.txt"
            yield from _damaged_list(part, file, 25, argv, draw)
            for line in LINES:
                for first in (True, False):

                    def add(path: Path, line: str = line, first: bool = first) -> None:
                        text = path.read_text()
                        path.write_bytes((f"{line}\n{text}" if first else f"{text}{line}\n").encode("utf-8", "surrogateescape"))

                    # a second list may have labels in any order; an image may well be called so
                    yield on(
                        "lists",
                        "lists",
                        f"{part}: line {line[:24]!r}",
                        argv,
                        at(file, add),
                        (f"{part}.txt", "listfile", "paths", "images", "aaa", part),
                    )
        for bad in ("", "a\nb\n", "a\nb\nc\nd\n", "a\na\nb\n", "\xff", "a\n\x00\nc\n"):

            def names(folder: Path, bad: str = bad) -> None:
                (folder / "data/names.txt").write_bytes(bad.encode("latin-1"))
                set_params(folder, ("datasets", "listfile", "class_names"), "data/names.txt")

            yield on("lists", "lists", f"class names {bad!r}", argv, names, ("names.txt", "listfile"), valid="\x00" in bad)
        file = "data/lists/train/000/00000.jpg"
        yield from _damaged_list("image", file, 12, argv, draw)


def _damaged_list(what: str, file: str, count: int, argv: list[str], draw: random.Random) -> Cases:
    """A list, or an image that one names, with its place or its bytes damaged; `index` reads a sample of the images only."""
    for how, change in [*damage.of_place(file), *damage.of_bytes(draw, count)]:
        harmless = argv[0] == "index" and "bytes" in how
        yield on("lists", "lists", f"{what}: {how}", argv, at(file, change), (Path(file).name, "lists", "listfile"), valid=harmless)


def folders(good: Path, draw: random.Random) -> Cases:
    """Folders of classes, and images in them."""

    def link(folder: Path, name: str, to: str) -> None:
        (folder / name).symlink_to(to)

    for argv in (["index", "folder"], ["subsample"], ["base", "--seed", "0"]):
        trains = argv[0] == "base"
        for file in ("data/tree/train/000/00000.jpg", "data/tree/test/001/00000.jpg", "data/tree/train/002/00000.jpg"):
            for what, change in [*damage.of_place(file), *damage.of_bytes(draw, 4 if trains else 20)]:
                yield on(
                    "tree",
                    "folders",
                    f"{file}: {what}",
                    argv,
                    at(file, change),
                    ("tree", "folder"),
                    valid=argv[0] == "index" and ("bytes" in what or what == "missing"),
                    trains=trains,
                )
        changes: dict[str, Callable[[Path], Any]] = {
            "a class of test alone": lambda f: (f / "data/tree/test/zzz").mkdir(),
            "an empty class": lambda f: (f / "data/tree/train/zzz").mkdir(),
            "an image beside the classes": lambda f: (f / "data/tree/train/a.jpg").write_bytes(b"x"),
            "a folder in a class": lambda f: (f / "data/tree/train/000/sub").mkdir(),
            "a heic": lambda f: (f / "data/tree/train/000/a.heic").write_bytes(b"x"),
            "a link out": lambda f: link(f, "data/tree/train/000/out.jpg", "/etc/hostname"),
            "a class that is a link out": lambda f: link(f, "data/tree/train/out", "/etc"),
            "a class that is a link to its parent": lambda f: link(f, "data/tree/train/loop", "."),
            "one more": lambda f: (f / "data/tree/train/000/zzz.jpg").write_bytes((f / "data/tree/train/000/00000.jpg").read_bytes()),
            "text as an image": lambda f: (f / "data/tree/train/000/zzz.png").write_text("no image"),
            "a bomb": lambda f: (f / "data/tree/train/000/zzz.png").write_bytes(huge_png()),
            "a name with a line break": lambda f: (f / "data/tree/train/000/a\nb.jpg").write_bytes(b"x"),
            "a name that is no text": lambda f: Path(f.as_posix() + "/data/tree/train/000/\udcff.jpg").write_bytes(b"x"),
            "no train": lambda f: (f / "data/tree/train").rename(f / "data/tree/other"),
            "one class": lambda f: [shutil.rmtree(f / f"data/tree/{part}/00{c}") for part in ("train", "test") for c in (1, 2)],
            "no folder": lambda f: (f / "data/tree").rename(f / "data/other"),
            "a file": lambda f: ((f / "data/tree").rename(f / "data/other"), (f / "data/tree").write_text("x")),
        }  # fmt: skip
        for what, change in changes.items():
            taken = argv[0] == "index" and what in ("one more",)
            yield on(
                "tree",
                "folders",
                what,
                argv,
                lambda folder, change=change: change(folder) and None,
                ("tree", "folder"),
                valid=taken,
                trains=trains,
            )


def huge_png() -> bytes:
    """A small file of an image of 400 million pixels."""
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    return buffer.getvalue()


# Of 42 rows of four columns in three classes.
FEATURES, LABELS = np.ones((42, 4), np.float32), np.repeat(np.arange(3), 14)
ARRAYS: dict[str, dict[str, Any]] = {
    "features flat": {"features": np.ones(42)}, "features text": {"features": np.full((42, 4), "x")},
    "features none": {"features": None},
    "features NaN": {"features": np.full((42, 4), np.nan)}, "features no column": {"features": np.ones((42, 0))},
    "features huge": {"features": np.full((42, 4), 1e300)},
    "features complex": {"features": np.ones((42, 4), complex)}, "features objects": {"features": np.full((42, 4), None)},
    "features dates": {"features": np.zeros((42, 4), "M8[s]")},
    "labels none": {"labels": None}, "labels short": {"labels": LABELS[:-1]},
    "labels a column": {"labels": LABELS[:, None]}, "labels -1": {"labels": LABELS - 1},
    "labels gap": {"labels": LABELS * 2}, "labels huge": {"labels": LABELS * 2**40},
    "labels real": {"labels": LABELS * 1.0}, "labels bytes": {"labels": LABELS.astype("S")},
    "labels objects": {"labels": LABELS.astype(object)}, "labels single": {"labels": np.zeros(42, int)},
    "labels bool": {"labels": LABELS > 0}, "labels 0-d": {"labels": np.array(3)},
    "labels each one": {"labels": np.arange(42)}, "labels uint64": {"labels": LABELS.astype(np.uint64) + 2**63},
    "split words": {"split": np.full(42, "x")}, "split train": {"split": np.full(42, "train")},
    "split short": {"split": np.full(41, "test")}, "split numbers": {"split": np.ones(42)},
    "split 2-d": {"split": np.full((42, 1), "test")}, "split bytes": {"split": np.full(42, b"test")},
    "split without a class": {"split": np.where(LABELS == 1, "test", "train")},
    "split 0-d": {"split": np.array("test")},
    "classes few": {"classes": np.array(["a"])}, "classes twice": {"classes": np.array(["a", "a", "b"])},
    "classes 0-d": {"classes": np.array("abc")}, "classes 2-d": {"classes": np.array([["a", "b", "c"]])},
    "classes objects": {"classes": np.array(["a", "b", None], dtype=object)},
    "classes more": {"classes": np.array(["a", "b", "c", "d"])}, "classes numbers": {"classes": np.array([1, 1, 2])},
    "classes empty names": {"classes": np.array(["", "b", "c"])},
    "names not in classes": {"labels": np.repeat(["a", "b", "z"], 14), "classes": np.array(["a", "b", "c"])},
    "no row": {"features": np.ones((0, 4)), "labels": np.zeros(0, int)},
}  # fmt: skip
HARMLESS = {"every form": ("labels bool", "labels real"), "parquet": ("split bytes", "labels bytes", "labels objects")}


def embeddings(good: Path, draw: random.Random) -> Cases:
    """Files of embeddings."""
    file = "data/embeddings.npz"
    others = {
        "another zip": damage.zipped({"a.txt": b"x"}), "a zip of text": damage.zipped({"features.npy": b"x", "labels.npy": b"y"}),
        "text": b"features",
    }  # fmt: skip
    for argv in (["index", "embeddings"], ["subsample"], ["base", "--seed", "0"]):
        trains = argv[0] == "base"
        make = partial(on, "embeddings", "embeddings", argv=argv, named=("embeddings",))
        for form in ("npz", "folder", "parquet"):
            for what, change in ARRAYS.items():
                if form != "parquet" or not any(word in what for word in ("2-d", "classes", "a column", "0-d")):
                    arrays = {name: array for name, array in ({"features": FEATURES, "labels": LABELS} | change).items() if array is not None}
                    harmless = what in HARMLESS["every form"] or what in HARMLESS.get(form, ())
                    write = partial(_write_arrays, form=form, arrays=arrays)
                    yield make(f"{form}: {what}", change=write, valid=harmless, trains=trains)
        for what, change in [*damage.of_place("e"), *damage.of_bytes(draw, 30)]:
            is_hashed = argv[0] == "index" and "bytes" in what  # it hashes what there is
            yield make(what, change=at(file, change), valid=is_hashed, trains=trains)
        for what, content in others.items():
            yield make(what, change=written(file, content))


def _write_arrays(folder: Path, form: str, arrays: dict[str, np.ndarray]) -> None:
    (folder / "data/embeddings.npz").unlink()
    place = folder / "data" / {"npz": "embeddings.npz", "folder": "embeddings", "parquet": "embeddings.parquet"}[form]
    set_params(folder, ("datasets", "embeddings", "path"), str(place.relative_to(folder)))
    if form == "npz":
        np.savez(place, **arrays)
    elif form == "folder":
        place.mkdir()
        for name, array in arrays.items():
            np.save(place / f"{name}.npy", array)
    else:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            parquet.write_table(
                pa.table({name: list(array) if array.ndim > 1 else array for name, array in arrays.items()}), place
            )
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError, pa.ArrowTypeError):
            place.write_text("no table")


# Files of artifacts, and the command that reads them.


def packs(good: Path, draw: random.Random) -> Cases:
    """Packs of decoded images."""
    root = good / "lists"
    for path in sorted((root / "data" / ".packed").rglob("*")):
        if path.is_file() and path.suffix != ".lock":
            file = str(path.relative_to(root))
            changes = [*damage.of_place(file), *damage.of_bytes(draw, 20)]
            changes += damage.of_json(draw, 20) if path.suffix == ".json" else []
            changes += [(what, change) for what, change in damage.of_array(False)] if path.suffix == ".npy" else []
            for what, change in changes:
                # every pack is read by this one: the train and the test part
                yield on(
                    "lists", "packs", f"{path.name}: {what}", ["base", "--seed", "0"], at(file, change), (".packed",), trains=True
                )
