"""The stages of dvc.yaml, filled in for given params: the same commands, dependencies and outputs, without DVC."""

import re
from dataclasses import dataclass
from itertools import product
from typing import Any, Iterable, Iterator

from lt.core.params import at

# Hashes of shared code are made anew before anything else; the report of a run folder is not looked at.
LEFT_OUT = ("code", "report")
VARIABLE = re.compile(r"\$\{([\w.]+)\}")


@dataclass(frozen=True)
class Stage:
    """One run of a stage script.

    command: such as retrain, crt, --seed, 0    deps, outs: paths in the folder that it works in
    params: dotted key of params.yaml -> value, of those that its outputs depend on
    """

    command: tuple[str, ...]
    deps: tuple[str, ...]
    params: dict[str, Any]
    outs: tuple[str, ...]

    @property
    def name(self) -> str:
        """As in the name of its cost note (lt.core.command): retrain_crt_seed_0."""
        return "_".join(part.lstrip("-") for part in self.command)

    def made_for(self, dep: str) -> list[str]:
        """Its outputs that are a dependency, or inside one that is a folder."""
        return [out for out in self.outs if out == dep or out.startswith(f"{dep}/")]


def stages_of(content: dict[str, Any], graph: dict[str, Any]) -> list[Stage]:
    """Every stage that the params ask for, producers first. content: of params.yaml    graph: `stages` of dvc.yaml"""
    found = []
    for name, entry in graph.items():
        for variables in _instances(entry, content) if name not in LEFT_OUT else ():
            found.append(_stage(entry.get("do", entry), content, content | variables))
    return found


def needed(stages: Iterable[Stage], rows: Iterable[str]) -> list[Stage]:
    """Those stages that the evaluation of `rows` needs, directly or not, in their order."""
    rows, found, wanted = set(rows), [], set()
    for stage in reversed(list(stages)):
        evaluates = stage.command[0] == "evaluate" and stage.command[1] in rows
        if evaluates or any(stage.made_for(dep) for dep in wanted):
            found.append(stage)
            wanted |= set(stage.deps)
    return found[::-1]


def _instances(entry: dict[str, Any], content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The variables of each instance: `item` of a matrix, `key` and `item` of a foreach over a mapping."""
    if "matrix" in entry:
        lists = [list(_filled(values, content)) for values in entry["matrix"].values()]
        yield from ({"item": dict(zip(entry["matrix"], values))} for values in product(*lists))
    elif "foreach" in entry:
        yield from ({"key": key, "item": item} for key, item in _filled(entry["foreach"], content).items())
    else:
        yield {}


def _stage(body: dict[str, Any], content: dict[str, Any], scope: dict[str, Any]) -> Stage:
    _, _, script, *arguments = _filled(body["cmd"], scope).split()

    def listed(kind: str) -> tuple[str, ...]:
        """Entries of a list; one with flags is a mapping of one key."""
        return tuple(_filled(next(iter(item)) if isinstance(item, dict) else item, scope) for item in body.get(kind, ()))

    return Stage(
        command=(script.removeprefix("stages."), *arguments),
        deps=listed("deps"),
        params={key: at(content, key) for key in listed("params")},
        outs=(*listed("outs"), *listed("metrics")),
    )


def _filled(text: str, scope: dict[str, Any]) -> Any:
    """Text with its ${variables} filled in; the variable's own value where there is nothing else."""
    whole = VARIABLE.fullmatch(text)
    return at(scope, whole[1]) if whole else VARIABLE.sub(lambda found: str(at(scope, found[1])), text)
