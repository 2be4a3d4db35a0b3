"""ResNet-10, the small backbone of the published ImageNet-LT tables."""

from typing import Literal

from torch import nn

from lt.core.options import Count
from lt.network.torchvision_resnet import make as make_torchvision

REFUSES = {"weights": ("torchvision", "which has none of resnet10; expected a file, or null")}


def make(
    *, weights: str | None = None, trainable: Literal["all", "last_block", "head"] = "all", projection: Count | None = None,
    projection_group: Literal["head", "trunk"] = "head",
) -> nn.Module:
    """One basic block per stage, 4,905,792 parameters: images (B, 3, H, W) -> features (B, 512), none negative.

    For the options see lt.network.torchvision_resnet.make. Raises ValueError where the weights cannot be had or do not fit.
    Source: He et al. 2016, Deep Residual Learning for Image Recognition; with one block per stage in Liu et al. 2019, OLTR.
    """
    return make_torchvision("resnet10", weights, trainable, projection, projection_group)
