"""Low-rank adapters: beside each linear layer of a frozen transformer's attention and MLP, a narrow one that is trained."""

import torch
from torch import nn

# Parts of a transformer's block, as timm names them.
PARTS = ("attn", "mlp")


class LowRank(nn.Module):
    """x -> W x + b + U D x, with D (r, D_in) random and U (D_out, r) zero at first, so that nothing changes at the start.

    layer: W and b, frozen by whoever freezes    rank: r, at least 1
    (source: Hu et al. 2022, LoRA: Low-Rank Adaptation of Large Language Models, section 4.1, its factor alpha / r being 1)
    """

    def __init__(self, layer: nn.Linear, rank: int):
        super().__init__()
        self.layer = layer
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).add_(self.up(self.down(x)))  # in place: of tensors this size every one counts

    @property
    def weight(self) -> torch.Tensor:
        """W + U D, for networks that read a layer's weight instead of calling it."""
        return self.layer.weight + self.up.weight @ self.down.weight

    @property
    def bias(self) -> torch.Tensor | None:
        return self.layer.bias

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One layer that computes the same, W + U D; the adapted layer itself, changed."""
        self.layer.weight.copy_(self.weight)
        return self.layer


def adapt(network: nn.Module, rank: int) -> list[str]:
    """Puts an adapter beside each linear layer of the network's attention and MLP parts that has a higher rank, in place.

    returns the names of the adapters' parameters; raises ValueError where there is no such layer
    """
    linear = {name: part for name, part in network.named_modules() if isinstance(part, nn.Linear) and set(PARTS) & set(name.split("."))}
    found = {name: layer for name, layer in linear.items() if min(layer.weight.shape) > rank}
    if not found:
        raise ValueError(f"got a network of {len(linear)} linear layers in attention and MLP, none of rank above {rank}; expected a transformer")
    for name, layer in found.items():
        network.set_submodule(name, LowRank(layer, rank))
    return [f"{name}.{part}.weight" for name in found for part in ("down", "up")]


def merge(model: nn.Module) -> nn.Module:
    """Puts a plain layer in the place of every adapted one, in place: the same outputs, at the plain network's cost."""
    for name, part in list(model.named_modules()):
        if isinstance(part, LowRank):
            model.set_submodule(name, part.merged())
    return model
