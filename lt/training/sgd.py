"""Stochastic gradient descent by torch's fused kernel, without torch.optim's class, which takes a second to import a compiler."""

from typing import Any, Iterable, Sequence

import torch
from torch.optim.sgd import sgd


class SGD:
    """g = grad + weight_decay * p; m <- momentum * m + g; p <- p - lr * m, or p - lr * (g + momentum * m) with nesterov.

    As torch.optim.SGD without dampening. `lr` may be set at any time. Parameters without a gradient are left as they are.
    factors: what lr is multiplied by for each parameter; None for 1
    """

    def __init__(
        self, parameters: Iterable[torch.nn.Parameter], lr: float, momentum: float, weight_decay: float, nesterov: bool,
        factors: Sequence[float] | None = None,
    ):
        self.parameters = list(parameters)
        self.lr = lr
        self.factors = [1.0] * len(self.parameters) if factors is None else list(factors)
        self.options = {"momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        self.momenta = [torch.zeros_like(parameter) if momentum else None for parameter in self.parameters]

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients."""
        for factor in dict.fromkeys(self.factors):
            triples = zip(self.parameters, self.momenta, self.factors, strict=True)
            pairs = [(parameter, momentum) for parameter, momentum, own in triples if own == factor and parameter.grad is not None]
            parameters, momenta = [parameter for parameter, _ in pairs], [momentum for _, momentum in pairs]
            gradients, lr = [parameter.grad for parameter in parameters], factor * self.lr
            sgd(parameters, gradients, momenta, fused=True, foreach=False, lr=lr, dampening=0.0, maximize=False, **self.options)

    def state_dict(self) -> dict[str, Any]:
        """The momenta, in the parameters' order."""
        return {"momenta": self.momenta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over the momenta that state_dict gave."""
        for own, saved in zip(self.momenta, state["momenta"], strict=True):
            if own is not None:
                own.copy_(saved)
