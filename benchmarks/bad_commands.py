"""Bad environment variables and command lines, and images that predictions cannot be made of."""

import io
import random
import shutil
from pathlib import Path

from PIL import Image

from benchmarks import damage
from benchmarks.bad_case import Case, Cases, at, on
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


def command_lines(good: Path, draw: random.Random) -> Cases:
    """Arguments of every command."""
    for stage, form in COMMANDS.items():
        for word in WORDS:
            if stage == "compare" and word == "0":
                continue
            yield Case("arguments", f"{stage} {word[:20]!r}", [stage, *(part.replace("{}", word) for part in form)])
    for stage, form in {
        "base": [],
        "features": [],
        "retrain": ["crt"],
        "distill": ["pc"],
        "predict": ["--row", "crt", "data/tree/test"],
        "export": ["--row", "crt", "--output", "m.pt2"],
    }.items():
        for number in [*NUMBERS, "7"]:
            if not (number.startswith("000") and stage != "base"):
                yield Case(
                    "arguments",
                    f"{stage} --seed {number[:20]!r}",
                    [stage, *form, "--seed", number],
                    valid=number.startswith("000") or number == "7" and stage == "base",
                    trains=True,
                )
    for top in [*NUMBERS, "0"]:
        yield Case(
            "arguments",
            f"predict --top {top[:10]!r}",
            ["predict", "--row", "crt", "--top", top, "data/tree/test"],
            valid=top in ("٣", " 0", "1_0") or top.startswith("0000"),
        )
    for output in (
        "x.txt",
        "",
        ".",
        "/",
        "/proc/x.csv",
        "no\x00.csv",
        "data/tree",
        "x.csv/y.csv",
        "params.yaml",
        "x.pt2",
        "x" * 300 + ".csv",
        "data",
        "/dev/full/x.csv",
        "params.yaml/x.csv",
    ):
        yield Case(
            "arguments",
            f"predict --output {output[:20]!r}",
            ["predict", "--row", "crt", "--output", output, "data/tree/test"],
            valid=output == "x.csv/y.csv",
        )
        if not output.endswith(".pt2"):
            yield Case("arguments", f"export --output {output[:20]!r}", ["export", "--row", "crt", "--output", output])
    for budget in ("0", "-1", "2", "nan", "inf", "x", "1e-300"):
        yield Case(
            "arguments",
            f"table --budget {budget}",
            ["table", "digits_causal", "--collect", "--budget", budget],
            valid=budget == "1e-300",
        )
    for seeds in (["-1"], ["0", "0"], ["x"], ["4294967296"], ["9" * 5000], [""], []):
        yield Case(
            "arguments",
            f"table --seeds {[seed[:10] for seed in seeds]}",
            ["table", "digits_causal", "--collect", "--seeds", *seeds],
        )
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
            yield Case(
                "images",
                what,
                [*row, *form, "data/tree/test"],
                at(file, change),
                ("00000.jpg",),
                valid="bytes" in what or what in ("missing", "a folder"),
            )
            yield Case("images", what, [*row, *form, file], at(file, change), ("00000.jpg",), valid="bytes" in what)
        for what, content in {
            "empty list": b"",
            "blank list": b"\n \n",
            "no text": b"\xff\xfe\x00",
            "missing": b"nowhere.jpg\n",
            "folders": b"data\n",
            "itself": b"list.txt\n",
            "NUL": b"a\0b\n",
            "long": b"x" * 10_000,
        }.items():
            yield Case(
                "images",
                f"list: {what}",
                [*row, *form, "list.txt"],
                lambda folder, content=content: (folder / "list.txt").write_bytes(content) and None,
                ("list.txt", "nowhere.jpg", "data", "a\0b", "xxx"),
            )
        for path in (
            "nowhere.jpg",
            "",
            "data/empty",
            "\x00",
            "x" * 5000,
            "params.yaml",
            "/dev/zero",
            "/dev/full",
            "/proc/self/mem",
            "a\udcff.jpg",
            "data/lists.txt",
            "-",
            "--",
            "artifacts",
        ):
            yield Case("images", f"path {path[:20]!r}", [*row, *form, path])
    for name, make in {
        "bomb": huge_png, "16-bit": lambda: _image("I;16", "PNG"), "palette": lambda: _image("P", "GIF"),
        "cmyk": lambda: _image("CMYK", "JPEG"), "one pixel": lambda: _image("RGB", "PNG", (1, 1)),
        "thin": lambda: _image("RGB", "PNG", (1, 60_000)), "float": lambda: _image("F", "TIFF"),
        "lab": lambda: _image("LAB", "TIFF"), "bit": lambda: _image("1", "PNG"), "no pixel": lambda: b"P6 0 0 255\n",
        "svg": lambda: b"<svg/>", "eps": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "pdf": lambda: b"%PDF-1.4",
        "ppm that lies": lambda: b"P6 99999 99999 255\n" + bytes(9),
    }.items():  # fmt: skip
        # a picture of any form is one
        yield Case(
            "images",
            name,
            [*row, "odd.png"],
            lambda folder, make=make: (folder / "odd.png").write_bytes(make()) and None,
            ("odd.png",),
            valid=True,
        )


def _image(mode: str, kind: str, size: tuple[int, int] = (9, 9)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind)
    return buffer.getvalue()


# Values that the check lets pass, at the ends of their ranges.
