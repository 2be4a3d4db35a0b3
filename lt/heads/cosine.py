"""Cosine head: logits depend on the angle between features and class vectors, so no class wins by the length of its vector."""

import torch
from torch import nn
from torch.nn import functional as F

from lt.core.options import Positive


def make(feature_dim: int, num_classes: int, *, scale: Positive = 30.0) -> nn.Module:
    """logits_c = scale * cos(f, w_c); class vectors start at unit length. Zero features give zero logits.

    returns a module, features (B, D) -> logits (B, C) in [-scale, scale]
    Source: Cao et al. 2019 (LDAM), Wang et al. 2021 (RIDE), both with scale 30.
    """
    return CosineHead(feature_dim, num_classes, scale)


class CosineHead(nn.Module):
    def __init__(self, feature_dim: int, num_classes: int, scale: float):
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.empty(num_classes, feature_dim).uniform_(-1, 1), dim=1))
        self.scale = scale

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.scale * F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))
