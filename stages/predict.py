"""Classifies image files with a row of the table: class names and calibrated probabilities. Not a stage of the graph.

python -m stages.predict --row xerm_pc IMAGE...
python -m stages.predict --row xerm_pc --prior train --top 3 --json IMAGE...
python -m stages.predict --row xerm_pc FOLDER --output predictions.csv

Instead of an image, a folder names all images in it and below, and a .txt file those of its lines. An image may have any size; it is
scaled and cut to a square of the training images' size. Probabilities hold where classes come at the frequencies of --prior: uniform;
train, as in the training part; or a JSON file, a list of weights in label order or class name -> weight. Images that cannot be read
are told at the end, with exit code 1; the others are classified. --output writes a table, .csv or .parquet, with a line per image:
path, class, probability, class_2, probability_2 and so on, and error, why it cannot be read.
"""

import json
from pathlib import Path

from lt import predictions
from lt.core import params
from lt.core.command import command_line, run, seed_number
from lt.input.device import device
from lt.predict import Predictor, describe, open_predictor


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="an image, a folder of them, or a .txt file with a path per line")
    parser.add_argument("--row", required=True, help="base, a method, or xerm_<teacher>")
    parser.add_argument("--seed", type=seed_number, help="default: the first of params.yaml")
    parser.add_argument("--prior", default="uniform", help="uniform (the default), train, or a JSON file")
    parser.add_argument("--top", type=int, default=5, help="classes to tell per image, default 5")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object instead of text")
    form.add_argument("--output", type=Path, help="a table to write instead of text: a .csv or .parquet file")
    args = parser.parse_args()
    if args.top < 1:
        raise ValueError(f"top: got {args.top}, expected at least 1")
    if args.output:
        predictions.check_output(args.output)
    settings = params.load()
    seed = settings.seeds[0] if args.seed is None else args.seed
    paths = predictions.images_in(args.images)
    predictor = open_predictor(settings, args.row, seed, args.prior, device())

    if not args.json:
        print(describe(predictor.facts, args.seed is None))
    if args.output:
        broken = predictions.write(predictor, paths, args.top, args.output)
        print(f"{args.output}: {len(paths)} images, a line each")
    else:
        broken = tell_json(predictor, paths, args.top) if args.json else tell(predictor, paths, args.top)
    if broken:
        raise ValueError(predictions.told(broken, len(paths)))


def tell(predictor: Predictor, paths: list[Path], top: int) -> list[tuple[Path, str]]:
    """Prints a line per image; returns those that cannot be read, and why."""
    broken = []
    for path, result in predictions.classify(predictor, paths, top):
        if isinstance(result, str):
            broken.append((path, result))
        else:
            print(f"{path}: " + ", ".join(f"{name} {100 * value:.1f} %" for name, value in result))
    return broken


def tell_json(predictor: Predictor, paths: list[Path], top: int) -> list[tuple[Path, str]]:
    """Prints one JSON object; returns the images that cannot be read, and why."""
    results = list(predictions.classify(predictor, paths, top))
    broken = [(path, result) for path, result in results if isinstance(result, str)]
    found = [
        {"path": str(path), "top": [{"class": name, "probability": value} for name, value in result]}
        for path, result in results if not isinstance(result, str)
    ]
    unreadable = [{"path": str(path), "reason": reason} for path, reason in broken]
    print(json.dumps({**predictor.facts, "images": found, "broken": unreadable}, indent=1))
    return broken


if __name__ == "__main__":
    run(main)
