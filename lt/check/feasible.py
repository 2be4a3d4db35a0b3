"""What the drawn data and this machine allow, as far as both are known before anything runs: priors, disk, memory. No torch."""

import math
import os
import shutil
from pathlib import Path
from typing import Any

from lt.core import artifacts
from lt.core.files import sha256
from lt.core.params import at
from lt.core.schemas import SubsetFile

GIB = 2**30
BYTES = {"float32": 4, "float16": 2}
# Options that are one weight per class, by the end of their names.
PRIOR = "_prior"


def mistakes(content: dict[str, Any]) -> list[str]:
    """Mistakes in what params.yaml holds, right or wrong, one per line; [] where the training part has not been drawn yet."""
    subset = drawn(content)
    return [] if subset is None else prior_mistakes(content, subset) + size_mistakes(content, subset)


def drawn(content: dict[str, Any]) -> dict[str, Any] | None:
    """subset.json, if it is that of the data set and the index that params.yaml names."""
    name = content.get("dataset")
    try:
        subset = artifacts.read_json(artifacts.stage_dir("data") / "subset.json", SubsetFile)
        return subset if subset["dataset"] == name and subset["raw_sha256"] == sha256(Path("data") / f"{name}.json") else None
    except (ValueError, OSError, LookupError, TypeError):
        return None  # the stage that reads it tells what is wrong with it


def prior_mistakes(content: dict[str, Any], subset: dict[str, Any]) -> list[str]:
    """Priors of methods and of the selected loss that are no distribution over the classes."""
    loss, num_classes, found = content.get("loss"), len(subset["classes"]), []
    blocks = {f"losses.{loss}": at(content, f"losses.{loss}")}
    methods = content.get("methods")
    blocks |= {f"methods.{name}": block for name, block in (methods.items() if isinstance(methods, dict) else ())}
    for where, block in blocks.items():
        for option, value in block.items() if isinstance(block, dict) else ():
            if not str(option).endswith(PRIOR) or not isinstance(value, list):
                continue
            if not all(type(weight) in (int, float) and 0 < weight <= 1 for weight in value):
                found.append(f"{where}.{option}: expected numbers above 0, at most 1")
            elif len(value) != num_classes or abs(math.fsum(value) - 1) > 1e-6:
                got = f"got {len(value)} numbers that sum to {math.fsum(value):g}"
                found.append(f"{where}.{option}: {got}, expected {num_classes}, one per class, that sum to 1")
    return found


def size_mistakes(content: dict[str, Any], subset: dict[str, Any]) -> list[str]:
    """Features that the disk has no room for, and batches that the memory has no room for; all estimated from below."""
    images, side = subset["train_size"], subset["image_size"]
    width = _feature_width(content)
    views, dtype = at(content, "features.views"), at(content, "features.dtype")
    found = []
    if _whole(views) and dtype in BYTES:
        kept = sum(file.stat().st_size for file in artifacts.stage_dir("features").rglob("*.npy"))
        free = shutil.disk_usage(".").free + kept
        needed = views * images * width * BYTES[dtype]
        what = f"{views} views of {images} images, {width} numbers wide, take {needed / GIB:.1f} GiB"
        if needed > free:
            found.append(f"features.views: {what}, expected at most the {free / GIB:.1f} GiB that are free")
    for block in ("train", "distill", "features"):
        size = at(content, f"{block}.batch_size")
        if _whole(size):
            found += _too_large(f"{block}.batch_size", min(size, images), 3 * side**2 if side else width)  # of embeddings there is no side
    methods = content.get("methods")
    for name in methods if isinstance(methods, dict) else ():
        size = at(content, f"methods.{name}.batch_size")
        if _whole(size):
            found += _too_large(f"methods.{name}.batch_size", size, width)
    return found


def _too_large(key: str, size: int, numbers: int) -> list[str]:
    """A batch of float32 that is larger than the memory."""
    if not hasattr(os, "sysconf"):  # Windows
        return []
    memory, needed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), 4 * size * numbers
    told = f"{key}: one batch of {size} takes {needed / GIB:.1f} GiB, expected less than the {memory / GIB:.1f} GiB of memory"
    return [told] if needed > memory else []


def _feature_width(content: dict[str, Any]) -> int:
    """Numbers per image of the features there are, if they are of this model; else 1, which is less than any."""
    for row in sorted(artifacts.stage_dir("base").glob("*/row.json")):
        try:
            same = artifacts.read_json(row)["classifier"]["model"]["name"] == content.get("model")
            folder = artifacts.stage_dir("features", row.parent.name)
            listed = artifacts.read_json(folder / artifacts.manifest.NAME, artifacts.manifest.Manifest)
            if same:
                return math.prod(listed["files"]["clean.npy"]["shape"][1:])
        except (ValueError, LookupError, TypeError):
            continue
    return 1


def _whole(value: Any) -> bool:
    return type(value) is int and value > 0
