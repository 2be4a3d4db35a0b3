"""Writes data/<name>.json, the index of a data set's raw files; downloads them where that is possible.

python -m stages.index cifar100
"""

import numpy as np

from lt.core import params
from lt.core.command import arguments, run
from lt.core.plugins import load, path_of
from lt.data import dataset, index


def main() -> None:
    name = arguments(__doc__, "dataset", seed=False).dataset
    path_of("datasets", name)  # a wrong name is told first
    options = params.load().datasets.get(name) or {}
    found = index.make(name, index.data_root(), options)
    for split in dataset.parts(name, options):
        part = load("datasets", name)(index.data_root(), split, **options)
        counts = np.bincount(part.labels, minlength=len(part.classes))
        side = f"{part.image_size} x {part.image_size}"
        what = f"images of {side}" if part.image_size else f"embeddings of width {part.images.shape[1]}"
        print(f"{split}: {len(part.labels)} {what}, {len(counts)} classes of {counts.min()} to {counts.max()} images")
    images = found.get("images", [])
    number = len(found["files"]) + sum(block["files"] for block in images)
    size = sum(file["size"] for file in found["files"]) + sum(block["bytes"] for block in images)
    print(f"{index.write(found)}: {number} files, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run(main)
