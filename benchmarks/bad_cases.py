"""Bad inputs of every kind: where they come from, what is to name them in a refusal, and which command meets them."""

import io
import json
import random
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import yaml
from PIL import Image

from benchmarks import damage
from benchmarks.bad_inputs import Case

Cases = Iterator[Case]


def draw(good: Path, kinds: list[str], number: int, seed: int) -> list[Case]:
    """Cases of these kinds, `number` in all, in equal shares as far as a kind has as many."""
    pools = {}
    for kind in kinds:
        draw = random.Random(f"{seed} {kind}")
        cases = list(islice(KINDS[kind](good, draw), 4 * number))
        draw.shuffle(cases)
        pools[kind] = cases
    chosen: list[Case] = []
    for place in count():
        left = [pool[place] for pool in pools.values() if place < len(pool)]
        if not left or len(chosen) >= number:
            return sorted(chosen[:number], key=lambda case: list(pools).index(case.kind))
        chosen += left


def at(file: str, change: Callable[[Path], None]) -> Callable[[Path], None]:
    """The damage of one file of a project."""
    return lambda folder: change(folder / file)


def leaves(content: dict, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Keys and values of params.yaml."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def set_params(folder: Path, keys: tuple, value: Any) -> None:
    """Sets a value of params.yaml."""
    path = folder / "params.yaml"
    content = block = yaml.safe_load(path.read_text())
    for key in keys[:-1]:
        block = block[key]
    block[keys[-1]] = value
    path.write_text(yaml.safe_dump(content, sort_keys=False))


WRONG = [{"a": 1}, [[1]], "no such value", 2**70, -(2**70), float("inf"), float("nan"), 1e300, -1e300]


def params(good: Path, draw: random.Random) -> Cases:
    """Values of other types or out of every range, unknown keys and missing ones."""
    content = yaml.safe_load((good / "digits" / "params.yaml").read_text())
    for keys, value in leaves(content):
        named = (str(keys[-1]), keys[0])
        free_text = isinstance(value, str) or value is None
        for bad in WRONG:
            # a name of a file may be any text, and what has null may be text as well
            valid = (isinstance(bad, str) and free_text and keys[0] in ("datasets", "models"))
            yield Case("params", f"{'.'.join(keys)} = {bad!r}", ["check"], partial(set_params, keys=keys, value=bad), named, valid)
        yield Case("params", f"{'.'.join(keys)}x", ["check"], partial(set_params, keys=(*keys[:-1], f"{keys[-1]}x"), value=value), named)


TRAPS = [
    "a: &a [*a]\n", "{", "[" * 5000, "\x00", "\ufeff", "---\na: 1\n---\nb: 2\n", "!!python/object/apply:os.system ['true']\n", "? [a]\n: 1\n",
    "a: !!binary x\n", "<<: 1\n", "<<: [*x]\n", "%YAML 9.9\n---\na: 1\n", "a: 1_000\n", "a: 0o17\n", "1: 2\n", "null: 1\n", "? {a: 1}\n: 2\n", "- 1\n", "a: !!set {a, b}\n",
    "a: !!omap [a: 1]\n", "a: *nowhere\n", "a: |\n\tx\n", "\t\n", "a: 'x\n", "a: !<tag:yaml.org,2002:int> x\n", "a: " + "x" * 10**6 + "\n", "a: 2020-99-99\n", "a: !!timestamp x\n",
    "seed: 1\nseed: 2\n", "\ud800", "a: " + "9" * 10**5 + "\n", "#" * 10**6 + "\n",
]  # fmt: skip


def yaml_text(good: Path, draw: random.Random) -> Cases:
    """Traps of YAML, and edits of the file at any place; what is taken has to be what another reader of YAML 1.2 takes it for."""
    text = (good / "digits" / "params.yaml").read_text()

    def write(folder: Path, text: str) -> None:
        (folder / "params.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))

    for stage in ("check", "report", "recipe", "predict"):
        argv = {"recipe": ["recipe", "cifar100_if100_balms"], "predict": ["predict", "--row", "crt", "data/tree"]}.get(stage, [stage])
        for what, change in damage.of_place("params.yaml"):
            yield Case("yaml", f"params.yaml: {what}", argv, at("params.yaml", change), ("params.yaml",))
        for trap in TRAPS:
            harmless = trap.startswith(("#", "\ufeff"))
            yield Case("yaml", f"trap {trap[:20]!r} first", argv, partial(write, text=trap + text), ("params.yaml",), valid=harmless)
            yield Case("yaml", f"trap {trap[:20]!r} alone", argv, partial(write, text=trap), ("params.yaml",))
            yield Case("yaml", f"trap {trap[:20]!r} last", argv, partial(write, text=text + trap), ("params.yaml",), valid=harmless)
    bomb = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9) if i else 'x'}]\n" for i in range(9))
    yield Case("yaml", "aliases", ["check"], partial(write, text=text + bomb), ("params.yaml",))
    for _ in range(600):
        place, length = draw.randrange(len(text)), draw.choice((0, 0, 1, 3, 20))
        inner = "".join(draw.choice(" \n\t:-{}[],&*#?|>!%@`'\"0aé\x07.") for _ in range(draw.choice((0, 1, 1, 2, 5))))
        edited = text[:place] + inner + text[place + length :]
        yield Case("yaml", f"{text[place : place + length]!r} -> {inner!r} at {place}", ["check"], partial(write, text=edited), ("params.yaml",), valid=partial(reads_alike, edited))


