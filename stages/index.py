"""Writes data/<name>.json, the index of a data set's raw files; downloads them where that is possible.

python -m stages.index cifar100
python -m stages.index imagenet_lt --full     of lists of images: hashes every image, not the sizes of all and one in a thousand
"""

import numpy as np

from lt.core import params
from lt.core.command import command_line, run
from lt.core.plugins import load, path_of
from lt.data import dataset, index


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--full", action="store_true", help="hash every image; a stage that checks them then reads them all, too")
    args = parser.parse_args()
    name = args.dataset
    path_of("datasets", name)  # a wrong name is told first
    options = params.load().datasets.get(name) or {}
    found = index.make(name, index.data_root(), options, args.full)
    for split in dataset.parts(name, options):
        part = load("datasets", name)(index.data_root(), split, **options)
        counts = np.bincount(part.labels, minlength=len(part.classes))
        side = f"{part.image_size} x {part.image_size}" + (f" (datasets.{name}.image_size)" if "image_size" in options else "")
        what = f"images of {side}" if part.image_size else f"embeddings of width {part.images.shape[1]}"
        print(f"{split}: {len(part.labels)} {what}, {len(counts)} classes of {counts.min()} to {counts.max()} images")
    images = found.get("images", [])
    number = len(found["files"]) + sum(block["files"] for block in images)
    size = sum(file["size"] for file in found["files"]) + sum(block["bytes"] for block in images)
    print(f"{index.write(found)}: {number} files, {size / 2**20:.1f} MiB; it has {index.depth(found)}")


if __name__ == "__main__":
    run(main)
