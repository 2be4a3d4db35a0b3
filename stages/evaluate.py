"""Measures one row of the table on its test logits, over all seeds.

python -m stages.evaluate balms
python -m stages.evaluate balms --prior prior.json    only prints the accuracy under a test prior of your own, and writes nothing:
                                                      a JSON list of weights in label order, or class name -> weight
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from lt.core import artifacts, params
from lt.core.command import run
from lt.core.plugins import unknown
from lt.core.schemas import Row
from lt.core.subset import Subset, read_subset
from lt.evaluate.headline import headline
from lt.evaluate.label_shift import read_prior, under_prior
from lt.evaluate.row import evaluate, oracle, over_seeds, rounded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row")
    parser.add_argument("--prior", type=Path)
    args = parser.parse_args()
    settings = params.load()
    if args.row not in settings.rows():
        raise ValueError(f"row: {unknown(args.row, settings.rows(), 'a row of the table')}")
    missing = [seed for seed in settings.seeds if not (artifacts.row_dir(args.row, seed) / "test_logits.npy").is_file()]
    if missing:
        raise artifacts.ArtifactError(
            f"row {args.row} has no test logits for seeds {missing}, expected {settings.seeds}; make them with dvc repro, "
            f"or take these seeds out of params.yaml"
        )
    subset = read_subset()
    inputs = {seed: read_logits(args.row, seed, len(subset.counts)) for seed in settings.seeds}
    if args.prior:
        print_under_prior(args.row, inputs, subset, read_prior(args.prior, subset.classes))
        return

    seeds = {}
    for seed, (logits, logit_prior) in inputs.items():
        where = f"test logits of row {args.row}, seed {seed}"
        seeds[str(seed)] = evaluate(logits, subset.test_labels, subset.counts, logit_prior, settings.evaluate.bins, where)
        if settings.tested_while_training():
            seeds[str(seed)]["metrics"] |= oracle(artifacts.read_log(artifacts.row_dir(args.row, seed) / "log.csv"))

    mean, sd = over_seeds([result["metrics"] for result in seeds.values()])
    details = {
        "row": args.row,
        "context": read_context(args.row, settings.seeds, subset),
        "classes": list(subset.classes),
        "train_counts": subset.counts.tolist(),
        "test_counts": np.bincount(subset.test_labels, minlength=len(subset.counts)).tolist(),
        "val_size": len(subset.val_labels),
        "mean": mean,
        "sd": sd,
        "seeds": seeds,
    }
    with artifacts.writing_together(artifacts.RESULTS, args.row) as folder:
        artifacts.write_json(folder / "details" / f"{args.row}.json", rounded(details), sealed=True)
        artifacts.write_json(folder / "methods" / f"{args.row}.json", rounded(headline(details)))


def read_context(row: str, seeds: list[int], subset: Subset) -> dict[str, str]:
    """What the row was made of, and the seeds; ArtifactError where that differs between seeds, or from the subset in artifacts/."""
    contexts = {seed: artifacts.read_json(artifacts.row_dir(row, seed) / "row.json", Row)["context"] for seed in seeds}
    first = contexts[seeds[0]]
    for seed, context in contexts.items():
        expected = first | {"subset": subset.sha256[:12], "data": subset.raw_sha256[:12]}
        differing = [f"{key} {context[key]}, expected {expected[key]}" for key in expected if context[key] != expected[key]]
        if differing:
            folder = artifacts.row_dir(row, seed)
            raise artifacts.ArtifactError(f"{folder} was made with {'; '.join(differing)}; make row {row} anew: dvc repro")
    return first | {"seeds": " ".join(map(str, seeds))}


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


def print_under_prior(row: str, inputs: dict[int, Any], subset: Subset, prior: np.ndarray) -> None:
    """Prints accuracy and standard error under one prior, per seed, with the logits as they are and moved to the prior."""
    for seed, (logits, logit_prior) in inputs.items():
        for kind, found in under_prior(logits, subset.test_labels, logit_prior, prior).items():
            accuracy = f"{100 * found['accuracy']:.1f} % (standard error {100 * found['se']:.1f})"
            print(f"{row}, seed {seed}, {kind.replace('_', ' ')}: {accuracy}")


if __name__ == "__main__":
    run(main)
