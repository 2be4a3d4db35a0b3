"""Nearest-mean head: the class whose mean is nearest to the centred, normalised features wins."""

import torch
from torch import nn
from torch.nn import functional as F

from lt.core.options import Positive


def make(feature_dim: int, num_classes: int, *, scale: Positive = 15.0, normalise: bool = True) -> nn.Module:
    """logits_c = scale * (2 m_c . g - |m_c|^2) with g = (f - centre) / |f - centre|, largest where |g - m_c| is smallest.

    `means` (C, D) are parameters, `centre` (D,) is a buffer: fill them with the class means of g and the mean of f for the
    classifier without training, or train the means like any head (they start at random, at unit length, the centre at zero).
    With means of unit length it ranks as a cosine head of scale 2 * scale does.

    normalise: false takes g = f - centre, Euclidean distances of features as they are

    returns a module, features (B, D) -> logits (B, C)
    Source: Kang et al. 2020, Decoupling Representation and Classifier for Long-Tailed Recognition (NCM, 'cl2n').
    """
    return NearestMeanHead(feature_dim, num_classes, scale, normalise)


class NearestMeanHead(nn.Module):
    def __init__(self, feature_dim: int, num_classes: int, scale: float, normalise: bool):
        super().__init__()
        self.means = nn.Parameter(F.normalize(torch.empty(num_classes, feature_dim).uniform_(-1, 1), dim=1))
        self.register_buffer("centre", torch.zeros(feature_dim))
        self.scale, self.normalise = scale, normalise

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.scale * (2 * F.linear(self.normalised(features), self.means) - self.means.square().sum(dim=1))

    def normalised(self, features: torch.Tensor) -> torch.Tensor:
        """Features (B, D), centred and, with `normalise`, of unit length; means are to be taken of these."""
        return F.normalize(features - self.centre, dim=1) if self.normalise else features - self.centre
