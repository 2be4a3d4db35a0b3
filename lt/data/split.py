"""What a data set plug-in hands over: images or embeddings, labels, class names. numpy only; images may be decoded lazily."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class ImageSource(Protocol):
    """Images that are decoded when asked for: `shape` (N, H, W, 3) and `read(index)` -> (B, H, W, 3) uint8."""

    shape: tuple[int, int, int, int]

    def read(self, index: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Split:
    """One part (train or test) of a data set.

    images (N, H, W, 3) uint8 in memory, or an ImageSource; or embeddings (N, D) float32, which stand wherever images do
    labels (N,) int64 in [0, C)    classes: C names in label order
    mean, std: per channel, of images scaled to [0, 1]; (0,) and (1,) of embeddings, which are taken as they are
    """

    images: np.ndarray | ImageSource
    labels: np.ndarray
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self):
        shape = tuple(self.images.shape)
        is_embeddings = len(shape) == 2 and self.images.dtype == np.float32
        if not is_embeddings and (len(shape) != 4 or shape[3] != 3):
            raise ValueError(f"images: got shape {shape}, expected (N, H, W, 3), or (N, D) float32 for embeddings")
        if self.labels.shape != (shape[0],) or self.labels.dtype != np.int64:
            raise ValueError(f"labels: got {self.labels.dtype} {self.labels.shape}, expected int64 ({shape[0]},), one per image")
        if len(self.labels) and not (0 <= self.labels.min() and self.labels.max() < len(self.classes)):
            raise ValueError(
                f"labels: got values {self.labels.min()} to {self.labels.max()}, expected 0 to {len(self.classes) - 1} "
                f"for {len(self.classes)} classes"
            )

    @property
    def image_size(self) -> int | None:
        """Side of the (square) images in pixels; None where there are embeddings."""
        return self.images.shape[1] if len(self.images.shape) == 4 else None

    def read(self, index: np.ndarray) -> np.ndarray:
        """Images of the given positions: index (B,) -> (B, H, W, 3) uint8; or embeddings (B, D) float32."""
        return self.images[index] if isinstance(self.images, np.ndarray) else self.images.read(index)
