"""The nearest class mean: a head that is filled instead of trained."""

import numpy as np
import torch
from torch.nn import functional as F

from lt.core.counts import uniform
from lt.retrain.contracts import Inputs, Retrained
from lt.retrain.heads import parts_of

ROWS_AT_ONCE = 65_536


def nearest_mean(inputs: Inputs, space: str) -> Retrained:
    """A nearest_mean head with the class means of the clean features, part by part; its logits embody the uniform prior, because
    the rule counts every class once.

    space: cl2n, l2n, cosine or plain, as lt.methods.ncm has them
    """
    head = inputs.new_head("nearest_mean", normalise=space != "plain").to(inputs.device)
    for number, part in enumerate(parts_of(head)):
        clean = inputs.clean if inputs.clean.ndim == 2 else inputs.clean[:, number]
        centre = clean.mean(0, dtype=np.float64) if space == "cl2n" else np.zeros(clean.shape[1])
        means = torch.from_numpy(class_means(clean, centre, inputs.labels, inputs.counts, scaled=space in ("cl2n", "l2n")))
        with torch.no_grad():
            part.centre.copy_(torch.from_numpy(centre))
            part.means.copy_(F.normalize(means, dim=1) if space == "cosine" else means)
    return Retrained(head, logit_prior=uniform(len(inputs.counts)))


def class_means(features: np.ndarray, centre: np.ndarray, labels: np.ndarray, counts: np.ndarray, scaled: bool) -> np.ndarray:
    """Mean of f - centre over each class, `scaled` to unit length before, a part of the rows at a time and in float64.

    features (N, D)    centre (D,)    labels (N,)    counts (C,)    returns (C, D)
    """
    sums = torch.zeros(len(counts), features.shape[1], dtype=torch.float64)
    for start in range(0, len(features), ROWS_AT_ONCE):
        rows = torch.from_numpy(features[start : start + ROWS_AT_ONCE] - centre)
        rows = F.normalize(rows, dim=1) if scaled else rows
        sums.index_add_(0, torch.from_numpy(labels[start : start + ROWS_AT_ONCE]), rows)
    return sums.numpy() / counts[:, None]