def reads_alike(text: str) -> bool:
    """Whether DVC's reader of YAML takes a text for the same as the project's."""
    import tempfile

    from dvc.utils.serialize import loads_yaml

    from lt.core.yaml_file import read_yaml

    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        return repr(json.dumps(loads_yaml(text), default=str)) == repr(json.dumps(read_yaml(Path(file.name)), default=str))


PRIOR = json.dumps([1.0] * 10)


def priors(good: Path, draw: random.Random) -> Cases:
    """Files of a test prior."""
    for argv in (["evaluate", "crt", "--prior", "prior.json"], ["predict", "--row", "crt", "--prior", "prior.json", "data/tree/test"]):

        def prepared(change: Callable[[Path], None]) -> Callable[[Path], None]:
            def both(folder: Path) -> None:
                (folder / "prior.json").write_text(PRIOR)
                change(folder / "prior.json")

            return both

        for what, change in damage.of_place("prior.json"):
            yield Case("prior", what, argv, prepared(change), ("prior.json",))
        for bad in [*damage.VALUES, [1] * 9, [1] * 11, [0] * 10, [-1] + [1] * 9, [1e308] * 10, [True] * 10, ["1"] * 10, [[1]] * 10, [None] * 10, [float("nan")] * 10, [2**2000] * 10,
                    {str(i): 1 for i in range(9)}, {str(i): 1 for i in range(11)}, {"zero": 1}, {**{str(i): 1 for i in range(9)}, "x": 1}]:  # fmt: skip
            yield Case("prior", f"value {str(bad)[:30]}", argv, prepared(lambda path, bad=bad: path.write_text(json.dumps(bad))), ("prior.json",))
        for text in ("NaN", "[1,", "{", "[" * 10**5, "\ufeff[1]", '{"0": 1, "0": 2, "1": 1, "2": 1, "3": 1, "4": 1, "5": 1, "6": 1, "7": 1, "8": 1, "9": 1}', "[1 1]", "é", "9" * 10**4):
            yield Case("prior", f"text {text[:20]!r}", argv, prepared(lambda path, text=text: path.write_text(text)), ("prior.json",))
        yield Case("prior", "no UTF-8", argv, prepared(lambda path: path.write_bytes(b"\xff\xfe[1]")), ("prior.json",))
        for what, change in damage.of_bytes(draw, 40):
            yield Case("prior", what, argv, prepared(change), ("prior.json",), valid=True)
    for name in ("uniformm", "", "train ", "no/such/file", "\x00", "x" * 5000, "."):
        yield Case("prior", f"name {name[:20]!r}", ["predict", "--row", "crt", "--prior", name, "data/tree/test"])


def index_files(good: Path, draw: random.Random) -> Cases:
    """data/<name>.json."""
    for project, name in (("digits", "digits"), ("lists", "listfile"), ("tree", "folder"), ("embeddings", "embeddings")):
        file = f"data/{name}.json"
        every = [*damage.of_place(file), *damage.of_bytes(draw, 40), *damage.of_json(draw, 60)]
        for what, change in every:
            yield on(project, "index", f"{project}: {what}", ["subsample"], at(file, change), (f"{name}.json",))


def on(project: str, *arguments, **more) -> Case:
    """A case in another project than that of the digits."""
    return Case(*arguments, project=project, **more)


