"""ResNet-152, the backbone of the published Places-LT tables."""

from typing import Literal

from torch import nn

from lt.core.options import Count
from lt.network.torchvision_resnet import make as make_torchvision


def make(
    *, weights: str | None = None, trainable: Literal["all", "last_block", "head"] = "all", projection: Count | None = None,
    projection_group: Literal["head", "trunk"] = "head",
) -> nn.Module:
    """Bottleneck blocks 3, 8, 36, 3; 58,143,808 parameters: images (B, 3, H, W) -> features (B, 2048), none negative.

    For the options see lt.network.torchvision_resnet.make. Raises ValueError where the weights cannot be had or do not fit.
    Source: He et al. 2016, Deep Residual Learning for Image Recognition.
    """
    return make_torchvision("resnet152", weights, trainable, projection, projection_group)
