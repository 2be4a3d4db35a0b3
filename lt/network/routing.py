"""Routing: an image passes one expert after another, until those before are judged to be enough for it."""

import torch
from torch import nn
from torch.nn import functional as F


class Routed(nn.Module):
    """Experts whose mean is taken over the first ones alone, for each image over as many as it needs.

    With logits z_i and features f_i of expert i, m_i = mean_(j <= i) z_j, and one V_i, a_i for each expert but the last:

        u_i = w . [top(m_i), relu(V_i f_i / |f_i| + a_i)] + b

    An image that has come to expert i goes on to the next where u_i > 0, and else stays with m_i. All are computed, and then
    chosen from: how much an image costs is told by `experts`, and not saved here.

    features (B, E, D) -> logits (B, E, C), the same E times: the mean over the experts that the image has passed
    heads: ExpertHeads or alike    top: how many of the largest logits are looked at, at most C    hidden: rows of V_i
    (source: Wang et al. 2021, Long-tailed Recognition by Routing Diverse Distribution-Aware Experts, and its release)
    """

    def __init__(self, heads: nn.Module, num_experts: int, feature_dim: int, num_classes: int, top: int, hidden: int):
        super().__init__()
        self.heads, self.top = heads, min(top, num_classes)
        self.hidden = nn.ModuleList(nn.Linear(feature_dim, hidden) for _ in range(num_experts - 1))
        self.need = nn.Linear(self.top + hidden, 1)
        for layer in (*self.hidden, self.need):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        means, needs = self.judged(features)
        last = (self.experts(needs) - 1)[:, None, None].expand(-1, 1, means.shape[2])
        return means.gather(1, last).expand_as(means)

    def judged(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Means m (B, E, C) over the experts so far, and u (B, E - 1)."""
        logits = self.heads(features)
        before = logits.new_ones(logits.shape[1], logits.shape[1]).tril()
        means = before / before.sum(1, keepdim=True) @ logits
        needs = []
        for i, layer in enumerate(self.hidden):
            seen = layer(F.normalize(features[:, i], dim=1)).relu()
            needs.append(self.need(torch.cat([means[:, i].topk(self.top, dim=1).values, seen], dim=1)))
        return means, torch.cat(needs, dim=1)

    @staticmethod
    def experts(needs: torch.Tensor) -> torch.Tensor:
        """How many experts each image passes: u (B, E - 1) -> (B,) int64, 1 to E."""
        return 1 + (needs > 0).long().cumprod(1).sum(1)