LINES = ["nothing", "a b c", "train/000/00000.jpg", "train/000/00000.jpg -1", "train/000/00000.jpg 99999999999", "train/000/00000.jpg 1.0", "train/000/00000.jpg ٣", "../x.jpg 0", "/etc/passwd 0",
         "train/000/00000.jpg 0", "test/000/00000.jpg 0", "nowhere.jpg 0", "\x00 0", "é.jpg 0", "a" * 5000 + " 0", "train/000 0", "train/000/00000.jpg 7", " 0", "0", "./train/../../x 1", "train/000/00000.jpg\t0"]  # fmt: skip


def lists(good: Path, draw: random.Random) -> Cases:
    """Lists of images, class names, and the images that they name."""
    for argv in (["index", "listfile"], ["subsample"]):
        for part in ("train", "val", "test"):
            file = f"data/lists/{part}.txt"
            for what, change in [*damage.of_place(file), *damage.of_bytes(draw, 25)]:
                yield on("lists", "lists", f"{part}: {what}", argv, at(file, change), (f"{part}.txt", "lists", "listfile"), valid=argv[0] == "index" and "bytes" in what)
            for line in LINES:
                for first in (True, False):

                    def add(path: Path, line: str = line, first: bool = first) -> None:
                        text = path.read_text()
                        path.write_bytes((f"{line}\n{text}" if first else f"{text}{line}\n").encode("utf-8", "surrogateescape"))

                    # a second list may have labels in any order; an image may well be called so
                    yield on("lists", "lists", f"{part}: line {line[:24]!r}", argv, at(file, add), (f"{part}.txt", "listfile", "paths", "images", part))
        for bad in ("", "a\nb\n", "a\nb\nc\nd\n", "a\na\nb\n", "\xff", "a\n\x00\nc\n"):

            def names(folder: Path, bad: str = bad) -> None:
                (folder / "data/names.txt").write_bytes(bad.encode("latin-1"))
                set_params(folder, ("datasets", "listfile", "class_names"), "data/names.txt")

            yield on("lists", "lists", f"class names {bad!r}", argv, names, ("names.txt", "listfile"), valid="\x00" in bad)
        file = "data/lists/train/000/00000.jpg"
        for what, change in [*damage.of_place(file), *damage.of_bytes(draw, 12)]:
            yield on("lists", "lists", f"image: {what}", argv, at(file, change), ("00000.jpg", "lists", "listfile"), valid=argv[0] == "index" and "bytes" in what)


def folders(good: Path, draw: random.Random) -> Cases:
    """Folders of classes, and images in them."""
    def link(folder: Path, name: str, to: str) -> None:
        (folder / name).symlink_to(to)

    for argv in (["index", "folder"], ["subsample"], ["base", "--seed", "0"]):
        trains = argv[0] == "base"
        for file in ("data/tree/train/000/00000.jpg", "data/tree/test/001/00000.jpg", "data/tree/train/002/00000.jpg"):
            for what, change in [*damage.of_place(file), *damage.of_bytes(draw, 4 if trains else 20)]:
                yield on("tree", "folders", f"{file}: {what}", argv, at(file, change), ("tree", "folder"), valid=argv[0] == "index" and "bytes" in what, trains=trains)
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
            "one class": lambda f: [__import__("shutil").rmtree(f / f"data/tree/{part}/00{c}") for part in ("train", "test") for c in (1, 2)],
            "no folder": lambda f: (f / "data/tree").rename(f / "data/other"),
            "a file": lambda f: ((f / "data/tree").rename(f / "data/other"), (f / "data/tree").write_text("x")),
        }  # fmt: skip
        for what, change in changes.items():
            taken = argv[0] == "index" and what in ("one more",)
            yield on("tree", "folders", what, argv, lambda folder, change=change: change(folder) and None, ("tree", "folder"), valid=taken, trains=trains)


def huge_png() -> bytes:
    """A small file of an image of 400 million pixels."""
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    return buffer.getvalue()


