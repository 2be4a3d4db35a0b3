"""One bad input: what it is, how it is put into a project, and the command that meets it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator

import yaml


@dataclass(frozen=True)
class Case:
    """kind and what: the bad input in words    argv: stage and arguments    change: makes the input bad, in the project's folder
    named: one of these has to be in the words of a refusal    valid: it may also be taken as another good value, or where this says so
    env: further environment variables    trains: takes longer    project: of benchmarks/bad_project.py
    """

    kind: str
    what: str
    argv: list[str]
    change: Callable[[Path], None] = lambda folder: None
    named: tuple[str, ...] = ()
    valid: bool | Callable[[], bool] = False
    env: dict[str, str] = field(default_factory=dict)
    trains: bool = False
    project: str = "digits"


Cases = Iterator[Case]


def at(file: str, change: Callable[[Path], None]) -> Callable[[Path], None]:
    """The damage of one file of a project."""
    return lambda folder: change(folder / file)


def written(file: str, content: bytes) -> Callable[[Path], None]:
    """A file of a project with this content."""
    return lambda folder: (folder / file).write_bytes(content) and None


def set_params(folder: Path, keys: tuple, value: Any) -> None:
    """Sets a value of params.yaml."""
    path = folder / "params.yaml"
    content = block = yaml.safe_load(path.read_text())
    for key in keys[:-1]:
        block = block[key]
    block[keys[-1]] = value
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def on(project: str, *arguments, **more) -> Case:
    """A case in another project than that of the digits."""
    return Case(*arguments, project=project, **more)
