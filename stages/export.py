"""Writes a row of the table as one file that runs with PyTorch alone, without this project. Not a stage of the graph.

python -m stages.export --row xerm_pc --output model.pt2

The file is a torch.export program, uint8 RGB images (B, 3, H, W) of any size -> logits (B, C), for any B on the CPU; their softmax
is the probabilities that `python -m stages.predict` gives: the images are scaled and cut inside. Class names, prior, temperature
and every step from a file to the network are inside, as the extra file model.json, and beside it, in model.json. The file is read back and compared with the row before it gets its name.
"""

import copy
import io
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lt.core import artifacts, keys, params
from lt.core.command import command_line, run, seed_number
from lt.core.params import Settings
from lt.data.dataset import open_dataset
from lt.input.square import Square
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
# How the file is used. Its read opens an image as lt.data.decode does: Pillow's smaller decoding of large JPEGs, EXIF, 16-bit
# grey, transparency.
USAGE = """
import json, torch
import numpy as np
from PIL import Image, ImageOps
def read(file):
    with Image.open(file) as image:
        image.draft("RGB", ({twice}, {twice}))
        ImageOps.exif_transpose(image, in_place=True)
        image.load()
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]  # uint8 (1, 3, H, W)
extra = {{"{meta}": ""}}
model = torch.export.load("{output}", extra_files=extra).module()
model_facts = json.loads(extra["{meta}"])
classes = model_facts["classes"]
def classify(file):
    return model(read(file)).softmax(1)[0]  # ({classes},), under the prior {prior}
# print(classes[classify("photo.jpg").argmax()])"""


class Deployed(nn.Module):
    """A predictor with what comes before it: uint8 images (B, 3, H, W) of any size -> logits (B, C)."""

    def __init__(self, predictor: Predictor):
        super().__init__()
        self.square = Square(predictor.facts["image_size"], predictor.facts["crop"])
        self.predictor = predictor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.predictor(self.square(images).float() / 255)


def main() -> None:
    parser = command_line(__doc__)
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
    facts = predictor.facts
    filled = {"twice": 2 * facts["image_size"], "classes": len(facts["classes"]), "prior": facts["prior_name"]}
    print(USAGE.format(output=args.output, meta=META, **filled))


def images_to_compare(settings: Settings, predictor: Predictor) -> tuple[torch.Tensor, str]:
    """uint8 images (N, 3, H, W) to compare on, and what they are: test images, or noise where these are not at hand or cut already.

    Raises ArtifactError where the row's logits on the test images are not the cached ones: its artifacts are of several runs.
    """
    facts = predictor.facts
    try:
        test = open_dataset(settings, "test")
    except (ValueError, OSError) as error:
        return noise(facts["image_size"]), f"random images, without the test images: {str(error).splitlines()[0]}"
    index = np.unique(np.linspace(0, len(test.labels) - 1, CHECKED).astype(np.int64))
    images = to_device(test.read(index), torch.device("cpu"))
    path = artifacts.row_dir(facts["row"], facts["seed"]) / "test_logits.npy"
    if path.is_file():
        cached = torch.from_numpy(artifacts.read_array(path, dtype="float", mmap=True)[index])
        cached = cached.mean(1) if cached.ndim == 3 else cached
        with torch.no_grad():
            off = difference_of(torch.cat([predictor.network(batch.float() / 255) for batch in images.split(BATCHES[0])]), cached)
        if not off <= CACHE_TOLERANCE:
            raise artifacts.ArtifactError(
                f"row {facts['row']}, seed {facts['seed']}: its logits differ from those in {path} by {off:.2g} of the largest, "
                f"expected at most {CACHE_TOLERANCE:g}; its artifacts come from several runs: run dvc repro"
            )
    if facts["crop"]:
        return noise(facts["image_size"]), "random images, since the test images are cut already"
    return images, f"{len(images)} test images"


def noise(size: int) -> torch.Tensor:
    """Random images (N, 3, size, size) uint8."""
    return torch.randint(256, (sum(BATCHES), 3, size, size), generator=keys.generator("export"), dtype=torch.uint8)


def write(predictor: Predictor, images: torch.Tensor, output: Path) -> float:
    """Writes the program and its .json, after reading it back and comparing logits; returns the largest difference.

    Raises RuntimeError where they differ by more than PROGRAM_TOLERANCE, ArtifactError where the disk is full; files of the same
    name are then left as they were.
    """
    meta = json.dumps(predictor.facts, indent=1) + "\n"
    program = io.BytesIO()  # on a full disk torch's own writer ends in a stack trace of C++
    torch.export.save(program_of(predictor), program, extra_files={META: meta})
    with artifacts.writing_together(output.parent, output.name) as folder:
        part = folder / output.name
        part.write_bytes(program.getbuffer())
        difference = compare(predictor, torch.export.load(part).module(), images)
        if not difference <= PROGRAM_TOLERANCE:
            raise RuntimeError(
                f"{output} is not written: its logits differ from the row's by {difference:.2g} of the largest, expected at most "
                f"{PROGRAM_TOLERANCE:g}; this version of PyTorch does not export the model faithfully"
            )
        artifacts.write_text(part.with_suffix(".json"), meta)
    return difference


def program_of(predictor: Predictor) -> torch.export.ExportedProgram:
    """The predictor as a program for any number of images of any size."""
    batch, height, width = (torch.export.Dim(name, min=1) for name in ("batch", "height", "width"))
    # torch.export.save is only sure of weights in the plain memory layout.
    plain = Deployed(merge(copy.deepcopy(predictor))).to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        example = torch.zeros(2, 3, 37, 41, dtype=torch.uint8)
        return torch.export.export(plain, (example,), dynamic_shapes=({0: batch, 2: height, 3: width},))


@torch.no_grad()
def compare(predictor: Predictor, program: torch.nn.Module, images: torch.Tensor) -> float:
    """Largest difference of the logits of a program and a predictor, in batches of several sizes."""
    deployed, worst, sizes = Deployed(predictor), 0.0, itertools.cycle(BATCHES)
    while len(images):
        size = next(sizes)
        worst = max(worst, difference_of(program(images[:size]), deployed(images[:size])))
        images = images[size:]
    return worst


def difference_of(found: torch.Tensor, expected: torch.Tensor) -> float:
    """max |found - expected| / max(1, max |expected|) over the logits that are not both minus infinity; inf where one is NaN."""
    differ = found != expected
    if not differ.any():
        return 0.0
    scale = expected[expected.isfinite()].abs().max().clamp(min=1)
    return float(((found - expected)[differ].abs() / scale).nan_to_num(nan=torch.inf, posinf=torch.inf).max())


if __name__ == "__main__":
    run(main)
