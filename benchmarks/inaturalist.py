"""What needs no network at iNaturalist 2018's size: the subset, samplers and evaluation, each in a process of its own."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from scipy.special import log_softmax

from benchmarks import sizes
from benchmarks.apart import Peak, measure_apart
from benchmarks.large import BATCH, MEMORY_BAR_MIB
from benchmarks.timing import Row, medians
from lt.core import artifacts, keys, subset
from lt.core.plugins import load, names
from lt.datasets import listfile
from lt.evaluate.metrics import blocks
from lt.evaluate.row import evaluate
from lt.subsample import make

TRAIN, TEST_PER_CLASS, CLASSES, LARGEST, IMBALANCE = 437_513, 3, 8142, 1000, 500.0
BINS = 15
# What each is told against; the other jobs are samplers.
AGAINST = {"subsample": "the lists' lines as text", "evaluate": "one softmax of the logits"}
SHUFFLED = "a shuffle"


def rows(quick: bool) -> list[Row]:
    """Time and private memory of each, where it is quick of one sampler: a process each takes longer than what it measures."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), counts(50 if quick else 1))
        for job in (*AGAINST, *(["class_aware"] if quick else names("samplers"))):
            measured = measure_apart("benchmarks.inaturalist", folder, job)
            pair = f"{job if job in AGAINST else f'{job} sampler, an epoch'} at iNaturalist 2018's size"
            time, memory = (measured["ours_s"], measured["other_s"]), measured["mib"]
            found += [
                Row(f"{pair}: time, against {AGAINST.get(job, SHUFFLED)}", *time, "s", time[0] / time[1]),
                Row(f"{pair}: private memory", memory, MEMORY_BAR_MIB, "MiB", memory / MEMORY_BAR_MIB, 1.0, at_least=False),
            ]
    return found


def counts(fraction: int) -> np.ndarray:
    """Images per class, the largest as in the data set: what class-aware sampling needs grows with it."""
    return np.concatenate([[LARGEST], sizes.counts(TRAIN // fraction - LARGEST, CLASSES // fraction - 1, IMBALANCE)])


def write(folder: Path, each: np.ndarray) -> None:
    """The lists train.txt and test.txt, counts.npy, and logits.npy (N_test, C), the label's above the others."""
    parts = {"train": np.repeat(np.arange(len(each)), each), "test": tested_labels(len(each))}
    for part, labels in parts.items():
        with open(folder / f"{part}.txt", "w") as file:
            file.writelines(f"{part}/{label:04d}/{i:032x}.jpg {label}\n" for i, label in enumerate(labels.tolist()))
    np.save(folder / "counts.npy", each)
    logits = artifacts.new_array(folder / "logits.npy", (len(parts["test"]), len(each)), np.float32)
    piece = np.random.default_rng(0).normal(size=(1024, len(each))).astype(np.float32)
    for start in range(0, len(logits), len(piece)):
        logits[start : start + len(piece)] = piece[: len(logits) - start]
    logits[np.arange(len(logits)), parts["test"]] += 4
    logits.flush()


def tested_labels(num_classes: int) -> np.ndarray:
    """(N_test,), TEST_PER_CLASS of each class."""
    return np.repeat(np.arange(num_classes), TEST_PER_CLASS)


def measure(folder: Path, job: str) -> dict[str, float]:
    """ours_s, other_s: seconds, once warm; mib: the greatest private memory of the process, torch's own share included."""
    make = {"subsample": subsample, "evaluate": evaluation}
    ours, other = make[job](folder) if job in make else sampler(folder, job)
    with Peak() as peak:
        (ours_s,) = medians(1, ours)
    return {"mib": peak.kib / 1024, "ours_s": ours_s, "other_s": medians(1, other)[0]}


def subsample(folder: Path) -> tuple[Callable, Callable]:
    """The stage from the lists to its artifact, without looking whether the images are those of the index; the lists' lines."""
    lists = {f"{part}_list": str(folder / f"{part}.txt") for part in ("train", "test")}

    def ours() -> None:
        train, test = (listfile.open_split(folder, part, images=str(folder), **lists) for part in ("train", "test"))
        drawn = make("listfile", train, test, kind="none", imbalance=1.0, seed=0, val_fraction=0.0, raw_sha256="")
        subset.write_subset(folder, drawn)

    return ours, lambda: [Path(file).read_text(encoding="utf-8").splitlines() for file in lists.values()]


def evaluation(folder: Path) -> tuple[Callable, Callable]:
    """All metrics of one row and seed, from the file of its logits; one pass of log softmax."""
    logits, each = artifacts.read_array(folder / "logits.npy", dtype="float", mmap=True), np.load(folder / "counts.npy")
    labels = tested_labels(len(each))
    return (
        lambda: evaluate(logits, labels, each, each / each.sum(), BINS),
        lambda: [log_softmax(scores, axis=1).max() for _, scores in blocks(logits)],
    )


def sampler(folder: Path, name: str) -> tuple[Callable, Callable]:
    """A sampler made, and the index batches of its first epoch; a permutation in batches."""
    each, make = np.load(folder / "counts.npy"), load("samplers", name)
    labels, generator = np.repeat(np.arange(len(each)), each), keys.generator("benchmarks", name)
    return (
        lambda: make(labels, each, BATCH).epoch(generator, 0.0),
        lambda: torch.randperm(len(labels), generator=generator).split(BATCH),
    )


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2])))
