"""Manifests: what hashing costs where artifacts are read and written."""

import contextlib
import io
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import yaml

from benchmarks.stage import run_stage
from benchmarks.timing import Row, medians
from lt.core import artifacts, manifest
from lt.core.files import inside

ROOT = Path(__file__).parent.parent
# (views, images, width) of features: of CIFAR-100-LT.
LARGE, SMALL = (16, 10_847, 64), (2, 1000, 64)


def rows(quick: bool) -> list[Row]:
    """Reading features with their manifest against reading them without; and the CPU time of all hashing and comparing in the
    stages of a default `dvc repro` against that of the stages, without what starting them and DVC itself takes: so much at most."""
    with tempfile.TemporaryDirectory() as place:
        large = Path(place, "large")
        write(large, SMALL if quick else LARGE)
        checked_s, read_s = medians(1 if quick else 5, reader(large, checked=True), reader(large, checked=False))
        hashing_s, all_s = stages(Path(place, "project"), quick)
    mib = np.prod(SMALL if quick else LARGE) * 4 / 2**20
    return [
        Row(f"reading {mib:.0f} MiB of features once, hashed, against unhashed", checked_s, read_s, "s", checked_s / read_s),
        Row("hashing in a default `dvc repro`, against its stages, CPU", hashing_s, all_s, "s", hashing_s / all_s, 0.05, at_least=False),
    ]


def stages(folder: Path, quick: bool) -> tuple[float, float]:
    """Seconds of CPU, in manifests and in all, of the stages that `dvc repro` runs, one after the other in this process."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for block in ("train", "distill") if quick else ():
        content[block] |= {"epochs": 2, "warmup_epochs": 0}
    (folder / "data").mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    for name in ("dvc.yaml", "data/digits.json"):
        shutil.copy(ROOT / name, folder / name)
    methods, teachers = content["methods"], content["teachers"]
    lines = ["subsample", "base --seed 0", "features --seed 0", *(f"retrain {name} --seed 0" for name in methods)]
    lines += [*(f"distill {name} --seed 0" for name in teachers), "evaluate base", *(f"evaluate {name}" for name in methods)]
    lines += [*(f"evaluate xerm_{name}" for name in teachers), "report"]
    with inside(folder), contextlib.redirect_stdout(io.StringIO()), timed() as hashing_s:
        start = time.process_time()
        for line in lines:
            manifest.forget()  # as another process would begin
            run_stage(*line.split())
        return sum(hashing_s), time.process_time() - start


@contextlib.contextmanager
def timed() -> Iterator[list[float]]:
    """Lists the seconds of CPU of every call that looks at a manifest or makes one."""
    seconds: list[float] = []

    def timing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments):
            start = time.process_time()
            try:
                return function(*arguments)
            finally:
                seconds.append(time.process_time() - start)

        return call

    before = {name: getattr(manifest, name) for name in ("check", "describe")}
    for name, function in before.items():
        setattr(manifest, name, timing(function))
    try:
        yield seconds
    finally:
        for name, function in before.items():
            setattr(manifest, name, function)


def write(folder: Path, shape: tuple[int, ...]) -> None:
    """An artifact of one array."""
    with artifacts.writing(folder) as part:
        artifacts.write_array(part / "views.npy", np.random.default_rng(0).standard_normal(shape, np.float32))


def reader(folder: Path, checked: bool) -> Callable[[], object]:
    """A first read in a process of all numbers of the artifact."""

    def read() -> float:
        if checked:
            manifest.forget()
            manifest.check(folder / "views.npy")
        return float(np.load(folder / "views.npy", mmap_mode="r").sum())

    return read
