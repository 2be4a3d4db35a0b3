"""Writes a row of the table as one file that runs with PyTorch alone, without this project. Not a stage of the graph.

python -m stages.export --row xerm_pc --output model.pt2

The file is a torch.export program, float images (B, 3, H, W) in [0, 1] -> logits (B, C), for any B on the CPU; their softmax is
the probabilities that `python -m stages.predict` gives. Class names, prior and temperature are inside, as the extra file
model.json, and beside it, in model.json. The file is read back and compared with the row before it gets its name.
"""

import argparse
import copy
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from lt.core import artifacts, keys, params
from lt.core.command import run, seed_number
from lt.core.params import Settings
from lt.data.dataset import open_dataset
from lt.input.streamed import to_device
from lt.network.adapters import merge
from lt.predict import Predictor, describe, open_predictor

# Largest difference of logits, as a share of the largest logit (of 1, where that is smaller): of the program and the row, which
# differ in rounding; and of the row and its cached test logits, which a GPU or half-precision features may have rounded more.
PROGRAM_TOLERANCE = 1e-4
CACHE_TOLERANCE = 1e-2
CHECKED = 1000
BATCHES = (64, 1, 7)
META = "model.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", required=True, help="base, a method, or xerm_<teacher>")
    parser.add_argument("--output", required=True, type=Path, help="file to write, such as model.pt2")
    parser.add_argument("--seed", type=seed_number, help="default: the first of params.yaml")
    parser.add_argument("--prior", default="uniform", help="uniform (the default), train, or a JSON file, as for stages.predict")
    args = parser.parse_args()
    if args.output.suffix != ".pt2":
        raise ValueError(f"output: got {args.output}, expected a name that ends in .pt2")
    settings = params.load()
    seed = settings.seeds[0] if args.seed is None else args.seed
    predictor = open_predictor(settings, args.row, seed, args.prior, torch.device("cpu"))

    images, told = images_to_compare(settings, predictor)
    difference = write(predictor, images, args.output)
    print(describe(predictor.facts, args.seed is None))
    print(f"{args.output}: {args.output.stat().st_size / 2**20:.1f} MiB; read back, its logits differ from the row's by "
          f"{difference:.1e} of the largest, on {told}")  # fmt: skip
    print(usage(args.output, predictor.facts))


def images_to_compare(settings: Settings, predictor: Predictor) -> tuple[torch.Tensor, str]:
    """Images (N, 3, H, W) in [0, 1] to compare on, and what they are: test images, or noise where the raw data are not at hand.

    Raises ArtifactError where the row's logits on the test images are not the cached ones: its artifacts are of several runs.
    """
    facts = predictor.facts
    try:
        test = open_dataset(settings, "test")
    except (ValueError, OSError) as error:
        size = facts["image_size"]
        reason = str(error).splitlines()[0]
        random = torch.rand(sum(BATCHES), 3, size, size, generator=keys.generator("export"))
        return random, f"random images, without the test images: {reason}"
    index = np.unique(np.linspace(0, len(test.labels) - 1, CHECKED).astype(np.int64))
    images = to_device(test.read(index), torch.device("cpu")).float() / 255
    path = artifacts.row_dir(facts["row"], facts["seed"]) / "test_logits.npy"
    if path.is_file():
        cached = torch.from_numpy(artifacts.read_array(path, dtype="float", mmap=True)[index])
        cached = cached.mean(1) if cached.ndim == 3 else cached
        with torch.no_grad():
            off = difference_of(torch.cat([predictor.network(batch) for batch in images.split(BATCHES[0])]), cached)
        if not off <= CACHE_TOLERANCE:
            raise artifacts.ArtifactError(
                f"row {facts['row']}, seed {facts['seed']}: its logits differ from those in {path} by {off:.2g} of the largest, "
                f"expected at most {CACHE_TOLERANCE:g}; its artifacts come from several runs: run dvc repro"
            )
    return images, f"{len(images)} test images"


def write(predictor: Predictor, images: torch.Tensor, output: Path) -> float:
    """Writes the program and its .json, after reading it back and comparing logits; returns the largest difference.

    Raises RuntimeError where they differ by more than PROGRAM_TOLERANCE; files of the same name are then left as they were.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    meta = json.dumps(predictor.facts, indent=1) + "\n"
    with tempfile.TemporaryDirectory(prefix=f".{output.stem}.", dir=output.parent) as folder:
        part = Path(folder) / output.name
        torch.export.save(program_of(predictor), part, extra_files={META: meta})
        difference = compare(predictor, torch.export.load(part).module(), images)
        if not difference <= PROGRAM_TOLERANCE:
            raise RuntimeError(
                f"{output} is not written: its logits differ from the row's by {difference:.2g} of the largest, expected at most "
                f"{PROGRAM_TOLERANCE:g}; this version of PyTorch does not export the model faithfully"
            )
        artifacts.write_text(output.with_suffix(".json"), meta)
        os.replace(part, output)
    return difference


def program_of(predictor: Predictor) -> torch.export.ExportedProgram:
    """The predictor as a program for any number of images of its size."""
    size = predictor.facts["image_size"]
    batch = torch.export.Dim("batch", min=1)
    # torch.export.save is only sure of weights in the plain memory layout.
    plain = merge(copy.deepcopy(predictor)).to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        return torch.export.export(plain, (torch.zeros(2, 3, size, size),), dynamic_shapes=({0: batch},))


@torch.no_grad()
def compare(predictor: Predictor, program: torch.nn.Module, images: torch.Tensor) -> float:
    """Largest difference of the logits of a program and a predictor, in batches of several sizes."""
    sizes = [size for _ in range(len(images) // sum(BATCHES) + 1) for size in BATCHES]
    worst, start = 0.0, 0
    for size in sizes:
        batch = images[start : start + size]
        start += size
        if len(batch):
            worst = max(worst, difference_of(program(batch), predictor(batch)))
    return worst


def difference_of(found: torch.Tensor, expected: torch.Tensor) -> float:
    """max |found - expected| / max(1, max |expected|) over the logits that are not both minus infinity; inf where one is NaN."""
    differ = found != expected
    if not differ.any():
        return 0.0
    scale = expected[expected.isfinite()].abs().max().clamp(min=1)
    return float(((found - expected)[differ].abs() / scale).nan_to_num(nan=torch.inf, posinf=torch.inf).max())


def usage(output: Path, facts: dict) -> str:
    """How the file is used, as Python code."""
    size = facts["image_size"]
    return (
        f"\nimport json, torch\n"
        f'extra = {{"{META}": ""}}\n'
        f'model = torch.export.load("{output}", extra_files=extra).module()\n'
        f'classes = json.loads(extra["{META}"])["classes"]\n'
        f"images = torch.rand(4, 3, {size}, {size})  # RGB in [0, 1]: yours, of {size} x {size} pixels\n"
        f"probabilities = model(images).softmax(1)  # (4, {len(facts['classes'])}), under the prior {facts['prior_name']}\n"
        f"print([classes[c] for c in probabilities.argmax(1)])"
    )


if __name__ == "__main__":
    run(main)
