"""The seeds of a row, each measured by itself, as one."""

from pathlib import Path
from typing import Any

from lt.core import artifacts
from lt.core.row_names import evaluation
from lt.core.schemas import Measured
from lt.evaluate.row import over_seeds


def read_details(row: str, seeds: list[int], project: Path = Path()) -> dict[str, Any]:
    """Content of results/details/<row>.json, not rounded, from what stages.evaluate has measured on each seed.

    project: the folder that has artifacts/
    Raises ArtifactError where a seed has not been measured, or seeds were made or judged under different contexts.
    """
    found = {seed: artifacts.read_json(project / artifacts.measured_dir(row, seed) / "measured.json", Measured) for seed in seeds}
    first = found[seeds[0]]
    for seed, content in found.items():
        expected, context = first["context"], content["context"]
        differing = [f"{key} {context.get(key)}, expected {value}" for key, value in expected.items() if context.get(key) != value]
        if differing:
            raise artifacts.ArtifactError(
                f"{artifacts.row_dir(row, seed)} was made with {'; '.join(differing)}, as seed {seeds[0]} was; "
                f"make seed {seed} anew: dvc repro {evaluation(row, seed)}"
            )
    results = {str(seed): content["result"] for seed, content in found.items()}
    mean, sd = over_seeds([result["metrics"] for result in results.values()])
    facts = {key: value for key, value in first.items() if key != "result"}
    context = first["context"] | {"seeds": " ".join(map(str, seeds))}
    return {**facts, "context": context, "mean": mean, "sd": sd, "seeds": results}
