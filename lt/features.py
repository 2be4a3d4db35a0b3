"""Feature extraction: K augmented views and one clean view of the training part, and the test part, from a trained backbone."""

from pathlib import Path
from typing import Callable

import numpy as np
import torch
from torch import nn

from lt.core import artifacts, keys
from lt.core.batch_statistics import CYCLES
from lt.core.params import Features
from lt.data.split import Split
from lt.input.augmented import augmented
from lt.input.part import TrainingPart
from lt.input.streamed import Streamed, images_of, to_float
from lt.network.classifier import Classifier, experts_of


def extract(
    model: Classifier, part: TrainingPart, val: Split, test: Split, augment, settings: Features, seed: int, folder: Path,
    known: dict[str, np.ndarray],
) -> None:
    """Writes views.npy (K, N, D), clean.npy (N, D), test.npy (N_test, D) and test_logits.npy; with experts (.., E, D). Where
    there are images to validate on, subset.val_index of `val`, their features go to val.npy (N_val, D).

    known: features of the model that are there already, under the names of their files
    View k of image i is augmented by draws keyed by (seed, k, i). Everything is streamed to disk: memory grows neither
    with K nor with N.
    With `bn: recalibrate_<statistics>` the batch-norm statistics are taken anew first, as training a head with the backbone in
    train mode would do, and the backbone is written as backbone.safetensors. Other methods than those whose originals have these
    statistics are refused by lt.core.batch_statistics: all methods read the same features.
    """
    if settings.bn != "frozen":
        known = {}
        recalibrate(model, part, augment, settings.bn.removeprefix("recalibrate_"), settings.batch_size, seed)
        artifacts.write_weights(folder / "backbone.safetensors", model.backbone)
    model.eval()
    size, dtype = settings.batch_size, np.dtype(settings.dtype)
    clean = write_features(folder / "clean.npy", model, part.images, size, dtype, known.get("clean"))
    views = artifacts.new_array(folder / "views.npy", (settings.views, *clean.shape), dtype)
    fill_views(views, model, part.images, augment, size, seed)
    views.flush()
    if len(part.subset.val_index):
        val_images = images_of(val, part.subset.val_index, part.images.device)
        write_features(folder / "val.npy", model, val_images, size, dtype)
    test_images = images_of(test, np.arange(len(test.labels)), part.images.device)
    test_features = write_features(folder / "test.npy", model, test_images, size, dtype, known.get("test"))
    artifacts.write_array(folder / "test_logits.npy", apply_head(model.head, test_features, part.images.device))


def write_features(
    path: Path, model: Classifier, images: torch.Tensor | Streamed, size: int, dtype: np.dtype, known: np.ndarray | None = None
) -> np.ndarray:
    """Writes the features of images as they are, (N, D) or with experts (N, E, D), a batch at a time, or those that are `known`;
    returns them memory-mapped."""
    experts = experts_of(model.backbone)
    width = (model.backbone.feature_dim,) if experts == 1 else (experts, model.backbone.feature_dim)
    features = artifacts.new_array(path, (len(images), *width), dtype)
    if known is None:
        features_of(model, images, size, dtype, out=features)
    else:
        features[:] = known
    features.flush()
    return features


def fill_views(views: np.ndarray, model: Classifier, images: torch.Tensor | Streamed, augment, size: int, seed: int) -> None:
    """Writes features of augmented images into views (K, N, ..), in batches of `size`; see extract."""
    for number, view in enumerate(views):
        key = keys.derive(seed, "view", number)
        features_of(model, images, size, view.dtype, lambda batch, start: augmented(
            batch, augment, key, torch.arange(start, start + len(batch), device=batch.device)), out=view)


@torch.no_grad()
def features_of(
    model: Classifier, images: torch.Tensor | Streamed, size: int, dtype: np.dtype, prepare: Callable | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Features of uint8 images (N, 3, H, W), or of embeddings (N, D), in batches; `prepare(batch, start)` gives the float images, plain scaling if None."""
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        batch = prepare(batch, start) if prepare else to_float(batch)
        features = model.features(batch).cpu().numpy().astype(dtype)
        if out is None:
            out = np.empty((len(images), *features.shape[1:]), dtype)
        out[start : start + size] = features
    return out


@torch.no_grad()
def apply_head(head: nn.Module, features: np.ndarray, device: torch.device, batch_size: int = 8192) -> np.ndarray:
    """Logits float32 of cached features (N, D), a batch at a time; see artifacts.joined."""
    head.eval()
    chunks = (torch.from_numpy(np.array(features[start : start + batch_size], dtype=np.float32)) for start in range(0, len(features), batch_size))
    return artifacts.joined((head(chunk.to(device)).float().cpu().numpy() for chunk in chunks), len(features))


@torch.no_grad()
def recalibrate(model: Classifier, part: TrainingPart, augment, statistics: str, batch_size: int, seed: int) -> None:
    """Batch-norm statistics anew: the plain average over one epoch's worth of augmented batches, drawn with replacement, but over
    one whole cycle at the least.

    statistics: natural, every image equally often; balanced, every class; mixture, two natural batches to a balanced one
    """
    model.train()  # but for layers that a backbone keeps frozen
    layers = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # cumulative average
    generator = keys.generator(seed, "recalibrate")
    balanced = (1.0 / torch.from_numpy(part.subset.counts))[torch.from_numpy(part.subset.train_labels)]
    weights = {"natural": torch.ones_like(balanced), "balanced": balanced}
    cycle = CYCLES[statistics]
    for step in range(max(len(cycle), len(part.labels) // batch_size)):
        drawn = weights[cycle[step % len(cycle)]]
        index = torch.multinomial(drawn, batch_size, replacement=True, generator=generator).to(part.images.device)
        positions = torch.arange(batch_size, device=part.images.device)
        model.features(augmented(part.images[index], augment, keys.derive(seed, "recalibrate", step), positions))
    for layer, momentum in zip(layers, momenta):
        layer.momentum = momentum
    model.eval()
