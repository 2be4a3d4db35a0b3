"""The trainings of a table as jobs for a cluster: one for each recipe and seed, in an order that trains nothing twice."""

import json
from dataclasses import dataclass
from typing import Any, Mapping

from lt.core.attest import GRAPH, VARIABLE
from lt.core.params import at
from lt.core.yaml_file import read_yaml
from lt.published import lock
from lt.published.workspace import Collected, Workspace

# What recipes may have in common, and is too long to be done twice at once.
SHARED = ("subsample", "base")


@dataclass(frozen=True)
class Job:
    """One recipe's trainings of one seed. trained: row -> the stage that trains it    after: the job of the same base that comes first"""

    space: Workspace
    seed: int
    trained: dict[str, str]
    after: str | None = None

    @property
    def name(self) -> str:
        """Name of the job, and of its workspace under runs/."""
        return f"{self.space.name}@{self.seed}"


def plan(spaces: list[Workspace], seeds: Mapping[str, list[int]], rows: list[str]) -> list[Job]:
    """Recipe by recipe and seed by seed; of jobs that need the same base, each comes after the one before it.

    seeds: name of a workspace -> those that are to be trained    rows: of the table
    """
    graph = read_yaml(GRAPH)["stages"]
    jobs, last = [], {}
    for space in spaces:
        for seed in seeds[space.name]:
            if trained := space.trainings(rows, seed):
                base = (base_of(space.content, graph), seed)
                jobs.append(Job(space, seed, trained, last.get(base)))
                last[base] = jobs[-1].name
    return jobs


def due(space: Workspace, found: Collected, rows: list[str], seeds: list[int]) -> list[int]:
    """The seeds of which a training for these rows is missing in a workspace, or rests on something that has changed."""
    changed = {stage for stage, what in found.changed.items() if what.names()}

    def is_made(stage: str, seed: int) -> bool:
        return stage in found.made and not changed & set(lock.rests_on(found.made, stage, [seed]))

    return [seed for seed in seeds if not all(is_made(stage, seed) for stage in space.trainings(rows, seed).values())]


def base_of(content: Mapping[str, Any], graph: Mapping[str, Any]) -> str:
    """Everything in params.yaml that a base model depends on, by dvc.yaml: recipes with the same have the same base.

    content: of params.yaml    graph: the stages of dvc.yaml
    """
    keys = [VARIABLE.sub(lambda name: str(at(content, name[1])), key) for stage in SHARED for key in graph[stage]["params"]]
    return json.dumps({key: at(content, key) for key in keys}, sort_keys=True)