def embeddings(good: Path, draw: random.Random) -> Cases:
    """Files of embeddings."""
    good_features, good_labels = np.ones((42, 4), np.float32), np.repeat(np.arange(3), 14)
    arrays: dict[str, dict[str, Any]] = {
        "features flat": {"features": np.ones(42)}, "features text": {"features": np.full((42, 4), "x")}, "features none": {"features": None},
        "features NaN": {"features": np.full((42, 4), np.nan)}, "features no column": {"features": np.ones((42, 0))}, "features huge": {"features": np.full((42, 4), 1e300)},
        "features complex": {"features": np.ones((42, 4), complex)}, "features objects": {"features": np.full((42, 4), None)}, "features dates": {"features": np.zeros((42, 4), "M8[s]")},
        "labels none": {"labels": None}, "labels short": {"labels": good_labels[:-1]}, "labels a column": {"labels": good_labels[:, None]}, "labels -1": {"labels": good_labels - 1},
        "labels gap": {"labels": good_labels * 2}, "labels huge": {"labels": good_labels * 2**40}, "labels real": {"labels": good_labels * 1.0}, "labels bytes": {"labels": good_labels.astype("S")},
        "labels objects": {"labels": good_labels.astype(object)}, "labels single": {"labels": np.zeros(42, int)}, "labels bool": {"labels": good_labels > 0}, "labels 0-d": {"labels": np.array(3)},
        "labels each one": {"labels": np.arange(42)}, "labels uint64": {"labels": good_labels.astype(np.uint64) + 2**63},
        "split words": {"split": np.full(42, "x")}, "split train": {"split": np.full(42, "train")}, "split short": {"split": np.full(41, "test")}, "split numbers": {"split": np.ones(42)},
        "split 2-d": {"split": np.full((42, 1), "test")}, "split bytes": {"split": np.full(42, b"test")}, "split without a class": {"split": np.where(good_labels == 1, "test", "train")},
        "split 0-d": {"split": np.array("test")},
        "classes few": {"classes": np.array(["a"])}, "classes twice": {"classes": np.array(["a", "a", "b"])}, "classes 0-d": {"classes": np.array("abc")}, "classes 2-d": {"classes": np.array([["a", "b", "c"]])},
        "classes objects": {"classes": np.array(["a", "b", None], dtype=object)}, "classes more": {"classes": np.array(["a", "b", "c", "d"])}, "classes numbers": {"classes": np.array([1, 1, 2])},
        "classes empty names": {"classes": np.array(["", "b", "c"])}, "names not in classes": {"labels": np.repeat(["a", "b", "z"], 14), "classes": np.array(["a", "b", "c"])},
        "no row": {"features": np.ones((0, 4)), "labels": np.zeros(0, int)},
    }  # fmt: skip
    for argv in (["index", "embeddings"], ["subsample"], ["base", "--seed", "0"]):
        for form in ("npz", "folder", "parquet"):
            for what, change in arrays.items():
                if form == "parquet" and ("2-d" in what or "classes" in what or "a column" in what or "0-d" in what):
                    continue
                found = {name: array for name, array in ({"features": good_features, "labels": good_labels} | change).items() if array is not None}
                harmless = what in ("labels bool", "labels real") or (form == "parquet" and what in ("split bytes", "labels bytes", "labels objects"))
                yield on("embeddings", "embeddings", f"{form}: {what}", argv, partial(_write_arrays, form=form, arrays=found), ("embeddings",), valid=harmless, trains=argv[0] == "base")
        for what, change in [*damage.of_place("e"), *damage.of_bytes(draw, 30)]:
            yield on("embeddings", "embeddings", what, argv, at("data/embeddings.npz", change), ("embeddings",), trains=argv[0] == "base")
        for what, content in {"another zip": damage.zipped({"a.txt": b"x"}), "a zip of text": damage.zipped({"features.npy": b"x", "labels.npy": b"y"}), "text": b"features"}.items():
            yield on("embeddings", "embeddings", what, argv, at("data/embeddings.npz", lambda path, content=content: path.write_bytes(content)), ("embeddings",))


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
            parquet.write_table(pa.table({name: list(array) if array.ndim > 1 else array for name, array in arrays.items()}), place)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError, pa.ArrowTypeError):
            place.write_text("no table")


# Files of artifacts, and the command that reads them.
READ_BY = {
    "artifacts/data/subset.json": ["report"], "artifacts/data/train_index.npy": ["retrain", "pc", "--seed", "0"], "artifacts/data/train_labels.npy": ["report"],
    "artifacts/data/test_labels.npy": ["evaluate", "pc"], "artifacts/data/val_index.npy": ["report"], "artifacts/data/val_labels.npy": ["report"],
    "artifacts/base/0/row.json": ["features", "--seed", "0"], "artifacts/base/0/weights.safetensors": ["features", "--seed", "0"],
    "artifacts/base/0/test_logits.npy": ["evaluate", "base"], "artifacts/base/0/log.csv": ["page"],
    "artifacts/features/0/views.npy": ["retrain", "crt", "--seed", "0"], "artifacts/features/0/clean.npy": ["retrain", "pc", "--seed", "0"], "artifacts/features/0/test.npy": ["retrain", "pc", "--seed", "0"],
    "artifacts/retrain/crt/0/row.json": ["evaluate", "crt"], "artifacts/retrain/crt/0/test_logits.npy": ["evaluate", "crt"],
    "artifacts/retrain/crt/0/weights.safetensors": ["predict", "--row", "crt", "data/tree/test"], "artifacts/retrain/pc/0/row.json": ["predict", "--row", "pc", "data/tree/test"],
    "artifacts/retrain/pc/0/test_logits.npy": ["page"], "artifacts/retrain/pc/0/weights.safetensors": ["distill", "pc", "--seed", "0"],
    "artifacts/distill/pc/0/row.json": ["evaluate", "xerm_pc"], "artifacts/distill/pc/0/weights.safetensors": ["predict", "--row", "xerm_pc", "data/tree/test"],
    "artifacts/distill/pc/0/test_logits.npy": ["classes", "xerm_pc"], "artifacts/distill/pc/0/log.csv": ["page"],
}  # fmt: skip
TRAINING = ("base", "distill")


