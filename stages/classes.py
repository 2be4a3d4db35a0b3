"""Prints the classes of one row: recall, precision, test images, and what a class is taken for most. Not a stage of the graph.

python -m stages.classes balms
python -m stages.classes balms --csv > balms.csv

Means over seeds, the largest class first. Classes with fewer than 30 test images have the recall's 95 % interval.
"""

import csv
import sys

import numpy as np

from lt.core import artifacts, params
from lt.core.command import command_line, run
from lt.core.params import Settings
from lt.core.schemas import Details
from lt.evaluate.row import class_lines
from lt.page.accuracy import FEW_TEST_IMAGES
from lt.page.confusion import Judged, read_judged, wrong_pairs
from lt.page.sources import read_sources
from lt.report.words import aligned


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("row", help="base, a method, or xerm_<teacher>")
    parser.add_argument("--csv", action="store_true", help="comma-separated values, all digits, instead of a table")
    args = parser.parse_args()
    lines = lines_of(params.load(), args.row)
    if args.csv:
        writer = csv.DictWriter(sys.stdout, fieldnames=list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    else:
        print(aligned(["class", "training images", "test images", "recall %", "precision %", "most taken for"], [told(line) for line in lines]))


def lines_of(settings: Settings, row: str) -> list[dict]:
    """One dict per class, as lt.evaluate.row.class_lines has it, and taken_for and taken_for_share; '' and None where it never is,
    or the row's test logits are not on this machine."""
    details = artifacts.read_json(artifacts.RESULTS / "details" / f"{row}.json", Details)
    judged = read_judged(read_sources(settings), row)
    wrong = most_taken_for(judged, details["classes"]) if judged else {}
    return [
        line | dict(zip(("taken_for", "taken_for_share"), wrong.get(line["class"], ("", None)))) for line in class_lines(details)
    ]


def most_taken_for(judged: Judged, classes: list[str]) -> dict[str, tuple[str, float]]:
    """Class -> the other class that most of its test images are taken for, and their share; without those that never are."""
    true, predicted, shares = wrong_pairs(judged.shares)
    each, first = np.unique(true, return_index=True)  # each class's largest share comes first
    return {classes[c]: (classes[predicted[i]], float(shares[i])) for c, i in zip(each.tolist(), first.tolist())}


def told(line: dict) -> list[str]:
    """A class as cells of the table."""
    scores = ["-" if line[name] is None else f"{100 * line[name]:.1f}" for name in ("recall", "precision")]
    if line["recall"] is not None and line["test_images"] < FEW_TEST_IMAGES:
        scores[0] += f" ({100 * line['recall_low']:.0f} to {100 * line['recall_high']:.0f})"
    taken = f"{line['taken_for']} ({100 * line['taken_for_share']:.1f} %)" if line["taken_for"] else "-"
    return [line["class"], f"{line['train_images']:,}", f"{line['test_images']:,}", *scores, taken]


if __name__ == "__main__":
    run(main)
