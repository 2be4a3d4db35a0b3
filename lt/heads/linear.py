"""Linear head."""

from typing import Literal

from torch import nn


def make(
    feature_dim: int, num_classes: int, *, bias: bool = True, init: Literal["torch", "kaiming_normal"] = "torch"
) -> nn.Module:
    """logits = W f + b; at first b ~ U(-1/sqrt(D), 1/sqrt(D)), and W by `init`.

    init: torch, W as b, of standard deviation 1/sqrt(3 D), 0.072 at D = 64; kaiming_normal, W ~ N(0, 2/D), 0.177 at D = 64, as the
        released networks of Prior-LT, DRO-LT and Longtail_DA start (He et al. 2015, which derives it for layers before a ReLU)

    returns a module, features (B, D) -> logits (B, C)
    """
    head = nn.Linear(feature_dim, num_classes, bias=bias)
    if init == "kaiming_normal":
        nn.init.kaiming_normal_(head.weight)
    return head