def _existing(good: Path) -> dict[str, list[str]]:
    return {file: argv for file, argv in READ_BY.items() if (good / "digits" / file).is_file()}


def artifacts(good: Path, draw: random.Random) -> Cases:
    """Artifacts that are not as their manifests say, and manifests."""
    for file, argv in _existing(good).items():
        folder = str(Path(file).parent)
        for what, change in [*damage.of_place(file), *damage.of_bytes(draw, 14)]:
            yield Case("artifacts", f"{file}: {what}", argv, at(file, change), (folder, "row base"), trains=argv[0] in TRAINING)
        listing = f"{folder}/manifest.json"
        for what, change in [*damage.of_place(listing), *damage.of_bytes(draw, 6), *damage.of_json(draw, 6)]:
            yield Case("artifacts", f"{listing}: {what}", argv, at(listing, change), (folder,), trains=argv[0] in TRAINING)


def renewed(good: Path, draw: random.Random) -> Cases:
    """Artifacts of another shape, whose manifests say so: of another version, or made by hand."""
    for file, argv in _existing(good).items():
        suffix = Path(file).suffix
        changes = {".json": partial(damage.of_json, draw, 40, True), ".npy": damage.of_array, ".safetensors": damage.of_weights, ".csv": damage.of_log}[suffix]()
        for what, change in changes:
            # another value of the same kind is another good one: nothing but the manifest could tell
            valid = any(word in what for word in ("huge", "one -1", "2**60", "float64", "big-endian", "half", "a value", "log: other columns", "log: NUL"))
            yield Case("renewed", f"{file}: {what}", argv, at(file, change), (str(Path(file).parent), "artifacts", "subset", "logits", "features"), valid=valid, trains=argv[0] in TRAINING)


def details(good: Path, draw: random.Random) -> Cases:
    """results/details/<row>.json."""
    for argv in (["report"], ["page"], ["compare", "base", "crt"], ["classes", "crt"]):
        file = "results/details/crt.json"
        for what, change in [*damage.of_place(file), *damage.of_bytes(draw, 40), *damage.of_json(draw, 60)]:
            yield Case("details", f"{argv[0]}: {what}", argv, at(file, change), ("crt",))
        for _ in range(40):
            yield Case("details", f"{argv[0]}: a digit", argv, at(file, partial(damage.flip_digit, seed=draw.random())), ("crt",))


def notes(good: Path, draw: random.Random) -> Cases:
    """What the page and the doctor look at: costs, dvc.lock, DVC's settings and locks."""
    for file in (".cost/base_seed_0.json", ".cost/report.json"):
        for what, change in [*damage.of_place(file), *damage.of_bytes(draw, 20), *damage.of_json(draw, 30)]:
            yield Case("notes", f"{file}: {what}", ["page"], at(file, change), valid=True)
    lock = "schema: '2.0'\nstages:\n  report:\n    cmd: python -m stages.report\n"
    for file, text in {"dvc.lock": lock, ".dvc/tmp/rwlock": '{"read": {}, "write": {"a": {"pid": 1, "cmd": "x"}}}', ".dvc/config": "[cache]\n    dir = x\n"}.items():

        def prepared(folder: Path, change, file: str = file, text: str = text) -> None:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
            change(folder / file)

        for what, change in [*damage.of_place(file), *damage.of_bytes(draw, 30)]:
            for argv in (["doctor"], ["doctor", "--mend"]) if file != "dvc.lock" else (["doctor"], ["page"]):
                yield Case("notes", f"{file}: {what}", argv, partial(prepared, change=change), valid=True)
    for what, change in [*damage.of_place("dvc.yaml"), *damage.of_bytes(draw, 30)]:
        for argv in (["report"], ["doctor"]):
            yield Case("notes", f"dvc.yaml: {what}", argv, at("dvc.yaml", change), valid=True)


