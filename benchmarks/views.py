"""Cached views against augmentation in every iteration: what the cache saves, its own cost counted, and the accuracy."""

from typing import Callable

import numpy as np
import torch

from benchmarks import digits, sizes
from benchmarks.heads import BALMS_STEPS, BATCH, backbone_pass, fit
from benchmarks.timing import Row, medians
from lt.augments import crop_flip
from lt.core import keys
from lt.features import apply_head, fill_views
from lt.input.augmented import augmented
from lt.methods import balms
from lt.network.classifier import Classifier

CIFAR100_LT, VIEWS = 10_847, 8
ENDLESS = 2**20  # views: as good as a new one for each draw


def rows(quick: bool) -> list[Row]:
    """Time of BALMS with its feature extraction, and accuracies on real images."""
    return [whole_row(quick), *accuracy_rows(digits.train(2 if quick else 60), *((1, 20) if quick else (3, 500)))]


def whole_row(quick: bool) -> Row:
    """BALMS from the trained network on: K views and the clean one of every image, then the head; and as the original does it."""
    count, steps, images, repeats = (64, 50, 64, 1) if quick else (1024, 500, BATCH, 5)
    cached = sizes.features(CIFAR100_LT, views=VIEWS)
    extraction, run = one_view(count), fit("balms", cached, steps, {"meta_batch_size": BATCH})
    view_s, run_s, pass_s = medians(repeats, extraction, run, backbone_pass(images))
    ours_s = (VIEWS + 1) * len(cached.labels) / count * view_s + BALMS_STEPS / steps * run_s
    other_s = BALMS_STEPS * 3 * pass_s * BATCH / images
    pair = f"balms and extraction, K = {VIEWS}, {BALMS_STEPS} iterations, against running the backbone (3 x {BATCH} images)"
    return Row(pair, ours_s, other_s, "s", other_s / ours_s, 20.0)


def one_view(count: int) -> Callable[[], None]:
    """Features of one augmented view of `count` images, as a function."""
    images, _ = sizes.images(count)
    model, views = sizes.resnet32().eval(), np.empty((1, count, sizes.FEATURE_DIM), np.float32)
    return lambda: fill_views(views, model, images, crop_flip.make(32), BATCH, 0)


class OnlineViews:
    """Looks like a memory-mapped array (K, N, D) of very many views, and computes what is read of it.

    So that a method which draws from its views trains with augmentation and the frozen backbone in each iteration.
    """

    def __init__(self, model: Classifier, images: torch.Tensor, augment: Callable):
        self.model, self.images, self.augment = model.eval(), images, augment
        self.shape = (ENDLESS, len(images), model.backbone.feature_dim)
        self.nbytes = 4 * int(np.prod(self.shape, dtype=np.int64))

    def reshape(self, *shape: int) -> "OnlineViews":
        """Itself, read by rows."""
        return self

    @torch.no_grad()
    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Features (B, D) of rows (B,), counted over all views."""
        rows = torch.from_numpy(rows)
        batch = augmented(self.images[rows % len(self.images)], self.augment, keys.derive("benchmarks", "online"), rows)
        return self.model.features(batch).numpy()


def accuracy_rows(trained: digits.Trained, seeds: int, steps: int) -> list[Row]:
    """BALMS on K cached views of digits against augmentation online, and its two draws; means over seeds of the re-training."""
    stored = np.empty((64, len(trained.images), trained.model.backbone.feature_dim), np.float32)
    fill_views(stored, trained.model, trained.images, trained.augment, 1024, 0)

    def accuracy(views: np.ndarray | OnlineViews, **options) -> float:
        found = []
        for seed in range(seeds):
            head = balms.fit(sizes.inputs(views, stored[0], trained.counts, seed), steps=steps, **options).head
            predicted = apply_head(head, trained.test_features, torch.device("cpu")).argmax(1)
            found.append(np.mean(predicted == trained.test_labels))
        return float(np.mean(found))

    online = accuracy(OnlineViews(trained.model, trained.images, trained.augment))
    cached = {count: accuracy(stored[:count]) for count in (1, 8, 64)}
    pair = "balms on digits, K = {}, against augmentation online"
    found = [Row(pair.format(count), value, online, "accuracy", value / online) for count, value in cached.items()]
    instance = accuracy(stored[:8], gumbel="instance")
    pair = "balms on digits, draw of a class, against a draw among all images"
    return [*found, Row(pair, cached[8], instance, "accuracy", cached[8] / instance, 0.98 if seeds > 1 else None)]
