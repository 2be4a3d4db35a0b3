"""Bad inputs of every kind, and how many of each are drawn."""

import random
from itertools import count, islice
from pathlib import Path
from typing import Callable

from benchmarks import bad_commands, bad_data, bad_outputs, bad_params
from benchmarks.bad_case import Case, Cases


def draw(good: Path, kinds: list[str], number: int, seed: int) -> list[Case]:
    """Cases of these kinds, `number` in all, in equal shares as far as a kind has as many."""
    pools = {}
    for kind in kinds:
        draw = random.Random(f"{seed} {kind}")
        cases = list(islice(KINDS[kind](good, draw), 4 * number))
        draw.shuffle(cases)
        pools[kind] = cases
    chosen: list[Case] = []
    for place in count():
        left = [pool[place] for pool in pools.values() if place < len(pool)]
        if not left or len(chosen) >= number:
            return sorted(chosen[:number], key=lambda case: list(pools).index(case.kind))
        chosen += left


KINDS: dict[str, Callable[[Path, random.Random], Cases]] = {
    "params": bad_params.params, "yaml": bad_params.yaml_text, "prior": bad_params.priors, "extremes": bad_params.extremes,
    "index": bad_data.index_files, "lists": bad_data.lists, "folders": bad_data.folders, "embeddings": bad_data.embeddings,
    "packs": bad_data.packs,
    "artifacts": bad_outputs.artifacts, "renewed": bad_outputs.renewed, "details": bad_outputs.details,
    "notes": bad_outputs.notes,
    "states": bad_outputs.states, "environment": bad_commands.environment, "arguments": bad_commands.command_lines,
    "images": bad_commands.images,
}  # fmt: skip
