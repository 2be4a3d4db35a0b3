"""Weights from elsewhere for a backbone: a local file, or torchvision's own download. Nothing is unpickled but tensors."""

import io
from pathlib import Path
from typing import Any, Iterator

import torch
from torch import nn

from lt.network import weights_file

# Names of tensors that a message lists.
SHOWN = 5


def load(module: nn.Module, weights: str, name: str) -> None:
    """Fills the module's parameters and buffers.

    weights: 'torchvision', its first ImageNet weights of the network `name`; or a file of safetensors or of what torch.save
    writes, absolute or relative to the project, with its content's hash: data/r50.safetensors@sha256:1a2b3c4d5e6f
    A file may hold more than the module needs, and under longer names: "state.backbone.conv1.weight" will do for "conv1.weight".
    Raises ValueError where torchvision has none, or the file is missing, has another hash, holds other things than tensors, or
    does not fit.
    """
    if weights == "torchvision":
        found, where = _download(name), f"torchvision's weights of {name}"
    else:
        path, content = weights_file.read(weights, "weights")
        found, where = dict(_tensors(_parsed(path, content), "")), str(path)
    wanted = module.state_dict()
    module.load_state_dict(_chosen(found, wanted, where), strict=False)


def _download(name: str) -> dict[str, torch.Tensor]:
    import torchvision.models as models

    known = {found.lower(): found for found in models.list_models(module=models)}
    if name not in known:
        raise ValueError(f"weights: got torchvision, which has none of {name}; give a file, or null")
    try:
        return models.get_model_weights(name).IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise ValueError(
            f"weights: could not download torchvision's {name} ({error}); without a network, fetch the file elsewhere and give "
            "its path and hash as weights"
        ) from error


def _parsed(path: Path, content: bytes) -> Any:
    """What a file holds. Its name tells the form; it is not opened again, since it may have changed after it was hashed."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load as load_safetensors

        try:
            return load_safetensors(content)
        except SafetensorError as error:
            raise ValueError(f"weights: {path} is not a safetensors file ({error})") from None
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # what holds other things and what is damaged is met with many types
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"weights: {path} holds other things than tensors, or is damaged ({reason}); where you trust it, load it yourself "
            "and save its tensors as safetensors"
        ) from None


def _tensors(content: Any, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors in nested mappings, by dotted name."""
    for key, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{key}", value
        else:
            yield from _tensors(value, f"{prefix}{key}.")


def _chosen(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], where: str) -> dict[str, torch.Tensor]:
    """The tensors that are wanted, under their wanted names; ValueError unless all are there, once, and of the right shapes."""
    needed = [name for name in wanted if not name.endswith("num_batches_tracked")]  # which old files do not have
    prefixes = sorted({name.removesuffix(needed[0]) for name in found if f".{name}".endswith(f".{needed[0]}")})
    absent = {prefix: [name for name in needed if prefix + name not in found] for prefix in prefixes}
    whole = [prefix for prefix in prefixes if not absent[prefix]]
    if len(whole) != 1:
        nearest = min(prefixes, key=lambda prefix: len(absent[prefix]), default="")
        missing = absent.get(nearest, needed)
        keys = f" (missing: {', '.join(missing[:SHOWN])}; there: {', '.join(sorted(found)[:SHOWN]) or 'no tensor'})"
        got = f"{len(whole)} networks that fit, under {', '.join(map(repr, whole))}" if whole else f"no {missing[0]!r}"
        more = f" and {len(missing) - 1} more" if len(missing) > 1 and not whole else ""
        expected = f"expected the {len(needed)} tensors of one network, such as {needed[0]!r}"
        raise ValueError(f"weights: {where}: got {got}{more}, {expected}{'' if whole else keys}")
    chosen = {name: found[whole[0] + name] for name in wanted if whole[0] + name in found}
    if wrong := [name for name in chosen if chosen[name].shape != wanted[name].shape]:
        shapes = tuple(chosen[wrong[0]].shape), tuple(wanted[wrong[0]].shape)
        further = f", such as {', '.join(wrong[:SHOWN])}" if len(wrong) > 1 else ""
        more = f"{len(wrong)} tensors differ{further}: these are the weights of another network"
        raise ValueError(f"weights: {where}: {wrong[0]}: got shape {shapes[0]}, expected {shapes[1]}; {more}")
    return chosen
