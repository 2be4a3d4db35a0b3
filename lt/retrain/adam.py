"""Adam by torch's fused kernel, without torch.optim's class, which takes a second to import a compiler."""

from typing import Iterable

import torch
from torch.optim.adam import adam


class Adam:
    """m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; p <- p - lr * m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + 1e-8), step t.

    As torch.optim.Adam. `lr` may be set at any time. Every parameter needs a gradient, in its `grad`, at each step.
    (source: Kingma and Ba 2015, Adam: a method for stochastic optimization, algorithm 1)
    """

    def __init__(self, parameters: Iterable[torch.Tensor], lr: float, betas: tuple[float, float]):
        self.parameters = list(parameters)
        self.lr, (self.beta1, self.beta2) = lr, betas
        self.means, self.squares = ([torch.zeros_like(parameter) for parameter in self.parameters] for _ in range(2))
        self.steps = [torch.zeros((), dtype=torch.float32, device=parameter.device) for parameter in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients."""
        gradients = [parameter.grad for parameter in self.parameters]
        adam(
            self.parameters, gradients, self.means, self.squares, [], self.steps, fused=True, foreach=False, amsgrad=False,
            beta1=self.beta1, beta2=self.beta2, lr=self.lr, weight_decay=0.0, eps=1e-8, maximize=False,
        )
