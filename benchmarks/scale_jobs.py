"""What the parts that need no network do with very many rows and classes, one job in a process of its own: see benchmarks/scale.py."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Callable

import numpy as np
import torch

from benchmarks import sizes
from benchmarks.apart import Peak
from benchmarks.large import BATCH, write_features
from benchmarks.lists import write_lists
from lt.core import artifacts, keys, params, subset
from lt.core.context import made_of
from lt.core.counts import prior
from lt.core.plugins import load, names
from lt.core.subset import Subset
from lt.core.yaml_file import read_yaml
from lt.data.split import Split
from lt.datasets import listfile
from lt.evaluate.row import evaluate, over_seeds, rounded
from lt.page.build import build
from lt.page.sources import read_sources
from lt.report.plots import by_row
from lt.retrain import bank
from lt.subsample import make

ROOT = Path(__file__).resolve().parents[1]
FEATURE_DIM, STEPS, BINS = 256, 5, 15
ROWS = ("base", "balms")  # of the page, both of the same logits
SAMPLERS = tuple(f"{name} sampler" for name in names("samplers"))
HEADS = ("crt", "balms")


class NoImages:
    """Stands for N images, none of which is read."""

    def __init__(self, number: int):
        self.shape = (number, 224, 224, 3)


def subsample(folder: Path, num_rows: int, num_classes: int) -> Callable:
    """The draw of a training part with a tenth for validation, written, and read as each later stage reads it."""
    train, test = (split(labels) for labels in (train_labels(num_rows, num_classes), np.arange(num_classes)))

    def run() -> None:
        drawn = make("listfile", train, test, kind="none", imbalance=1.0, seed=0, val_fraction=0.1, raw_sha256="")
        subset.write_subset(folder, drawn)
        subset.read_subset(folder)

    return run


def lists(folder: Path, num_rows: int, _: int) -> Callable:
    """The lists' lines read and checked; `folder` then holds as many as rows. The classes are those of benchmarks/lists.py."""
    write_lists(folder / "lists", num_rows)
    where = {f"{part}_list": str(folder / f"lists/{part}.txt") for part in ("train", "test")}
    return lambda: [listfile.open_split(folder, part, images=str(folder), **where) for part in ("train", "test")]


def sampler(name: str) -> Callable[[Path, int, int], Callable]:
    """A sampler made, and the index batches of its first epoch."""

    def prepare(folder: Path, num_rows: int, num_classes: int) -> Callable:
        labels, each, make = train_labels(num_rows, num_classes), sizes.counts(num_rows, num_classes), load("samplers", name)
        return lambda: make(labels, each, BATCH).epoch(keys.generator("benchmarks", name), 0.0)

    return prepare


def pool(folder: Path, num_rows: int, num_classes: int) -> Callable:
    """A class pool made, and a hundred class-balanced batches of it."""
    labels, generator = train_labels(num_rows, num_classes), keys.generator("benchmarks", "pool")

    def run() -> None:
        found = bank.ClassPool(labels, num_classes)
        for _ in range(100):
            found.draw_balanced(BATCH, generator)

    return run


def head(name: str) -> Callable[[Path, int, int], Callable]:
    """A method's fit of a few steps from the file of one view, which is never held in memory."""

    def prepare(folder: Path, num_rows: int, num_classes: int) -> Callable:
        each = sizes.counts(num_rows, num_classes)
        write_features(folder / "views.npy", each.sum(), feature_dim=FEATURE_DIM)
        bank.IN_MEMORY_BYTES = 0  # at every size
        inputs = sizes.inputs(np.load(folder / "views.npy", mmap_mode="r"), None, each)
        options = {"batch_size": BATCH} | ({"meta_batch_size": BATCH} if name == "balms" else {})
        return lambda: load("methods", name)(inputs, steps=STEPS, **options)

    return prepare


def evaluation(folder: Path, num_rows: int, num_classes: int) -> Callable:
    """All metrics of one row and seed, from the file of its logits, as the details of a row are written."""
    each, labels = sizes.counts(50 * num_classes, num_classes), np.arange(num_rows) % num_classes
    write_logits(folder / "logits.npy", labels, num_classes)

    def run() -> None:
        logits = artifacts.read_array(folder / "logits.npy", dtype="float", mmap=True)
        artifacts.write_json(folder / "evaluated.json", rounded(evaluate(logits, labels, each, prior(each), BINS)))

    return run


