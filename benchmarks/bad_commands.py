"""Bad environment variables and command lines, and images that predictions cannot be made of."""

import io
import random
import shutil
from pathlib import Path

from PIL import Image

from benchmarks import damage
from benchmarks.bad_case import Case, Cases, at, on, written
from benchmarks.bad_data import huge_png


def environment(good: Path, draw: random.Random) -> Cases:
    """Environment variables of the project."""
    numbers = ("abc", "-1", "0", "1.5", "٢", "1e3", " ", "9" * 400, "0x10", "nan", "inf", "1\n", "None", "é", "-0", "+1")
    for name, argv in {
        "LT_WORKERS": ["base", "--seed", "0"],
        "LT_SAVE_EVERY_S": ["base", "--seed", "0"],
        "LT_NPROC": ["base", "--seed", "0"],
        "LT_IN_MEMORY_MIB": ["base", "--seed", "0"],
    }.items():
        for bad in numbers:
            fine = (name == "LT_SAVE_EVERY_S" and bad not in ("abc", "٢", "9" * 400, "0x10", "nan", "inf", "None", "é", " ")) or (
                name == "LT_IN_MEMORY_MIB" and bad == "0"
            )
            remove = (lambda folder: shutil.rmtree(folder / "data/.packed")) if name == "LT_WORKERS" else (lambda folder: None)
            yield on(
                "lists",
                "environment",
                f"{name}={bad[:20]!r}",
                argv,
                remove,
                (name,),
                valid=fine or bad in ("٢", "+1") and name == "LT_SAVE_EVERY_S",
                env={name: bad},
                trains=True,
            )
    for name in ("DVC_ROOT", "TMPDIR"):
        for bad in ("/nowhere", "params.yaml", "\n", "é"):
            yield Case(
                "environment",
                f"{name}={bad!r}",
                ["subsample"],
                named=("data", "digits", bad.strip() or "."),
                valid=True,
                env={name: bad},
            )
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        for bad in ("abc", "-1", "x" * 300):
            yield on(
                "tree",
                "environment",
                f"{name}={bad[:10]!r}",
                ["base", "--seed", "0"],
                named=(name,),
                valid=True,
                env={name: bad},
                trains=True,
            )


WORDS = [
    "",
    " ",
    "x",
    "bas",
    "base ",
    "BASE",
    "../base",
    "/",
    ".",
    "a/b",
    "\x00",
    "é",
    "-1",
    "--",
    "--x",
    "x" * 5000,
    "xerm_",
    "xerm_xerm_pc",
    "crt crt",
    "*",
    "None",
    "base\n",
    "\udcff",
    "artifacts/base/0",
    "0",
]


NUMBERS = [
    "",
    "-1",
    "1.0",
    "abc",
    "4294967296",
    "9" * 5000,
    "٣",
    "1e3",
    "nan",
    " 0",
    "0x0",
    "00000000000000000000000000000001",
    "1_0",
    "²",
]


COMMANDS = {
    "retrain": ["{}", "--seed", "0"], "distill": ["{}", "--seed", "0"], "evaluate": ["{}"], "classes": ["{}"],
    "compare": ["base", "{}"], "index": ["{}"], "recipe": ["{}"],
    "predict": ["--row", "{}", "data/tree/test"], "export": ["--row", "{}", "--output", "model.pt2"], "table": ["{}"],
}  # fmt: skip


