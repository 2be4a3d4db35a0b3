"""Heads trained from a file of the features of a large data set: memory of the process, and time."""

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch

from benchmarks import sizes
from benchmarks.timing import Row, seconds, status_kib
from lt.load import load

BATCH, FEATURE_DIM, MEMORY_BAR_MIB = 512, 2048, 2048
# Images, classes, largest / smallest class, iterations that are timed.
SIZES = {"ImageNet-LT": (115_846, 1000, 256.0, 40), "iNaturalist 2018": (437_513, 8142, 500.0, 10)}
# Matrix products of one batch with a head per iteration: forward, backward; BALMS once more on the meta batch, and its feedback.
PRODUCTS = {"crt": 2, "balms": 5}
EVERY_S = 0.02


def rows(quick: bool) -> list[Row]:
    """Memory and time of both methods at both sizes, each in a process of its own."""
    found = []
    for name, (num_images, num_classes, imbalance, steps) in SIZES.items():
        each = sizes.counts(num_images // (50 if quick else 1), num_classes, imbalance)
        with tempfile.TemporaryDirectory() as folder:
            write_features(Path(folder, "views.npy"), each.sum())
            np.save(Path(folder, "counts.npy"), each)
            for method, products in PRODUCTS.items():
                measured = measure_apart(folder, method, 2 if quick else steps)
                pair = f"{method} from a file of {name}'s size"
                memory, each_s, product_s = measured["mib"], 100 * measured["step_s"], 100 * products * measured["product_s"]
                found += [
                    Row(f"{pair}: private memory", memory, MEMORY_BAR_MIB, "MiB", memory / MEMORY_BAR_MIB, 1.0, at_least=False),
                    Row(f"{pair}: 100 steps, against their matrix products", each_s, product_s, "s", each_s / product_s),
                ]
    return found


def write_features(path: Path, num_images: int) -> None:
    """A float16 array (1, N, D) on disk, a piece at a time; the pieces are alike."""
    piece = np.random.default_rng(0).normal(size=(8192, FEATURE_DIM)).astype(np.float16)
    header = {"descr": "<f2", "fortran_order": False, "shape": (1, int(num_images), FEATURE_DIM)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, num_images, len(piece)):
            piece[: num_images - start].tofile(file)


def measure_apart(folder: str, method: str, steps: int) -> dict[str, float]:
    """What measure prints, from a process of its own: nothing that is in this one's memory counts."""
    command = [sys.executable, "-m", "benchmarks.large", folder, method, str(steps)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def measure(folder: Path, method: str, steps: int) -> dict[str, float]:
    """mib: the greatest private memory; step_s: of one iteration, without the start; product_s: of one matrix product."""
    inputs = sizes.inputs(np.load(folder / "views.npy", mmap_mode="r"), None, np.load(folder / "counts.npy"))
    fit, options = load("methods", method), {"meta_batch_size": BATCH} if method == "balms" else {}
    with Peak() as peak:  # the first time the file is read, and the kernels are loaded
        _, once_s, more_s = (seconds(lambda: fit(inputs, steps=n, batch_size=BATCH, **options)) for n in (1, 1, 1 + steps))
    features, weight = torch.rand(BATCH, FEATURE_DIM), torch.rand(FEATURE_DIM, len(inputs.counts))
    product_s = min(seconds(lambda: features @ weight) for _ in range(5))
    return {"mib": peak.kib / 1024, "step_s": (more_s - once_s) / steps, "product_s": product_s}


class Peak:
    """`kib`: the greatest private memory of this process while the block runs, looked at every EVERY_S; NaN if unknown."""

    def __enter__(self) -> "Peak":
        self.kib, self.done = 0.0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *error) -> None:
        self.done.set()
        self.thread.join()

    def watch(self) -> None:
        """Looks until the block ends."""
        try:
            self.kib = status_kib("RssAnon")
            while not self.done.wait(EVERY_S):
                self.kib = max(self.kib, status_kib("RssAnon"))
        except (OSError, KeyError):
            self.kib = float("nan")


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
