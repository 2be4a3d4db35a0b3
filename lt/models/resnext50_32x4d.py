"""ResNeXt-50 with 32 groups of width 4, as torchvision has it."""

from typing import Literal

from torch import nn

from lt.core.options import Count
from lt.network.torchvision_resnet import make as make_torchvision


def make(
    *, weights: str | None = None, trainable: Literal["all", "last_block", "head"] = "all", projection: Count | None = None,
    projection_group: Literal["head", "trunk"] = "head",
) -> nn.Module:
    """Bottleneck blocks 3, 4, 6, 3; 22,979,904 parameters: images (B, 3, H, W) -> features (B, 2048), none negative.

    For the options see lt.network.torchvision_resnet.make. Raises ValueError where the weights cannot be had or do not fit.
    Source: Xie et al. 2017, Aggregated Residual Transformations for Deep Neural Networks.
    """
    return make_torchvision("resnext50_32x4d", weights, trainable, projection, projection_group)
