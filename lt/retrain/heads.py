"""What a head is made of, and derivatives along its parameters."""

import torch
from torch import nn
from torch.func import functional_call

from lt.network.classifier import ExpertHeads


def trainable(head: nn.Module) -> dict[str, nn.Parameter]:
    """The head's parameters that require a gradient, by name."""
    return {name: parameter for name, parameter in head.named_parameters() if parameter.requires_grad}


def dtype_of(head: nn.Module) -> torch.dtype:
    """Floating-point type of a head's parameters, which its features must have."""
    return next(head.parameters()).dtype


def inner_products(
    head: nn.Module,
    parameters: dict[str, torch.Tensor],
    features: torch.Tensor,
    residual: torch.Tensor,
    direction: dict[str, torch.Tensor],
) -> torch.Tensor:
    """<g_b, v> for each example: how fast its loss grows along v, without a gradient per example.

    With g_b = d loss_b / d theta and r_b = d loss_b / d logits_b, <g_b, v> = r_b . (d logits_b / d theta) v. For a linear head
    the last factor is G_W f_b + G_c, with v = (G_W, G_c). The head's state is not changed.

    parameters: theta, by name    features (B, D)    residual (B, C), with experts (B, E, C)    direction: v, named as theta
    returns (B,)
    """
    if is_linear(head):
        tangent = functional_call(head, direction, (features,))
    else:
        # The derivative along v, as the derivative of u -> u . (d logits / d theta) v: two passes of reverse mode.
        point = {name: parameters[name].detach().requires_grad_() for name in direction}
        cotangent = torch.zeros_like(residual, requires_grad=True)
        logits = functional_call(head, point, (features,))
        pulled_back = torch.autograd.grad(logits, list(point.values()), cotangent, create_graph=True)
        (tangent,) = torch.autograd.grad(pulled_back, cotangent, list(direction.values()))
    return (residual * tangent).flatten(1).sum(1).detach()


def is_linear(head: nn.Module) -> bool:
    """Whether the head, or each expert's, is lt/heads/linear.py."""
    return all(isinstance(part, nn.Linear) for part in parts_of(head))


def parts_of(head: nn.Module) -> list[nn.Module]:
    """The heads of the experts, or the head alone."""
    return list(head.heads) if isinstance(head, ExpertHeads) else [head]


def linear_parts(head: nn.Module, method: str) -> list[nn.Linear]:
    """The linear layers of a head, one per expert; ValueError if it is of another kind than lt/heads/linear.py."""
    if not is_linear(head):
        raise ValueError(
            f"{method} rescales the class vectors of a linear head; got a base model with {type(parts_of(head)[0]).__name__}; "
            f"leave {method} out of methods (balms, balanced_softmax, crt, longtail_da, meta_reweighter, ncm and pc take any "
            "head), or set head: linear"
        )
    return parts_of(head)
