"""LWS, learnable weight scaling: one factor per class on the logits of the frozen base head."""

import numpy as np
import torch
from torch import nn

from lt import keys
from lt.contracts import Inputs, Retrained
from lt.losses import ce
from lt.options import Count, Fraction, NonNegative, Positive
from lt.retraining import ClassPool, FeatureBank, dtype_of, fit_head, linear_parts


class Scaled(nn.Module):
    """scales * head(features), with the head frozen: one factor per class, shared by experts."""

    def __init__(self, head: nn.Module, num_classes: int):
        super().__init__()
        self.head = head.requires_grad_(False)
        self.scales = nn.Parameter(torch.ones(num_classes, dtype=dtype_of(head), device=next(head.parameters()).device))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.scales * self.head(features)


def fit(
    inputs: Inputs,
    *,
    steps: Count = 500,
    batch_size: Count = 128,
    lr: Positive = 0.1,
    momentum: Fraction = 0.9,
    weight_decay: NonNegative = 5e-4,
    nesterov: bool = False,
) -> Retrained:
    """logits = s * (W f + b), where only s (C,) is trained, from ones, with class-balanced sampling and cross-entropy.

    The scale multiplies the bias as well. The result is a plain linear head with the scales folded in; weight decay pulls
    the scales towards zero, as in the published protocol.

    returns the head, its log with the spread of the scales, and the array `scales` (C,)
    raises ValueError where the base head is not linear    (source: Kang et al. 2020, Decoupling, section 4.3)
    """
    generator = keys.generator(inputs.seed, "lws")
    head = inputs.head.to(inputs.device)
    parts = linear_parts(head, "lws")
    scaled = Scaled(head, len(inputs.counts))
    pool = ClassPool(inputs.labels, len(inputs.counts))

    def columns() -> dict[str, float]:
        scales = scaled.scales.detach()
        return {"scale_mean": scales.mean().item(), "scale_min": scales.min().item(), "scale_max": scales.max().item()}

    log = fit_head(
        scaled, ce.make(inputs.counts).to(inputs.device), FeatureBank(inputs, dtype_of(head)),
        lambda: pool.draw_balanced(batch_size, generator), generator,
        steps=steps, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, columns=columns,
    )
    scales = scaled.scales.detach()
    for part in parts:
        part.weight.mul_(scales[:, None])
        if part.bias is not None:
            part.bias.mul_(scales)
    uniform = np.full(len(inputs.counts), 1 / len(inputs.counts))
    return Retrained(head.requires_grad_(True), logit_prior=uniform, log=log, arrays={"scales": scales.cpu().numpy()})
