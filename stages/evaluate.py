"""Measures one row of the table on its test logits, seed by seed; stages.report puts the seeds together.

python -m stages.evaluate balms             every seed of params.yaml
python -m stages.evaluate balms --seed 0
python -m stages.evaluate balms --prior prior.json    only prints the accuracy under a test prior of your own, and writes nothing:
                                                      a JSON list of weights in label order, or class name -> weight
"""

from pathlib import Path

import numpy as np

from lt.core import artifacts, params
from lt.core.command import command_line, seed_number
from lt.core.params import Settings
from lt.core.plugins import unknown
from lt.core.schemas import Row
from lt.core.subset import Subset, read_subset
from lt.evaluate.label_shift import read_prior, under_prior
from lt.evaluate.row import evaluate, oracle
from stages.start import run


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("row", help="base, a method, or xerm_<teacher>")
    parser.add_argument("--seed", type=seed_number, help="default: each seed of params.yaml")
    parser.add_argument("--prior", type=Path, help="a JSON file: class weights to be tested under")
    args = parser.parse_args()
    settings = params.load()
    if args.row not in settings.rows():
        raise ValueError(f"row: {unknown(args.row, settings.rows(), 'a row of the table')}")
    seeds = settings.seeds if args.seed is None else [args.seed]
    missing = [seed for seed in seeds if not (artifacts.row_dir(args.row, seed) / "test_logits.npy").is_file()]
    if missing:
        raise artifacts.ArtifactError(
            f"row {args.row} has no test logits for seeds {missing}, expected {seeds}: "
            f"{artifacts.row_dir(args.row, missing[0]) / 'test_logits.npy'} is no file; make them with dvc repro, "
            f"or take these seeds out of params.yaml"
        )
    subset = read_subset()
    if args.prior:
        prior = read_prior(args.prior, subset.classes)
        for seed in seeds:
            print_under_prior(args.row, seed, subset, prior)
        return
    for seed in seeds:
        content = measure(args.row, seed, subset, settings)
        with artifacts.writing(artifacts.measured_dir(args.row, seed)) as folder:
            artifacts.write_json(folder / "measured.json", content)


def measure(row: str, seed: int, subset: Subset, settings: Settings) -> dict:
    """Everything that is measured on a row of one seed, with what it was made of and judged on."""
    context = read_context(row, seed, subset)
    logits, logit_prior = read_logits(row, seed, len(subset.counts))
    where = f"test logits of row {row}, seed {seed}"
    result = evaluate(logits, subset.test_labels, subset.counts, logit_prior, settings.evaluate.bins, where)
    if settings.tested_while_training():
        result["metrics"] |= oracle(artifacts.read_log(artifacts.row_dir(row, seed) / "log.csv"))
    return {
        "row": row,
        "context": context,
        "classes": list(subset.classes),
        "train_counts": subset.counts.tolist(),
        "test_counts": np.bincount(subset.test_labels, minlength=len(subset.counts)).tolist(),
        "val_size": len(subset.val_labels),
        "result": result,
    }


def read_context(row: str, seed: int, subset: Subset) -> dict[str, str]:
    """What the row was made of; ArtifactError where that is another subset than the one in artifacts/."""
    folder = artifacts.row_dir(row, seed)
    context = artifacts.read_json(folder / "row.json", Row)["context"]
    expected = {"subset": subset.sha256[:12], "data": subset.raw_sha256[:12]}
    differing = [f"{key} {context[key]}, expected {value}" for key, value in expected.items() if context[key] != value]
    if differing:
        raise artifacts.ArtifactError(f"{folder} was made with {'; '.join(differing)}; make row {row} anew: dvc repro")
    return context


def read_logits(row: str, seed: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Test logits (N, C) or (N, E, C), memory-mapped, and the prior (C,) that they embody."""
    folder = artifacts.row_dir(row, seed)
    logits = artifacts.read_array(folder / "test_logits.npy", dtype="float", mmap=True)
    logit_prior = np.asarray(artifacts.read_json(folder / "row.json", Row)["logit_prior"], dtype=np.float64)
    if logit_prior.shape != (num_classes,):
        raise artifacts.ArtifactError(
            f"{folder}/row.json: got a logit_prior of shape {logit_prior.shape}, expected ({num_classes},); run its stage again"
        )
    return logits, logit_prior


def print_under_prior(row: str, seed: int, subset: Subset, prior: np.ndarray) -> None:
    """Prints accuracy and standard error under one prior, with the logits as they are and moved to the prior."""
    logits, logit_prior = read_logits(row, seed, len(subset.counts))
    for kind, found in under_prior(logits, subset.test_labels, logit_prior, prior).items():
        accuracy = f"{100 * found['accuracy']:.1f} % (standard error {100 * found['se']:.1f})"
        print(f"{row}, seed {seed}, {kind.replace('_', ' ')}: {accuracy}")


if __name__ == "__main__":
    run(main)
