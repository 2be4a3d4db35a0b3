"""Linear head."""

from torch import nn


def make(feature_dim: int, num_classes: int, *, bias: bool = True) -> nn.Module:
    """logits = W f + b, torch's own initialisation U(-1/sqrt(D), 1/sqrt(D)).

    returns a module, features (B, D) -> logits (B, C)
    """
    return nn.Linear(feature_dim, num_classes, bias=bias)
