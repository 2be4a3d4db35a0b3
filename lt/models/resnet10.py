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

    weights: None; a file and its hash, see lt.network.pretrained.load
    trainable: all; last_block: the fourth stage and what follows; head: only what follows the trunk
    projection: width of a further linear layer with ReLU; None for none
    projection_group: head, where it learns at the full rate, or trunk, where it learns at backbone_lr_factor times it
    raises ValueError where the weights cannot be had or do not fit
    Source: He et al. 2016, Deep Residual Learning for Image Recognition; with one block per stage in Liu et al. 2019, OLTR.
    """
    return make_torchvision("resnet10", weights, trainable, projection, projection_group)
