"""What backbones of other libraries share: images resized to the network's input, what is frozen, the width of its features."""

import difflib
from typing import Iterable

import torch
from torch import nn
from torch.nn import functional as F


class PretrainedNetwork(nn.Module):
    """images (B, 3, H, W) of any size, normalised -> features (B, D): a network without its last layer.

    Images of another size than the network's input are resized to it here, on the device, so that a data set keeps, and an
    augmentation sees, its own. Parts that are not trained stay in evaluation mode, whatever train() says.

    normalisation: mean and std of the images that the network was made for; a Classifier takes these instead of the data set's
    image_size: side in pixels of its input    interpolation: bilinear or bicubic    trained: names of its parameters that are
    raises ValueError where the network cannot take the size
    """

    def __init__(
        self, network: nn.Module, mean: Iterable[float], std: Iterable[float], image_size: int, interpolation: str,
        trained: Iterable[str],
    ):
        super().__init__()
        self.trunk = network
        self.normalisation = tuple(mean), tuple(std)
        self.image_size, self.interpolation = image_size, interpolation
        trained = set(trained)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in trained)
        self.feature_dim = self._width()
        self.train()

    @torch.no_grad()
    def _width(self) -> int:
        self.eval()
        like = next(self.trunk.parameters())
        features = self.trunk(torch.zeros(1, 3, self.image_size, self.image_size, device=like.device))
        if not isinstance(features, torch.Tensor) or features.ndim != 2:
            raise ValueError("got a network that gives no row of pooled features per image; expected one that classifies images")
        return features.shape[1]

    def train(self, mode: bool = True) -> "PretrainedNetwork":
        """Sets the mode of all parts but those whose parameters are all frozen."""
        super().train(mode)
        for part in self.trunk.modules():
            own = list(part.parameters())
            if own and not any(parameter.requires_grad for parameter in own):
                part.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        size = (self.image_size, self.image_size)
        if images.shape[2:] != size:
            images = F.interpolate(images, size=size, mode=self.interpolation, align_corners=False, antialias=True)
        return self.trunk(images)


def nearest(key: str, name: str, known: list[str], what: str) -> ValueError:
    """The error for a name that is not among very many."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    return ValueError(f"{key}: got {name!r}, expected one of the {len(known)} {what}{hint}")


def from_last_block(network: nn.Module, block: str) -> list[str]:
    """Names of the parameters of a part of a network and of all that follow it."""
    names = [name for name, _ in network.named_parameters()]
    first = next(position for position, name in enumerate(names) if name.startswith(f"{block}."))
    return names[first:]
