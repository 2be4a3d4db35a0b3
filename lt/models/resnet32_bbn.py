"""ResNet-32 with a doubled last block, the backbone of BBN, LADE and xERM on CIFAR-LT."""

import torch
from torch import nn

from lt.network.resnet import Block, initialise, pool, stage, stem


def make() -> nn.Module:
    """ResNet-32 whose last block stands twice, side by side: images (B, 3, H, W) -> features (B, 128), 537,488 parameters.

    Twice as wide at its end as ResNet-32: compare with rows of the same backbone only.
    Source: Zhou et al. 2020, BBN: Bilateral-Branch Network with Cumulative Learning for Long-Tailed Visual Recognition.
    """
    return BBNResNet32()


class BBNResNet32(nn.Module):
    feature_dim = 128
    stage_dims = (16, 32, 128)

    def __init__(self):
        super().__init__()
        self.stem = stem(16)
        self.stage1 = stage(16, 16, 5, stride=1)
        self.stage2 = stage(16, 32, 5, stride=2)
        self.stage3 = stage(32, 64, 4, stride=2)
        self.branch1 = Block(64, 64, stride=1)
        self.branch2 = Block(64, 64, stride=1)
        initialise(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.stages(images)[-1]

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Features after each of the stages, (B, stage_dims[i]); the last, of both branches, are those that forward gives."""
        first = self.stage1(self.stem(images))
        second = self.stage2(first)
        third = self.stage3(second)
        return pool(first), pool(second), torch.cat([pool(self.branch1(third)), pool(self.branch2(third))], dim=1)
