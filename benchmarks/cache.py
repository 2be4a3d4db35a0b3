"""Size of the feature cache of large data sets."""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks import sizes
from benchmarks.timing import Row
from lt.augments import crop_flip
from lt.core import artifacts
from lt.features import fill_views
from lt.network import classifier
from lt.network.classifier import Classifier

# Images of the training parts.
SETS = {"ImageNet-LT": 115_846, "Places-LT": 62_500, "iNaturalist 2018": 437_513}
FEATURE_DIM, DTYPE = 2048, np.float16
SMALL = 4  # images of the cache that is written


def rows(quick: bool) -> list[Row]:
    """MiB per view of ResNet-50's features, from the files of two small caches, against the numbers alone."""
    spec = classifier.classifier_spec("resnet50", {}, "linear", {}, 10, (0.5,) * 3, (0.25,) * 3)
    model = classifier.build(spec, seed=0).eval()
    once, twice = file_bytes(model, SMALL), file_bytes(model, 2 * SMALL)
    each, header = (twice - once) / SMALL, 2 * once - twice
    found = []
    for name, num_images in SETS.items():
        mib, numbers = (header + num_images * each) / 2**20, num_images * FEATURE_DIM * DTYPE().itemsize / 2**20
        pair = f"feature cache per view of {name}, {FEATURE_DIM} wide in {DTYPE.__name__}, against the numbers alone"
        found.append(Row(pair, mib, numbers, "MiB", mib / numbers))
    return found


def file_bytes(model: Classifier, num_images: int) -> int:
    """Size of the file of one view, extracted as the stage does it."""
    images, _ = sizes.images(num_images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "views.npy")
        views = artifacts.new_array(path, (1, num_images, model.backbone.feature_dim), DTYPE)
        fill_views(views, model, images, crop_flip.make(32), num_images, seed=0)
        views.flush()
        return path.stat().st_size