def states(good: Path, draw: random.Random) -> Cases:
    """Training states that a killed run has left."""
    for project, argv in (("tree", ["base", "--seed", "0"]),):
        (file,) = [str(path.relative_to(good / project)) for path in (good / project / ".resume").glob("*.pt")]

        def sealed(path: Path, change) -> None:
            import hashlib

            import torch

            state = torch.load(io.BytesIO(path.read_bytes()[32:]), weights_only=True)
            buffer = io.BytesIO()
            torch.save(change(state), buffer)
            path.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())

        for what, change in [*damage.of_place(file), *damage.of_bytes(draw, 20)]:
            yield on(project, "states", what, argv, at(file, change), (file,), trains=True)
        import torch

        keys = list(torch.load(io.BytesIO((good / project / file).read_bytes()[32:]), weights_only=True))
        for key in keys:
            for bad in (None, 1, "x", [], {}, torch.zeros(3)):
                yield on(project, "states", f"{key} = {bad!r}", argv, at(file, partial(sealed, change=lambda state, key=key, bad=bad: state | {key: bad})), (file,), trains=True)
            yield on(project, "states", f"without {key}", argv, at(file, partial(sealed, change=lambda state, key=key: {k: v for k, v in state.items() if k != key})), (file,), trains=True)


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
                yield on("lists", "packs", f"{path.name}: {what}", ["base", "--seed", "0"], at(file, change), (".packed",), trains=True)


def environment(good: Path, draw: random.Random) -> Cases:
    """Environment variables of the project."""
    numbers = ("abc", "-1", "0", "1.5", "٢", "1e3", " ", "9" * 400, "0x10", "nan", "inf", "1\n", "None", "é", "-0", "+1")
    for name, argv in {"LT_WORKERS": ["base", "--seed", "0"], "LT_SAVE_EVERY_S": ["base", "--seed", "0"], "LT_NPROC": ["base", "--seed", "0"], "LT_IN_MEMORY_MIB": ["base", "--seed", "0"]}.items():
        for bad in numbers:
            fine = (name == "LT_SAVE_EVERY_S" and bad not in ("abc", "٢", "9" * 400, "0x10", "nan", "inf", "None", "é", " ")) or (name == "LT_IN_MEMORY_MIB" and bad == "0")
            remove = (lambda folder: __import__("shutil").rmtree(folder / "data/.packed")) if name == "LT_WORKERS" else (lambda folder: None)
            yield on("lists", "environment", f"{name}={bad[:20]!r}", argv, remove, (name,), valid=fine or bad in ("٢", "+1") and name == "LT_SAVE_EVERY_S", env={name: bad}, trains=True)
    for name in ("DVC_ROOT", "TMPDIR"):
        for bad in ("/nowhere", "params.yaml", "\n", "é"):
            yield Case("environment", f"{name}={bad!r}", ["subsample"], named=("data", "digits", bad.strip() or "."), valid=True, env={name: bad})
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        for bad in ("abc", "-1", "x" * 300):
            yield on("tree", "environment", f"{name}={bad[:10]!r}", ["base", "--seed", "0"], named=(name,), valid=True, env={name: bad}, trains=True)


WORDS = ["", " ", "x", "bas", "base ", "BASE", "../base", "/", ".", "a/b", "\x00", "é", "-1", "--", "--x", "x" * 5000, "xerm_", "xerm_xerm_pc", "crt crt", "*", "None", "base\n", "\udcff", "artifacts/base/0", "0"]
NUMBERS = ["", "-1", "1.0", "abc", "4294967296", "9" * 5000, "٣", "1e3", "nan", " 0", "0x0", "00000000000000000000000000000001", "1_0", "²"]
COMMANDS = {
    "retrain": ["{}", "--seed", "0"], "distill": ["{}", "--seed", "0"], "evaluate": ["{}"], "classes": ["{}"], "compare": ["base", "{}"], "index": ["{}"], "recipe": ["{}"],
    "predict": ["--row", "{}", "data/tree/test"], "export": ["--row", "{}", "--output", "model.pt2"], "table": ["{}"],
}  # fmt: skip


