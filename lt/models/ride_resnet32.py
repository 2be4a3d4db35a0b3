"""RIDE's ResNet-32: experts that share the first stage and have the other two each to themselves."""

from collections import OrderedDict

import torch
from torch import nn

from lt.core.options import Count
from lt.network.resnet import initialise, pool, stage, stem


def make(*, experts: Count = 3, reduce_dimension: bool = True) -> nn.Module:
    """images (B, 3, H, W) -> features (B, E, D), one row per expert, or (B, D) with a single one; each expert needs its own head.

    experts: E    reduce_dimension: experts have 24 and 48 channels (D = 48) instead of 32 and 64 (D = 64)
    Source: Wang et al. 2021, Long-tailed Recognition by Routing Diverse Distribution-Aware Experts.
    """
    return RIDEResNet32(experts, reduce_dimension)


class RIDEResNet32(nn.Module):
    def __init__(self, experts: int, reduce_dimension: bool):
        super().__init__()
        width2, width3 = (24, 48) if reduce_dimension else (32, 64)
        self.feature_dim = width3
        self.num_experts = experts
        self.stage_dims = (16, width2, width3)
        self.stem = stem(16)
        self.stage1 = stage(16, 16, 5, stride=1)
        self.experts = nn.ModuleList(_expert(width2, width3) for _ in range(experts))
        initialise(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.stages(images)[-1]

    def stages(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Features after each of the stages, (B, E, stage_dims[i]) or (B, stage_dims[i]); the last are those that forward gives.

        After the first stage, which they share, the experts' features are the same.
        """
        shared = self.stage1(self.stem(images))
        second = [expert.stage2(shared) for expert in self.experts]
        third = [expert.stage3(maps) for expert, maps in zip(self.experts, second)]
        return _each([shared] * len(second)), _each(second), _each(third)


def _each(maps: list[torch.Tensor]) -> torch.Tensor:
    """Pooled maps (B, D, H, W) of E experts -> (B, E, D), of a single one (B, D)."""
    return torch.stack([pool(features) for features in maps], dim=1).squeeze(1)


def _expert(width2: int, width3: int) -> nn.Sequential:
    """(B, 16, H, W) -> (B, width3, H / 4, W / 4)."""
    return nn.Sequential(OrderedDict(stage2=stage(16, width2, 5, stride=2), stage3=stage(width2, width3, 5, stride=2)))
