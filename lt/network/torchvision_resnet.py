"""torchvision's residual networks as backbones: for photographs of 64 pixels and more, with weights from elsewhere if wanted."""

from collections import OrderedDict

import torch
from torch import nn

from lt.network import pretrained


class TorchvisionResNet(nn.Module):
    """images (B, 3, H, W) -> features (B, D): a torchvision ResNet without its last layer.

    D is 512 or 2048 by the network, or `projection`. Layers that are not trained stay in evaluation mode: their batch-norm
    statistics are frozen too, whatever train() says.

    projection_group: head or trunk, with which the projection shares its learning rate, see slow_parameters
    """

    def __init__(self, network: nn.Module, trainable: str, projection: int | None, projection_group: str):
        super().__init__()
        width = network.fc.in_features
        self.feature_dim = projection or width
        self.trunk = nn.Sequential(OrderedDict((name, part) for name, part in network.named_children() if name != "fc"))
        self.projection = nn.Sequential(nn.Linear(width, projection), nn.ReLU()) if projection else nn.Identity()
        self.projection_group = projection_group
        kept = {"all": [], "last_block": [name for name, _ in self.trunk.named_children() if name != "layer4"], "head": ["trunk"]}
        self.frozen = tuple(kept[trainable])
        for part in self._frozen_parts():
            part.requires_grad_(False)
        self.train()

    def slow_parameters(self) -> list[nn.Parameter]:
        """What learns at backbone_lr_factor times the learning rate: the trunk, which may have been trained elsewhere, and with
        `projection_group: trunk` the projection."""
        with_trunk = self.projection.parameters() if self.projection_group == "trunk" else ()
        return [*self.trunk.parameters(), *with_trunk]

    def _frozen_parts(self) -> list[nn.Module]:
        """Found by their names, since batch norm over several processes puts other layers in their places."""
        return [self.trunk if name == "trunk" else self.trunk.get_submodule(name) for name in self.frozen]

    def train(self, mode: bool = True) -> "TorchvisionResNet":
        """Sets the mode of all layers but the frozen ones."""
        super().train(mode)
        for part in self._frozen_parts():
            part.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.projection(self.trunk(images).flatten(1))


def make(name: str, weights: str | None, trainable: str, projection: int | None, projection_group: str) -> TorchvisionResNet:
    """The network `name`, of torchvision or resnet10, freshly initialised or with weights from elsewhere.

    weights: None; torchvision, its ImageNet weights, of all but resnet10; a file and its hash, see lt.network.pretrained.load
    trainable: all; last_block: the fourth stage and what follows; head: only what follows the trunk
    projection: width of a further linear layer and ReLU, which is always new and trained; None for none
    projection_group: head, where it learns at the full rate, or trunk, where it learns at backbone_lr_factor times it
    raises ValueError where the weights cannot be had or do not fit
    """
    from torchvision.models import get_model  # takes seconds, so only where it is used
    from torchvision.models.resnet import BasicBlock, ResNet

    network = ResNet(BasicBlock, [1, 1, 1, 1]) if name == "resnet10" else get_model(name, weights=None)
    model = TorchvisionResNet(network, trainable, projection, projection_group)
    if weights is not None:
        pretrained.load(model.trunk, weights, name)
    return model
