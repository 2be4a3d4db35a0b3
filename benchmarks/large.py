"""Heads trained from a file of the features of a large data set: memory of the process, and time."""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import sizes
from benchmarks.apart import Peak, measure_apart
from benchmarks.timing import Row, seconds
from lt.core.plugins import load
from lt.published import recipes

BATCH, FEATURE_DIM, MEMORY_BAR_MIB = 512, 2048, 2048
# Images, classes, largest / smallest class, iterations that are timed.
SIZES = {"ImageNet-LT": (115_846, 1000, 256.0, 40), "iNaturalist 2018": (437_513, 8142, 500.0, 10)}
# Matrix products of one batch with a head per iteration: forward, backward; BALMS once more on the meta batch, and its feedback.
PRODUCTS = {"crt": 2, "balms": 5}
# A recipe whose meta batch is twice the batch, its features' width, validation images per class, iterations that are timed.
RECIPE, RECIPE_DIM, VAL_PER_CLASS, RECIPE_TIMED, RECIPE_PRODUCTS = "imagenet_lt_r10_balms", 512, 20, 60, 7


def rows(quick: bool) -> list[Row]:
    """Memory and time of both methods at both sizes, or where it is quick at the first, each in a process of its own; and the time
    of a whole recipe."""
    found = []
    for name, (num_images, num_classes, imbalance, steps) in [*SIZES.items()][: 1 if quick else None]:
        each = sizes.counts(num_images // (50 if quick else 1), num_classes, imbalance)
        with tempfile.TemporaryDirectory() as folder:
            write_features(Path(folder, "views.npy"), each.sum())
            np.save(Path(folder, "counts.npy"), each)
            for method, products in PRODUCTS.items():
                measured = measure_apart("benchmarks.large", folder, method, 2 if quick else steps)
                pair = f"{method} from a file of {name}'s size"
                memory, each_s, product_s = measured["mib"], 100 * measured["step_s"], 100 * products * measured["product_s"]
                found += [
                    Row(f"{pair}: private memory", memory, MEMORY_BAR_MIB, "MiB", memory / MEMORY_BAR_MIB, 1.0, at_least=False),
                    Row(f"{pair}: 100 steps, against their matrix products", each_s, product_s, "s", each_s / product_s),
                ]
    return [*found, recipe_row(quick)]


def write_features(path: Path, num_images: int, views: int = 1, feature_dim: int = FEATURE_DIM, dtype: str = "float16") -> None:
    """An array (K, N, D) on disk, a piece at a time; the pieces are alike."""
    piece = np.random.default_rng(0).normal(size=(8192, feature_dim)).astype(dtype)
    header = {"descr": piece.dtype.str, "fortran_order": False, "shape": (views, int(num_images), feature_dim)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, views * num_images, len(piece)):
            piece[: views * num_images - start].tofile(file)


def measure(folder: Path, method: str, steps: int) -> dict[str, float]:
    """mib: the greatest private memory; step_s: of one iteration, without the start; product_s: of one matrix product."""
    inputs = sizes.inputs(np.load(folder / "views.npy", mmap_mode="r"), None, np.load(folder / "counts.npy"))
    options = {"batch_size": BATCH} | ({"meta_batch_size": BATCH} if method == "balms" else {})
    with Peak() as peak:  # the first time the file is read, and the kernels are loaded
        _, step_s = start_and_step(method, inputs, steps, options)
    return {"mib": peak.kib / 1024, "step_s": step_s, "product_s": product(FEATURE_DIM, len(inputs.counts))}


def start_and_step(method: str, inputs, steps: int, options: dict) -> tuple[float, float]:
    """Seconds of a fit of one iteration, and of each of `steps` further ones."""
    fit = load("methods", method)
    _, once_s, more_s = (seconds(lambda: fit(inputs, steps=n, **options)) for n in (1, 1, 1 + steps))
    return once_s, (more_s - once_s) / steps


def product(feature_dim: int, num_classes: int) -> float:
    """Seconds of one product of a batch of features with a head's weight."""
    features, weight = torch.rand(BATCH, feature_dim), torch.rand(feature_dim, num_classes)
    return min(seconds(lambda: features @ weight) for _ in range(5))


def recipe_row(quick: bool) -> Row:
    """BALMS as its recipe for ImageNet-LT has it, from the file of all views: the whole time, from some of the iterations."""
    overrides = dict(recipes.find(RECIPE).overrides)
    cache, options = overrides["features"], dict(overrides["methods"]["balms"])
    steps = options.pop("steps")
    num_images, num_classes, imbalance, _ = SIZES["ImageNet-LT"]
    each = sizes.counts(num_images // (50 if quick else 1), num_classes, imbalance)
    val_labels = np.repeat(np.arange(num_classes), VAL_PER_CLASS)
    val = np.random.default_rng(1).normal(size=(len(val_labels), RECIPE_DIM)).astype(cache["dtype"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "views.npy")
        write_features(path, each.sum(), cache["views"], RECIPE_DIM, cache["dtype"])
        inputs = dataclasses.replace(sizes.inputs(np.load(path, mmap_mode="r"), None, each), val=val, val_labels=val_labels)
        once_s, step_s = start_and_step("balms", inputs, 2 if quick else RECIPE_TIMED, options)
    whole, products = (once_s + (steps - 1) * step_s) / 60, steps * RECIPE_PRODUCTS * product(RECIPE_DIM, num_classes) / 60
    pair = f"balms, ImageNet-LT recipe, {steps} steps, against their matrix products"
    return Row(pair, whole, products, "min", whole / products)


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