SEEDED = {
    "base": [], "features": [], "retrain": ["crt"], "distill": ["pc"], "predict": ["--row", "crt", "data/tree/test"],
    "export": ["--row", "crt", "--output", "m.pt2"],
}  # fmt: skip
OUTPUTS = [
    "x.txt", "", ".", "/", "/proc/x.csv", "no\x00.csv", "data/tree", "x.csv/y.csv", "params.yaml", "x.pt2", "x" * 300 + ".csv", "data",
    "/dev/full/x.csv", "params.yaml/x.csv",
]  # fmt: skip
TABLE = ["table", "digits_causal", "--collect"]
# Further command lines, and whether they are right.
LINES = [
    *(([*TABLE, "--budget", budget], budget == "1e-300") for budget in ("0", "-1", "2", "nan", "inf", "x", "1e-300")),
    *(([*TABLE, "--seeds", *seeds], False) for seeds in (["-1"], ["0", "0"], ["x"], ["4294967296"], ["9" * 5000], [""], [])),
    *(([*TABLE, "--rows", *rows], False) for rows in (["x"], [""], ["xerm_"], [])),
    *((["compare", "base", "crt", "--metric", metric], False) for metric in ("", "x", "balanced ", "nll\n", "seeds", "recall", "\x00")),
    *(
        ([stage, *more], False)
        for stage in ("base", "retrain", "distill", "evaluate", "predict", "export", "index", "compare", "classes")
        for more in ([], ["--no-such"])
    ),
    *(([stage, word], False) for stage in ("check", "subsample", "report", "page", "doctor") for word in ("x", "--x", "")),
    *((["recipe", "cifar100_if100_balms", "--write", path], False) for path in ("", ".", "/proc/x", "no\x00", "data")),
]
PREDICT = ["predict", "--row", "crt"]
LISTS = {
    "empty list": b"", "blank list": b"\n \n", "no text": b"\xff\xfe\x00", "missing": b"nowhere.jpg\n", "folders": b"data\n",
    "itself": b"list.txt\n", "NUL": b"a\0b\n", "long": b"x" * 10_000,
}  # fmt: skip
PATHS = [
    "nowhere.jpg", "", "data/empty", "\x00", "x" * 5000, "params.yaml", "/dev/zero", "/dev/full", "/proc/self/mem", "a\udcff.jpg",
    "data/lists.txt", "-", "--", "artifacts",
]  # fmt: skip
PICTURES = {
    "bomb": huge_png, "16-bit": lambda: _image("I;16", "PNG"), "palette": lambda: _image("P", "GIF"),
    "cmyk": lambda: _image("CMYK", "JPEG"), "one pixel": lambda: _image("RGB", "PNG", (1, 1)),
    "thin": lambda: _image("RGB", "PNG", (1, 60_000)), "float": lambda: _image("F", "TIFF"),
    "lab": lambda: _image("LAB", "TIFF"), "bit": lambda: _image("1", "PNG"), "no pixel": lambda: b"P6 0 0 255\n",
    "svg": lambda: b"<svg/>", "eps": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "pdf": lambda: b"%PDF-1.4",
    "ppm that lies": lambda: b"P6 99999 99999 255\n" + bytes(9),
}  # fmt: skip


def command_lines(good: Path, draw: random.Random) -> Cases:
    """Arguments of every command."""
    yield from names_of_rows()
    yield from seeds_and_counts()
    yield from output_files()
    for line, valid in LINES:
        yield Case("arguments", " ".join(word[:20] for word in line), line, valid=valid)


def names_of_rows() -> Cases:
    """Words in the place of a row's, a data set's or a recipe's name."""
    for stage, form in COMMANDS.items():
        for word in WORDS:
            if (stage, word) != ("compare", "0"):
                yield Case("arguments", f"{stage} {word[:20]!r}", [stage, *(part.replace("{}", word) for part in form)])


def seeds_and_counts() -> Cases:
    """Numbers of any form as --seed and --top."""
    for stage, form in SEEDED.items():
        for number in [*NUMBERS, "7"]:
            is_padded = number.startswith("000")
            if stage == "base" or not is_padded:
                valid = is_padded or number == "7" and stage == "base"
                line = [stage, *form, "--seed", number]
                yield Case("arguments", f"{stage} --seed {number[:20]!r}", line, valid=valid, trains=True)
    for top in [*NUMBERS, "0"]:
        line = ["predict", "--row", "crt", "--top", top, "data/tree/test"]
        yield Case("arguments", f"predict --top {top[:10]!r}", line, valid=top in ("٣", " 0", "1_0") or top.startswith("0000"))


def output_files() -> Cases:
    """Where predict and export shall write."""
    for output in OUTPUTS:
        line = ["predict", "--row", "crt", "--output", output, "data/tree/test"]
        yield Case("arguments", f"predict --output {output[:20]!r}", line, valid=output == "x.csv/y.csv")
        if not output.endswith(".pt2"):
            yield Case("arguments", f"export --output {output[:20]!r}", ["export", "--row", "crt", "--output", output])


def images(good: Path, draw: random.Random) -> Cases:
    """What predictions are asked for."""
    file = "data/tree/test/000/00000.jpg"
    for form in ([], ["--json"], ["--output", "p.csv"], ["--output", "p.parquet"]):
        asked = [*PREDICT, *form]
        for what, change in [*damage.of_place(file), *damage.of_bytes(draw, 40)]:
            is_skipped = "bytes" in what or what in ("missing", "a folder")
            yield Case("images", what, [*asked, "data/tree/test"], at(file, change), ("00000.jpg",), valid=is_skipped)
            yield Case("images", what, [*asked, file], at(file, change), ("00000.jpg",), valid="bytes" in what)
        for what, content in LISTS.items():
            named = ("list.txt", "nowhere.jpg", "data", "a\0b", "xxx")
            yield Case("images", f"list: {what}", [*asked, "list.txt"], written("list.txt", content), named)
        for path in PATHS:
            yield Case("images", f"path {path[:20]!r}", [*asked, path])
    for name, make in PICTURES.items():  # a picture of any form is one
        yield Case("images", name, [*PREDICT, "odd.png"], lambda folder, make=make: written("odd.png", make())(folder), ("odd.png",), valid=True)


def _image(mode: str, kind: str, size: tuple[int, int] = (9, 9)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind)
    return buffer.getvalue()


# Values that the check lets pass, at the ends of their ranges.
