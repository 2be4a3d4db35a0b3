"""Any network of timm, by its name there, with pooled features; an optional package: pip install -e '.[timm]'."""

from typing import Literal

from torch import nn

from lt.core.options import Count
from lt.network import pretrained
from lt.network.adapters import adapt
from lt.network.pretrained_network import PretrainedNetwork, from_last_block, nearest


def make(
    *,
    name: str = "vit_small_patch14_dinov2.lvd142m",
    weights: str | None = None,
    trainable: Literal["all", "last_block", "bias", "adapters", "head"] = "all",
    rank: Count = 8,
    image_size: Count | None = None,
) -> nn.Module:
    """images (B, 3, H, W) of any size -> the network's pooled features (B, D).

    Mean, standard deviation, input size and interpolation are those of the network's own configuration, not the data set's.
    Images are resized to the input as they are; what timm would cut off at the border (crop_pct) is kept.

    name: as timm.list_models() has it, with or without the tag of its weights
    weights: null; hub, its pre-trained weights, downloaded; or a file of timm's tensors and its hash, see lt.network.pretrained.load
    trainable: all; last_block: the network's last block and what follows; bias: every bias, and nothing else, BitFit; adapters: low-rank
        ones beside the linear layers of attention and MLP, see lt.network.adapters, for transformers; head: nothing of the network
    rank: of the adapters; the number of their weights grows with it
    image_size: side in pixels that images are resized to; null: the network's own

    raises ValueError where timm is not installed, the name is unknown, the weights cannot be had or do not fit, or the network
    cannot take the image size
    """
    timm = _timm()
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise nearest("models.timm.name", name, timm.list_models(), "networks of timm")
    network = _create(timm, name, weights == "hub")
    own = timm.data.resolve_model_data_config(network)
    size = image_size or own["input_size"][-1]
    if weights not in (None, "hub"):
        pretrained.load(network, weights, name)
    trained = _trained(network, name, trainable, rank)
    interpolation = "bicubic" if own["interpolation"] == "bicubic" else "bilinear"
    try:
        if size != own["input_size"][-1] and hasattr(network, "set_input_size"):
            network.set_input_size(img_size=size)  # position embeddings are resampled
        return PretrainedNetwork(network, own["mean"], own["std"], size, interpolation, trained)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"models.timm.image_size: got {size}, which {name} cannot take ({error}); its own is {own['input_size'][-1]}"
        ) from None


def _timm():
    try:
        import timm
    except ImportError:
        raise ValueError("model timm needs the package timm: pip install -e '.[timm]', or pip install timm") from None
    return timm


def _create(timm, name: str, pretrained_weights: bool) -> nn.Module:
    """The network without its last layer."""
    try:
        return timm.create_model(name, pretrained=pretrained_weights, num_classes=0)
    except Exception as error:  # a network that is out of reach is met with many types
        known = timm.list_pretrained(f"{name.partition('.')[0]}*")
        if "." in name and name not in known:
            raise nearest("models.timm.name", name, known, "networks of timm with such weights") from None
        if not pretrained_weights:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"models.timm.weights: could not get {name} from the hub ({reason}); without a network, fetch the file elsewhere and "
            "give its path and hash as weights"
        ) from None


def _trained(network: nn.Module, name: str, trainable: str, rank: int) -> list[str]:
    """Names of the parameters that are trained, some of which may be new."""
    if trainable == "adapters":
        try:
            return adapt(network, rank)
        except ValueError as error:
            raise ValueError(f"models.timm.trainable: adapters: {name}: {error}") from None
    if trainable == "last_block":
        if not getattr(network, "feature_info", None):
            raise ValueError(f"models.timm.trainable: got last_block, which {name} does not tell; expected another choice")
        return from_last_block(network, network.feature_info[-1]["module"])
    names = [parameter for parameter, _ in network.named_parameters()]
    return {"all": names, "bias": [one for one in names if one.rpartition(".")[2] == "bias"], "head": []}[trainable]
