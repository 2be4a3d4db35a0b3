"""dvc.lock of a workspace: the stages that were made there, and what they were made of."""

import hashlib
import json
from pathlib import Path
from typing import Any

from lt.core.schemas import LockFile
from lt.core.yaml_file import read_yaml


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Stage, as DVC names it, -> its entry: cmd, deps, params, outs; {} where nothing was made.

    Raises ValueError where a kill has left half of it.
    """
    path = folder / "dvc.lock"
    if not path.is_file():
        return {}
    try:
        content = read_yaml(path)
        LockFile.model_validate(content, strict=True)
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"{path} was cut short, as by a kill ({first}); run: python -m stages.doctor --mend") from None
    return content["stages"]


def command(entry: dict[str, Any]) -> list[str]:
    """Script of a stage and its arguments: retrain, crt, --seed, 0."""
    return entry["cmd"].removeprefix("python -m stages.").split()


def key(entry: dict[str, Any]) -> str:
    """Hash of all that a stage was made of and of what came out, the same wherever DVC made or restored it."""
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:32]


def params(entry: dict[str, Any]) -> dict[str, Any]:
    """Dotted key of params.yaml -> the value that the stage ran with."""
    return entry.get("params", {}).get("params.yaml", {})


def rests_on(made: dict[str, dict[str, Any]], *names: str) -> list[str]:
    """Stages that were made, and those whose outputs they have read, directly or not; in dvc.lock's order.

    An output has been read where it is a dependency, or inside one that is a folder.
    """
    found, todo = set(names), [*names]
    while todo:
        deps = [dep["path"] for dep in made[todo.pop()].get("deps", ())]
        for other, entry in made.items():
            outs = [out["path"] for out in entry.get("outs", ())]
            if other not in found and any(out == dep or out.startswith(f"{dep}/") for dep in deps for out in outs):
                found.add(other)
                todo.append(other)
    return [other for other in made if other in found]
