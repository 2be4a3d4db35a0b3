"""ResNet-32, the backbone of the published CIFAR-LT tables."""

from torch import nn

from lt.network.resnet import ResNet


def make() -> nn.Module:
    """Residual network with five basic blocks per stage, 463,504 parameters: images (B, 3, H, W) -> features (B, 64).

    Beware of networks of four times its width, or of ResNet-34, that appear under its name in the literature.
    Source: He et al. 2016, Deep Residual Learning for Image Recognition, section 4.2.
    """
    return ResNet(n=5)
