"""No network: embeddings that another one has made, or whatever columns describe an example, are the features."""

import torch
from torch import nn

from lt.core.options import Count

NEEDS = {"dataset": (["embeddings"], "which passes features on")}


def make(*, width: Count | None = None) -> nn.Module:
    """embeddings (B, D) -> the same, for dataset embeddings and train.epochs 0.

    width: D; null: that of the data
    raises ValueError without a width, and in use where embeddings have another one
    """
    if width is None:
        raise ValueError("models.identity.width: got null, which is for dataset embeddings alone, whose width it then is")
    return Identity(width)


class Identity(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.feature_dim = width

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        if embeddings.ndim != 2 or embeddings.shape[1] != self.feature_dim:
            raise ValueError(
                f"embeddings: got {tuple(embeddings.shape)}, width {embeddings.shape[-1]}, expected (B, {self.feature_dim}), the width "
                "of the base model; give embeddings of the same network, or run the stage base again"
            )
        return embeddings
