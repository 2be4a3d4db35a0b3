"""Parts of the residual networks for small images (He et al. 2016, section 4.2): stem, stages of basic blocks, initialisation."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """Basic block: relu( bn(conv(relu(bn(conv(f))))) + shortcut(f) ), (B, in_width, H, W) -> (B, width, H / stride, W / stride).

    The shortcut has no parameters (option A): it takes every stride-th pixel and fills up the channels with zeros, as many
    before the old channels as after them.
    """

    def __init__(self, in_width: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride = stride
        self.channels_each_side = (width - in_width) // 2

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        residual = F.relu(self.bn1(self.conv1(features)))
        residual = self.bn2(self.conv2(residual))
        return F.relu(residual + self.shortcut(features))

    def shortcut(self, features: torch.Tensor) -> torch.Tensor:
        """(B, in_width, H, W) -> (B, width, H / stride, W / stride)."""
        if self.stride > 1:
            features = features[:, :, :: self.stride, :: self.stride]
        if self.channels_each_side:
            features = F.pad(features, (0, 0, 0, 0, self.channels_each_side, self.channels_each_side))
        return features


def stem(width: int) -> nn.Sequential:
    """First convolution: images (B, 3, H, W) -> (B, width, H, W)."""
    conv = nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(width), relu=nn.ReLU()))


def stage(in_width: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """`blocks` basic blocks, the first of which widens and strides: (B, in_width, H, W) -> (B, width, H / stride, W / stride)."""
    return nn.Sequential(Block(in_width, width, stride), *(Block(width, width, 1) for _ in range(blocks - 1)))


def pool(features: torch.Tensor) -> torch.Tensor:
    """Mean over the pixels: (B, D, H, W) -> (B, D)."""
    return features.mean(dim=(2, 3))


def initialise(module: nn.Module) -> None:
    """Draws every convolution from N(0, 2 / fan_in) (He et al. 2015), from torch's global generator."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)


class ResNet(nn.Module):
    """Residual network of 6n + 2 layers with 16, 32 and 64 channels: images (B, 3, H, W) -> features (B, 64), none negative.

    n: basic blocks per stage
    """

    feature_dim = 64
    stage_dims = (16, 32, 64)

    def __init__(self, n: int):
        super().__init__()
        self.stem = stem(16)
        self.stage1 = stage(16, 16, n, stride=1)
        self.stage2 = stage(16, 32, n, stride=2)
        self.stage3 = stage(32, 64, n, stride=2)
        initialise(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.stages(images)[-1]

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Features after each of the stages, (B, stage_dims[i]); the last are those that forward gives."""
        first = self.stage1(self.stem(images))
        second = self.stage2(first)
        return pool(first), pool(second), pool(self.stage3(second))