def command_lines(good: Path, draw: random.Random) -> Cases:
    """Arguments of every command."""
    for stage, form in COMMANDS.items():
        for word in WORDS:
            if stage == "compare" and word == "0":
                continue
            yield Case("arguments", f"{stage} {word[:20]!r}", [stage, *(part.replace("{}", word) for part in form)])
    for stage, form in {"base": [], "features": [], "retrain": ["crt"], "distill": ["pc"], "predict": ["--row", "crt", "data/tree/test"], "export": ["--row", "crt", "--output", "m.pt2"]}.items():
        for number in [*NUMBERS, "7"]:
            if not (number.startswith("000") and stage != "base"):
                yield Case("arguments", f"{stage} --seed {number[:20]!r}", [stage, *form, "--seed", number], valid=number.startswith("000") or number == "7" and stage == "base", trains=True)
    for top in [*NUMBERS, "0"]:
        yield Case("arguments", f"predict --top {top[:10]!r}", ["predict", "--row", "crt", "--top", top, "data/tree/test"], valid=top in ("٣", " 0", "1_0") or top.startswith("0000"))
    for output in ("x.txt", "", ".", "/", "/proc/x.csv", "no\x00.csv", "data/tree", "x.csv/y.csv", "params.yaml", "x.pt2", "x" * 300 + ".csv", "data", "/dev/full/x.csv", "params.yaml/x.csv"):
        yield Case("arguments", f"predict --output {output[:20]!r}", ["predict", "--row", "crt", "--output", output, "data/tree/test"], valid=output == "x.csv/y.csv")
        if not output.endswith(".pt2"):
            yield Case("arguments", f"export --output {output[:20]!r}", ["export", "--row", "crt", "--output", output])
    for budget in ("0", "-1", "2", "nan", "inf", "x", "1e-300"):
        yield Case("arguments", f"table --budget {budget}", ["table", "digits_causal", "--collect", "--budget", budget], valid=budget == "1e-300")
    for seeds in (["-1"], ["0", "0"], ["x"], ["4294967296"], ["9" * 5000], [""], []):
        yield Case("arguments", f"table --seeds {[seed[:10] for seed in seeds]}", ["table", "digits_causal", "--collect", "--seeds", *seeds])
    for rows in (["x"], [""], ["xerm_"], []):
        yield Case("arguments", f"table --rows {rows}", ["table", "digits_causal", "--collect", "--rows", *rows])
    for metric in ("", "x", "balanced ", "nll\n", "seeds", "recall", "\x00"):
        yield Case("arguments", f"compare --metric {metric!r}", ["compare", "base", "crt", "--metric", metric])
    for stage in ("base", "retrain", "distill", "evaluate", "predict", "export", "index", "compare", "classes"):
        yield Case("arguments", f"{stage} alone", [stage])
        yield Case("arguments", f"{stage} --no-such", [stage, "--no-such"])
    for stage in ("check", "subsample", "report", "page", "doctor"):
        for word in ("x", "--x", ""):
            yield Case("arguments", f"{stage} {word!r}", [stage, word])
    for path in ("", ".", "/proc/x", "no\x00", "data"):
        yield Case("arguments", f"recipe --write {path!r}", ["recipe", "cifar100_if100_balms", "--write", path])


def images(good: Path, draw: random.Random) -> Cases:
    """What predictions are asked for."""
    row = ["predict", "--row", "crt"]
    file = "data/tree/test/000/00000.jpg"
    for form in ([], ["--json"], ["--output", "p.csv"], ["--output", "p.parquet"]):
        for what, change in [*damage.of_place(file), *damage.of_bytes(draw, 40)]:
            yield Case("images", what, [*row, *form, "data/tree/test"], at(file, change), ("00000.jpg",), valid="bytes" in what or "missing" in what)
            yield Case("images", what, [*row, *form, file], at(file, change), ("00000.jpg",), valid="bytes" in what)
        for what, content in {"empty list": b"", "blank list": b"\n \n", "no text": b"\xff\xfe\x00", "missing": b"nowhere.jpg\n", "folders": b"data\n", "itself": b"list.txt\n", "NUL": b"a\0b\n", "long": b"x" * 10_000}.items():
            yield Case("images", f"list: {what}", [*row, *form, "list.txt"], lambda folder, content=content: (folder / "list.txt").write_bytes(content) and None, ("list.txt", "nowhere.jpg", "data", "a\0b", "xxx"))
        for path in ("nowhere.jpg", "", "data/empty", "\x00", "x" * 5000, "params.yaml", "/dev/zero", "/dev/full", "/proc/self/mem", "a\udcff.jpg", "data/lists.txt", "-", "--", "artifacts"):
            yield Case("images", f"path {path[:20]!r}", [*row, *form, path])
    for name, make in {
        "bomb": huge_png, "16-bit": lambda: _image("I;16", "PNG"), "palette": lambda: _image("P", "GIF"), "cmyk": lambda: _image("CMYK", "JPEG"), "one pixel": lambda: _image("RGB", "PNG", (1, 1)),
        "thin": lambda: _image("RGB", "PNG", (1, 60_000)), "float": lambda: _image("F", "TIFF"), "lab": lambda: _image("LAB", "TIFF"), "bit": lambda: _image("1", "PNG"), "no pixel": lambda: b"P6 0 0 255\n",
        "svg": lambda: b"<svg/>", "eps": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "pdf": lambda: b"%PDF-1.4", "ppm that lies": lambda: b"P6 99999 99999 255\n" + bytes(9),
    }.items():  # fmt: skip
        # a picture of any form is one
        yield Case("images", name, [*row, "odd.png"], lambda folder, make=make: (folder / "odd.png").write_bytes(make()) and None, ("odd.png",), valid=True)


