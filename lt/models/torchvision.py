"""Any image classifier of torchvision, by its name there, without its last layer."""

from typing import Literal

from torch import nn

from lt.core.options import Count
from lt.network import pretrained
from lt.network.pretrained_network import PretrainedNetwork, nearest

LEFT_OUT = ("googlenet", "inception_v3", "squeezenet1_0", "squeezenet1_1")  # two outputs while training; no linear last layer


def make(
    *,
    name: str = "convnext_tiny",
    weights: str | None = None,
    trainable: Literal["all", "head"] = "all",
    image_size: Count | None = None,
) -> nn.Module:
    """images (B, 3, H, W) of any size -> features (B, D), what the network's last linear layer reads.

    Mean, standard deviation, input size and interpolation are those of the network's own weights, not the data set's. For the
    residual networks see also resnet50, whose fourth stage can be trained alone.

    name: as torchvision.models.list_models() has it
    weights: null; torchvision, its first ImageNet weights, downloaded; or a file and its hash, see lt.network.pretrained.load
    trainable: all; head: nothing of the network    image_size: side in pixels that images are resized to; null: the network's own

    raises ValueError where the name is unknown, the weights cannot be had or do not fit, or the network cannot take the size
    """
    import torchvision.models as models  # takes seconds, so only where it is used

    known = [found for found in models.list_models(module=models) if found not in LEFT_OUT]
    if name not in known:
        raise nearest("models.torchvision.name", name, known, "networks of torchvision")
    network = models.get_model(name, weights=None)
    last = [part for part, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    network.set_submodule(last, nn.Identity())
    if weights is not None:
        pretrained.load(network, weights, name)
    own = models.get_model_weights(name).IMAGENET1K_V1.transforms()
    size = image_size or own.crop_size[0]
    trained = [parameter for parameter, _ in network.named_parameters()] if trainable == "all" else []
    try:
        return PretrainedNetwork(network, own.mean, own.std, size, own.interpolation.value, trained)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"models.torchvision.image_size: got {size}, which {name} cannot take ({error}); its own is {own.crop_size[0]}"
        ) from None
