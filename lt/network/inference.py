"""Logits of images, a batch at a time."""

import numpy as np
import torch

from lt.core import artifacts
from lt.data.split import Split
from lt.input.streamed import to_device, to_float
from lt.network.classifier import Classifier


@torch.no_grad()
def predict(model: Classifier, split: Split, where: torch.device, batch_size: int = 512) -> np.ndarray:
    """Logits of a split's images as they are: (N, C) or with experts (N, E, C) float32; see artifacts.joined."""
    model.eval()
    chunks = (split.read(np.arange(start, min(start + batch_size, len(split.labels)))) for start in range(0, len(split.labels), batch_size))
    logits = (model(to_float(to_device(chunk, where))).float().cpu().numpy() for chunk in chunks)
    return artifacts.joined(logits, len(split.labels))
