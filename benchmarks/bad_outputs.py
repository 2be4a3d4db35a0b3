"""What stages have written, damaged: artifacts, results, notes, training states."""

import hashlib
import io
import random
from functools import partial
from pathlib import Path

from benchmarks import damage
from benchmarks.bad_case import Case, Cases, at, on

READ_BY = {
    "artifacts/data/subset.json": ["report"], "artifacts/data/train_index.npy": ["retrain", "pc", "--seed", "0"],
    "artifacts/data/train_labels.npy": ["report"],
    "artifacts/data/test_labels.npy": ["evaluate", "pc"], "artifacts/data/val_index.npy": ["report"],
    "artifacts/data/val_labels.npy": ["report"],
    "artifacts/base/0/row.json": ["features", "--seed", "0"], "artifacts/base/0/weights.safetensors": ["features", "--seed", "0"],
    "artifacts/base/0/test_logits.npy": ["evaluate", "base"], "artifacts/base/0/log.csv": ["page"],
    "artifacts/features/0/views.npy": ["retrain", "crt", "--seed", "0"],
    "artifacts/features/0/clean.npy": ["retrain", "pc", "--seed", "0"],
    "artifacts/features/0/test.npy": ["retrain", "pc", "--seed", "0"],
    "artifacts/retrain/crt/0/row.json": ["evaluate", "crt"], "artifacts/retrain/crt/0/test_logits.npy": ["evaluate", "crt"],
    "artifacts/retrain/crt/0/weights.safetensors": ["predict", "--row", "crt", "data/tree/test"],
    "artifacts/retrain/pc/0/row.json": ["predict", "--row", "pc", "data/tree/test"],
    "artifacts/retrain/pc/0/test_logits.npy": ["page"], "artifacts/retrain/pc/0/weights.safetensors": ["distill", "pc", "--seed",
    "0"],
    "artifacts/distill/pc/0/row.json": ["evaluate", "xerm_pc"],
    "artifacts/distill/pc/0/weights.safetensors": ["predict", "--row", "xerm_pc", "data/tree/test"],
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
            # the page and the classes are told without what is not on this machine
            absent = argv[0] in ("page", "classes") and not what.startswith("bytes")
            yield Case("artifacts", f"{file}: {what}", argv, at(file, change), (folder, "row base"), absent, trains=argv[0] in TRAINING)
        listing = f"{folder}/manifest.json"
        for what, change in [*damage.of_place(listing), *damage.of_bytes(draw, 6), *damage.of_json(draw, 6)]:
            yield Case("artifacts", f"{listing}: {what}", argv, at(listing, change), (folder,), trains=argv[0] in TRAINING)


def renewed(good: Path, draw: random.Random) -> Cases:
    """Artifacts of another shape, whose manifests say so: of another version, or made by hand."""
    for file, argv in _existing(good).items():
        suffix = Path(file).suffix
        changes = {
            ".json": partial(damage.of_json, draw, 40, True),
            ".npy": damage.of_array,
            ".safetensors": damage.of_weights,
            ".csv": damage.of_log,
        }[suffix]()
        for what, change in changes:
            # another value of the same kind, or another number of views, is another good one: nothing but the manifest could tell
            valid = any(
                word in f"{file}: {what}"
                for word in (
                    "huge",
                    "one -1",
                    "2**60",
                    "float64",
                    "big-endian",
                    "half",
                    "a value",
                    "log: other columns", "log: NaN", "log: no line", "views.npy: array: one row less",
                    "log: NUL",
                )
            )
            yield Case(
                "renewed",
                f"{file}: {what}",
                argv,
                at(file, change),
                (str(Path(file).parent), "artifacts", "subset", "logits", "features"),
                valid=valid,
                trains=argv[0] in TRAINING,
            )


def details(good: Path, draw: random.Random) -> Cases:
    """results/details/<row>.json."""
    for argv in (["report"], ["page"], ["compare", "base", "crt"], ["classes", "crt"]):
        file = "results/details/crt.json"
        for what, change in damage.of_place(file):
            # the page names rows that have no results
            yield Case("details", f"{argv[0]}: {what}", argv, at(file, change), ("crt",), valid=argv[0] == "page")
        for what, change in [*damage.of_bytes(draw, 40), *damage.of_json(draw, 60)]:
            yield Case("details", f"{argv[0]}: {what}", argv, at(file, change), ("crt",))
        for _ in range(40):
            yield Case("details", f"{argv[0]}: a digit", argv, at(file, partial(damage.flip_digit, seed=draw.random())), ("crt",))


def notes(good: Path, draw: random.Random) -> Cases:
    """What the page and the doctor look at: costs, dvc.lock, DVC's settings and locks."""
    for file in (".cost/base_seed_0.json", ".cost/report.json"):
        for what, change in [*damage.of_place(file), *damage.of_bytes(draw, 20), *damage.of_json(draw, 30)]:
            yield Case("notes", f"{file}: {what}", ["page"], at(file, change), valid=True)
    lock = "schema: '2.0'\nstages:\n  report:\n    cmd: python -m stages.report\n"
    for file, text in {
        "dvc.lock": lock,
        ".dvc/tmp/rwlock": '{"read": {}, "write": {"a": {"pid": 1, "cmd": "x"}}}',
        ".dvc/config": "[cache]\n    dir = x\n",
    }.items():

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
            import torch

            state = torch.load(io.BytesIO(path.read_bytes()[32:]), weights_only=True)
            buffer = io.BytesIO()
            torch.save(change(state), buffer)
            path.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())

        for what, change in [*damage.of_place(file), *damage.of_bytes(draw, 20)]:
            is_none = what in ("missing", "a dangling link")  # then training starts from the beginning, and nothing is to be told
            yield on(project, "states", what, argv, at(file, change), (file,), valid=is_none, trains=True)
        import torch

        keys = list(torch.load(io.BytesIO((good / project / file).read_bytes()[32:]), weights_only=True))
        for key in keys:
            for bad in (None, 1, "x", [], {}, torch.zeros(3)):
                yield on(
                    project,
                    "states",
                    f"{key} = {bad!r}",
                    argv,
                    at(file, partial(sealed, change=lambda state, key=key, bad=bad: state | {key: bad})),
                    (file,),
                    trains=True,
                )
            yield on(
                project,
                "states",
                f"without {key}",
                argv,
                at(file, partial(sealed, change=lambda state, key=key: {k: v for k, v in state.items() if k != key})),
                (file,),
                trains=True,
            )