def page(folder: Path, num_rows: int, num_classes: int) -> Callable:
    """The table's points and the report page of two rows, whose details and logits the job evaluate has left here."""
    content = read_yaml(ROOT / "params.yaml")
    content |= {"dataset": "digits", "seeds": [0], "methods": {"balms": {}}, "teachers": {}, "report": {"row": "balms"}}
    settings = params.Settings.model_validate(content)
    os.chdir(folder)
    os.environ["LT_VERIFY"] = "0"
    each = sizes.counts(50 * num_classes, num_classes)
    drawn = make(
        "digits", split(np.repeat(np.arange(num_classes), each)), split(np.arange(num_rows) % num_classes),
        kind="none", imbalance=1.0, seed=0, val_fraction=0.0, raw_sha256="00" * 32,
    )
    artifacts.stage_dir("data").mkdir(parents=True)
    subset.write_subset(artifacts.stage_dir("data"), drawn)
    found = artifacts.read_json(folder / "evaluated.json")
    for row in ROWS:
        artifacts.write_json(artifacts.RESULTS / "details" / f"{row}.json", details(row, found, drawn, made_of(settings, drawn)))
        artifacts.row_dir(row, 0).mkdir(parents=True)
        (artifacts.row_dir(row, 0) / "test_logits.npy").symlink_to(folder / "logits.npy")
    del found

    def run() -> None:
        sources = read_sources(settings)
        by_row(sources.rows)
        artifacts.write_text(artifacts.RESULTS / "report.html", build(sources))

    return run


def details(row: str, found: dict, drawn: Subset, context: dict) -> dict:
    """Content of results/details/<row>.json of one seed."""
    mean, sd = over_seeds([found["metrics"]])
    tested = np.bincount(drawn.test_labels, minlength=len(drawn.counts)).tolist()
    facts = {"classes": list(drawn.classes), "train_counts": drawn.counts.tolist(), "test_counts": tested, "val_size": 0}
    return {"row": row, "context": context | {"seeds": "0"}, **facts, "mean": mean, "sd": sd, "seeds": {"0": found}}


JOBS = {
    "subsample": subsample, "lists": lists, "class pool": pool, "evaluate": evaluation, "page": page,
    **{name: sampler(name.split()[0]) for name in SAMPLERS}, **{name: head(name) for name in HEADS},
}  # fmt: skip


def train_labels(num_rows: int, num_classes: int) -> np.ndarray:
    """(N,) int64, long-tailed, class by class; N is about the rows asked for."""
    return np.repeat(np.arange(num_classes), sizes.counts(num_rows, num_classes))


def split(labels: np.ndarray) -> Split:
    """A part whose images nobody reads."""
    classes = tuple(f"class {number}" for number in range(int(labels.max()) + 1))
    return Split(NoImages(len(labels)), labels, classes, (0.5,) * 3, (0.2,) * 3)


def write_logits(path: Path, labels: np.ndarray, num_classes: int) -> None:
    """float16 (N, C), the label's above the others; a piece at a time, and the pieces are alike but for the labels."""
    piece = np.random.default_rng(0).normal(size=(max(1, 2**23 // num_classes), num_classes)).astype(np.float16)
    logits = artifacts.new_array(path, (len(labels), num_classes), np.float16)
    for start in range(0, len(labels), len(piece)):
        rows = slice(start, min(start + len(piece), len(labels)))
        own = piece[: rows.stop - start].copy()
        own[np.arange(len(own)), labels[rows]] += 3
        logits[rows] = own
    logits.flush()


def measure(folder: Path, job: str, num_rows: int, num_classes: int) -> dict[str, float]:
    """cpu_s: seconds of processor time; mib: the greatest private memory of the process, libraries included."""
    torch.set_num_threads(1)
    run = JOBS[job](folder, num_rows, num_classes)
    with Peak() as peak:
        start = time.process_time()
        run()
        spent_s = time.process_time() - start
    return {"cpu_s": spent_s, "mib": peak.kib / 1024}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]).resolve(), sys.argv[2], *map(int, sys.argv[3:]))))
