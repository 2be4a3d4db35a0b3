"""Rescaling the class vectors of a linear head: by learned factors (LWS), or by a power of their length (tau-normalisation)."""

import torch
from torch import nn

from lt.retrain.heads import dtype_of, linear_parts


class Scaled(nn.Module):
    """scales * head(features), with the head frozen: one factor per class, shared by experts, ones at first.

    method: its name, for the ValueError where the head is not linear
    """

    def __init__(self, head: nn.Module, num_classes: int, method: str):
        super().__init__()
        self.parts = linear_parts(head, method)
        self.head = head.requires_grad_(False)
        self.scales = nn.Parameter(torch.ones(num_classes, dtype=dtype_of(head), device=next(head.parameters()).device))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.scales * self.head(features)

    def columns(self) -> dict[str, float]:
        """Columns of a log: mean, least and greatest scale."""
        scales = self.scales.detach()
        return {"scale_mean": scales.mean().item(), "scale_min": scales.min().item(), "scale_max": scales.max().item()}

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The head with the scales multiplied into its weights and biases, in place, trainable again."""
        for part in self.parts:
            part.weight.mul_(self.scales[:, None])
            if part.bias is not None:
                part.bias.mul_(self.scales)
        return self.head.requires_grad_(True)


@torch.no_grad()
def normalise(head: nn.Module, tau: float, method: str, keep_bias: bool = False) -> None:
    """w_c <- w_c / |w_c|^tau, in place, with the bias as it is or zero; ValueError as in linear_parts and normalised."""
    for part in linear_parts(head, method):
        part.weight.copy_(normalised(part.weight, tau))
        if part.bias is not None and not keep_bias:
            part.bias.zero_()


def normalised(weight: torch.Tensor, tau: float) -> torch.Tensor:
    """w_c / |w_c|^tau: class vectors (C, D) -> (C, D); ValueError where one has no direction."""
    norms = weight.norm(dim=1, keepdim=True)
    if not (norms > 0).all():
        bad = torch.nonzero(~(norms[:, 0] > 0)).flatten().tolist()[:10]
        raise ValueError(
            f"tau_norm: the class vectors of classes {bad} are zero or not a number; train the base model with less weight decay"
        )
    return weight / norms**tau
