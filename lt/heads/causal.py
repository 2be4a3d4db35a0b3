"""Causal-norm head: normalised logits for training, and a balanced view (TDE) without the direction that all features share."""

import torch
from torch import nn
from torch.nn import functional as F

from lt.core.options import Count, OpenFraction, Positive, Real


def make(
    feature_dim: int,
    num_classes: int,
    *,
    num_heads: Count = 1,
    alpha: Real = 1.5,
    tau: Positive = 16.0,
    gamma_norm: Positive = 0.03125,
    mu: OpenFraction | None = None,
) -> nn.Module:
    """The features are split into K = num_heads slices f_k, and so are the class vectors w_k and the running feature mean m_k:

        f^_k = f_k / |f_k|      w^_k = w_k / (|w_k| + gamma_norm)      m^_k = m_k / |m_k|
        module(f)           tau/K sum_k  w^_k . f^_k                                    total effect, for training
        module.balanced(f)  tau/K sum_k  w^_k . (f^_k - alpha (f^_k . m^_k) m^_k)       total direct effect (TDE)

    alpha is read by the balanced view only, so it can be changed without training; alpha * mean(f^ . m^) near 1 is a good start.
    mu: decay of the running mean, see observe; null: from the learning rate; 0.9 in the released CIFAR settings

    returns a module, features (B, D) -> logits (B, C); raises ValueError where num_heads does not divide feature_dim
    Source: Tang et al. 2020, Long-Tailed Classification by Keeping the Good and Removing the Bad Momentum Causal Effect.
    """
    if feature_dim % num_heads:
        raise ValueError(f"num_heads: got {num_heads}, expected a divisor of the {feature_dim} features of the model")
    return CausalHead(feature_dim, num_classes, num_heads, alpha, tau, gamma_norm, mu)


class CausalHead(nn.Module):
    def __init__(
        self, feature_dim: int, num_classes: int, num_heads: int, alpha: float, tau: float, gamma_norm: float, mu: float | None
    ):
        super().__init__()
        bound = feature_dim**-0.5
        self.weight = nn.Parameter(torch.empty(num_classes, feature_dim).uniform_(-bound, bound))
        self.register_buffer("feature_mean", torch.zeros(feature_dim))
        self.num_heads, self.alpha, self.scale, self.gamma_norm, self.mu = num_heads, alpha, tau / num_heads, gamma_norm, mu

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self._logits(self._directions(features))

    def balanced(self, features: torch.Tensor) -> torch.Tensor:
        """The total direct effect: logits (B, C) without the part that the mean direction explains."""
        directions, mean = self._directions(features), self._directions(self.feature_mean)
        common = (directions * mean).sum(dim=-1, keepdim=True) * mean
        return self._logits(directions - self.alpha * common)

    def observe(self, features: torch.Tensor, lr: float) -> None:
        """Updates the running mean, m <- mu m + mean(f), with mu = 1 - 0.1 min(50 lr, 1) unless it was given.

        There is no factor (1 - mu): only the direction of m is used. As the learning rate falls, m reaches further back.
        """
        mu = 1 - 0.1 * min(50 * lr, 1) if self.mu is None else self.mu
        self.feature_mean.mul_(mu).add_(features.detach().mean(dim=0))

    def _directions(self, features: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., K, D/K), each slice of unit length, or zero where it is zero."""
        return F.normalize(features.unflatten(-1, (self.num_heads, -1)), dim=-1)

    def _logits(self, directions: torch.Tensor) -> torch.Tensor:
        weight = self.weight.unflatten(-1, (self.num_heads, -1))
        weight = weight / (weight.norm(dim=-1, keepdim=True) + self.gamma_norm)
        return self.scale * F.linear(directions.flatten(-2), weight.flatten(-2))
