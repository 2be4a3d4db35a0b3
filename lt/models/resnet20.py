"""ResNet-20, between speed and accuracy."""

from torch import nn

from lt.network.resnet import ResNet


def make() -> nn.Module:
    """Residual network with three basic blocks per stage: images (B, 3, H, W) -> features (B, 64).

    Source: He et al. 2016, Deep Residual Learning for Image Recognition, section 4.2.
    """
    return ResNet(n=3)
