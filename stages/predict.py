"""Classifies image files with a row of the table: class names and calibrated probabilities. Not a stage of the graph.

python -m stages.predict --row xerm_pc IMAGE...
python -m stages.predict --row xerm_pc --prior train --top 3 --json IMAGE...

An image may have any size; it is scaled and cut to a square of the training images' size. Probabilities hold where classes
come at the frequencies of --prior: uniform; train, as in the training part; or a JSON file, a list of weights in label order
or class name -> weight. Images that cannot be read are told at the end, with exit code 1; the others are classified.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import numpy as np
import torch

from lt.core import params
from lt.core.command import run, seed_number
from lt.data.decode import THREADS, attempt
from lt.input.device import device
from lt.input.streamed import to_device
from lt.predict import IMAGES_AT_ONCE, Predictor, describe, open_predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--row", required=True, help="base, a method, or xerm_<teacher>")
    parser.add_argument("--seed", type=seed_number, help="default: the first of params.yaml")
    parser.add_argument("--prior", default="uniform", help="uniform (the default), train, or a JSON file")
    parser.add_argument("--top", type=int, default=5, help="classes to tell per image, default 5")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    args = parser.parse_args()
    if args.top < 1:
        raise ValueError(f"top: got {args.top}, expected at least 1")
    settings = params.load()
    seed = settings.seeds[0] if args.seed is None else args.seed
    predictor = open_predictor(settings, args.row, seed, args.prior, device())

    found, broken = [], []
    if not args.json:
        print(describe(predictor.facts, args.seed is None))
    for path, result in classify(predictor, args.images, args.top):
        if isinstance(result, str):
            broken.append({"path": str(path), "reason": result})
        elif args.json:
            found.append({"path": str(path), "top": [{"class": name, "probability": value} for name, value in result]})
        else:
            print(f"{path}: " + ", ".join(f"{name} {100 * value:.1f} %" for name, value in result))
    if args.json:
        print(json.dumps({**predictor.facts, "images": found, "broken": broken}, indent=1))
    if broken:
        lines = "\n".join(f"  {item['path']}: {item['reason']}" for item in broken)
        raise ValueError(f"{len(broken)} of {len(args.images)} images cannot be read; replace them or leave them out:\n{lines}")


def classify(predictor: Predictor, paths: list[Path], top: int) -> Iterator[tuple[Path, list[tuple[str, float]] | str]]:
    """For each file its `top` most probable classes, (name, probability in [0, 1]), or why it cannot be read."""
    decoding, classes = (predictor.facts["image_size"], predictor.facts["crop"]), predictor.facts["classes"]
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(paths), IMAGES_AT_ONCE):
            batch = paths[start : start + IMAGES_AT_ONCE]
            decoded = list(pool.map(lambda path: attempt(path, *decoding), batch))
            readable = [image for image in decoded if not isinstance(image, str)]
            best = iter(most_probable(predictor, readable, min(top, len(classes))))
            for path, image in zip(batch, decoded):
                yield path, image if isinstance(image, str) else [(classes[c], value) for c, value in next(best)]


@torch.no_grad()
def most_probable(predictor: Predictor, images: list[np.ndarray], top: int) -> list[list[tuple[int, float]]]:
    """For each image the `top` most probable (class number, probability), the most probable first."""
    if not images:
        return []
    logits = predictor(to_device(np.stack(images), predictor.shift.device).float() / 255)
    values, classes = logits.double().softmax(1).topk(top)
    return [list(zip(*pair)) for pair in zip(classes.tolist(), values.tolist())]


if __name__ == "__main__":
    run(main)
