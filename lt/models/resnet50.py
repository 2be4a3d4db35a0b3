"""ResNet-50, as torchvision has it."""

from typing import Literal

from torch import nn

from lt.core.options import Count
from lt.network.torchvision_resnet import make as make_torchvision


def make(
    *, weights: str | None = None, trainable: Literal["all", "last_block", "head"] = "all", projection: Count | None = None,
    projection_group: Literal["head", "trunk"] = "head",
) -> nn.Module:
    """Bottleneck blocks 3, 4, 6, 3; 23,508,032 parameters: images (B, 3, H, W) -> features (B, 2048), none negative.

    For the options see lt.network.torchvision_resnet.make. Raises ValueError where the weights cannot be had or do not fit.
    Source: He et al. 2016, Deep Residual Learning for Image Recognition.
    """
    return make_torchvision("resnet50", weights, trainable, projection, projection_group)