def _image(mode: str, kind: str, size: tuple[int, int] = (9, 9)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind)
    return buffer.getvalue()


# Values that the check lets pass, at the ends of their ranges.
EXTREMES = {
    ("imbalance",): (1, 1e100), ("train", "lr"): (1e-100, 1e100), ("train", "momentum"): (0.0, 0.999999999), ("train", "weight_decay"): (0.0, 1e100), ("train", "batch_size"): (1, 10**6),
    ("train", "gamma"): (0.0, 1.0), ("features", "views"): (1,), ("features", "batch_size"): (1, 10**9), ("methods", "crt", "lr"): (1e-100, 1e100), ("methods", "crt", "batch_size"): (1,),
    ("methods", "pc", "tau"): (0.0, 1e100, -1e100), ("subset", "val_fraction"): (0.0, 0.999999), ("subset", "reserve"): (0, 10**9), ("subset", "seed"): (0, 2**32 - 1), ("evaluate", "bins"): (1, 10**9),
    ("teachers", "pc", "gamma"): (0.0, 1e100), ("teachers", "pc", "eps"): (0.0, 1e100), ("teachers", "pc", "temperature"): (1e-100, 1e100), ("distill", "lr"): (1e-100, 1e100), ("seeds",): ([2**32 - 1],),
    ("train", "backbone_lr_factor"): (1e-100, 1e100), ("train", "warmup_from"): (0.0, 1.0), ("train", "epochs"): (1, 0), ("losses", "focal", "gamma"): (0.0, 1e100), ("distill", "batch_size"): (1, 10**9),
}  # fmt: skip
LOSSES = {"balanced_softmax": "tau", "cb": "beta", "eql": "threshold", "focal": "gamma", "gcl": "scale", "ldam": "scale", "logit_adjust": "tau", "lade": "alpha"}
STAGE_OF = {"imbalance": ["subsample"], "subset": ["subsample"], "seeds": ["base", "--seed", str(2**32 - 1)], "features": ["features", "--seed", "0"], "evaluate": ["evaluate", "crt"],
            "teachers": ["distill", "pc", "--seed", "0"], "distill": ["distill", "pc", "--seed", "0"]}  # fmt: skip


def extremes(good: Path, draw: random.Random) -> Cases:
    """Numbers at the ends of their ranges, as the stages meet them: words or a result, never a traceback."""
    for keys, values in EXTREMES.items():
        argv = ["retrain", keys[1], "--seed", "0"] if keys[0] == "methods" else STAGE_OF.get(keys[0], ["base", "--seed", "0"])
        for value in values:
            yield Case("extremes", f"{'.'.join(keys)} = {value!r}", argv, partial(set_params, keys=keys, value=value), valid=True, trains=True)
    for loss, option in LOSSES.items():
        for value in (0.0, 1e-100, 0.999999, 1.0, 1e100):

            def change(folder: Path, loss: str = loss, option: str = option, value: float = value) -> None:
                set_params(folder, ("loss",), loss)
                set_params(folder, ("losses", loss, option), value)

            yield Case("extremes", f"losses.{loss}.{option} = {value!r}", ["base", "--seed", "0"], change, valid=True, trains=True)


KINDS: dict[str, Callable[[Path, random.Random], Cases]] = {
    "params": params, "yaml": yaml_text, "prior": priors, "index": index_files, "lists": lists, "folders": folders, "embeddings": embeddings,
    "artifacts": artifacts, "renewed": renewed, "details": details, "notes": notes, "states": states, "packs": packs,
    "environment": environment, "arguments": command_lines, "images": images, "extremes": extremes,
}  # fmt: skip
