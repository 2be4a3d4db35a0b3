"""ResNet-8, for small images on a CPU."""

from torch import nn

from lt.network.resnet import ResNet


def make() -> nn.Module:
    """Residual network with one basic block per stage: images (B, 3, H, W) -> features (B, 64)."""
    return ResNet(n=1)
