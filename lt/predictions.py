"""Many image files classified with a predictor, batch by batch, and written as one table: .csv or .parquet."""

import contextlib
import csv
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Iterable, Iterator

import numpy as np
import torch
from tqdm import tqdm

from lt.core import artifacts
from lt.core.files import read_regular
from lt.data.decode import ENDINGS, OTHER_IMAGES, THREADS, attempt, listing
from lt.input.streamed import to_device, to_float
from lt.predict import IMAGES_AT_ONCE, Predictor

# Batches that are decoded while the network works on another.
AHEAD = 2
LIST, TABLES = ".txt", (".csv", ".parquet")
# The classes of one image, the most probable first, as (name, probability in [0, 1]); or why it cannot be read.
Result = list[tuple[str, float]] | str


def images_in(paths: Iterable[Path]) -> list[Path]:
    """The image files that paths name: a file is itself, a folder all images in it and below, sorted, and a .txt file its lines.

    Lines of a list are paths relative to where the command runs; empty ones are skipped. What is named one by one is taken
    whatever its ending is, and need not exist: it is told with the images that cannot be read. Links to folders are not followed.
    raises ValueError where a folder or a list names no image, or a list cannot be read
    """
    found = []
    for path in paths:
        inside = _in_folder(path) if path.is_dir() else _in_list(path) if path.suffix == LIST else [path]
        if not inside:
            raise ValueError(f"{path}: got no image in it, expected files that end in {' '.join((*ENDINGS, *OTHER_IMAGES))}, or a list of files")
        found += inside
    return found


def _in_folder(folder: Path) -> list[Path]:
    files = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sorted(file for file in files if file.suffix.lower() in (*ENDINGS, *OTHER_IMAGES))


def _in_list(path: Path) -> list[Path]:
    try:
        lines = read_regular(path).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: the list of images cannot be read ({error}); expected a text file with a path per line") from None
    return [Path(line.strip()) for line in lines if line.strip()]


def classify(predictor: Predictor, paths: list[Path], top: int) -> Iterator[tuple[Path, Result]]:
    """For each file its `top` most probable classes, or why it cannot be read. Memory does not grow with the number of files."""
    decoding, classes = (predictor.facts["image_size"], predictor.facts["crop"]), predictor.facts["classes"]
    for batch, decoded in decoded_batches(paths, *decoding):
        readable = [image for image in decoded if not isinstance(image, str)]
        best = iter(most_probable(predictor, readable, min(top, len(classes))))
        for path, image in zip(batch, decoded):
            yield path, image if isinstance(image, str) else [(classes[c], value) for c, value in next(best)]


def decoded_batches(paths: list[Path], image_size: int, crop: int | None = None) -> Iterator[tuple[list[Path], list[np.ndarray | str]]]:
    """IMAGES_AT_ONCE files at a time and their images, or why they cannot be read; the next batches are decoded meanwhile."""
    batches = deque(paths[start : start + IMAGES_AT_ONCE] for start in range(0, len(paths), IMAGES_AT_ONCE))
    waiting: deque[tuple[list[Path], list[Future]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            while batches or waiting:
                while batches and len(waiting) <= AHEAD:
                    batch = batches.popleft()
                    waiting.append((batch, [pool.submit(attempt, path, image_size, crop) for path in batch]))
                batch, images = waiting.popleft()
                yield batch, [image.result() for image in images]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@torch.no_grad()
def most_probable(predictor: Predictor, images: list[np.ndarray], top: int) -> list[list[tuple[int, float]]]:
    """For each image the `top` most probable (class number, probability), the most probable first."""
    if not images:
        return []
    logits = predictor(to_float(to_device(np.stack(images), predictor.shift.device)))
    values, classes = logits.double().softmax(1).topk(top)
    return [list(zip(*pair)) for pair in zip(classes.tolist(), values.tolist())]


def write(predictor: Predictor, paths: list[Path], top: int, output: Path) -> list[tuple[Path, str]]:
    """Writes a table with a line per file, in their order, and returns those that cannot be read, and why; a bar tells how far it is.

    Columns: path; class, probability; class_2, probability_2 and so on up to `top`; error, why the file cannot be read, empty
    for all others. The file takes its name when it is whole; until then, and after a failure, an older one of that name stays.

    output: see check_output    raises ArtifactError where it cannot be written
    """
    top = min(top, len(predictor.facts["classes"]))
    names = [name + (f"_{place}" if place > 1 else "") for place in range(1, top + 1) for name in ("class", "probability")]
    broken = []
    with artifacts.writing_together(output.parent, output.name) as folder, _table(folder / output.name, ["path", *names, "error"]) as add:
        for path, result in tqdm(classify(predictor, paths, top), total=len(paths), unit=" images", disable=None):
            name = str(path).encode("utf-8", "backslashreplace").decode()
            if isinstance(result, str):
                broken.append((path, result))
                add([name, *([None] * len(names)), result])
            else:
                add([name, *(value for pair in result for value in pair), None])
    return broken


def check_output(output: Path) -> None:
    """ValueError where no table can be written under this name: it ends in neither .csv nor .parquet, or pyarrow is missing."""
    if output.suffix not in TABLES:
        raise ValueError(f"output: got {output}, expected a name that ends in {' or '.join(TABLES)}")
    if output.is_dir():
        raise ValueError(f"output: got {output}, which is a folder, expected a file to write")
    if output.suffix == ".parquet":
        _pyarrow()


def told(broken: list[tuple[Path, str]], total: int) -> str:
    """What is said of the images that cannot be read."""
    return listing(f"of {total} images cannot be read; replace them or leave them out", [f"{path}: {reason}" for path, reason in broken])


@contextlib.contextmanager
def _table(path: Path, columns: list[str]) -> Iterator[Callable[[list], None]]:
    """add(row) for a new table of these columns; rows go to the file in parts, as they come."""
    if path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            yield writer.writerow
        return
    pa, parquet = _pyarrow()
    schema = pa.schema([(name, pa.float64() if name.startswith("probability") else pa.string()) for name in columns])
    with parquet.ParquetWriter(path, schema) as file:
        rows = []

        def flush() -> None:
            file.write_table(pa.table([pa.array(column, field.type) for column, field in zip(zip(*rows), schema)], schema=schema))
            rows.clear()

        def add(row: list) -> None:
            rows.append(row)
            if len(rows) == IMAGES_AT_ONCE * 16:
                flush()

        yield add
        if rows:
            flush()


def _pyarrow():
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError("output: a .parquet file needs pyarrow: pip install -e '.[parquet]'; or write a .csv file") from None
    return pyarrow, parquet
