"""What a stage began with, compared with what is there when it writes: DVC hashes a stage's dependencies after it has run."""

import hashlib
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Sequence

import lt
from lt.core.files import read_regular, stamp
from lt.core.params import PATH, at
from lt.core.yaml_file import read_yaml

GRAPH = Path("dvc.yaml")
VARIABLE = re.compile(r"\$\{([\w.]+)\}")
# what another process is writing
HALF = re.compile(r"\.part[/\\]")
PACKAGES = [Path(lt.__path__[0]), Path(lt.__path__[0]).parent / "stages"]


class ChangedError(ValueError):
    """Something that a stage's output is recorded to depend on was edited while the stage ran."""


@dataclass(frozen=True)
class Seen:
    """A file, or a folder's JSON files, as it was: sha256 of the content, and a mark that changes when it is written."""

    sha256: str | None
    mark: tuple

    @classmethod
    def of(cls, path: Path) -> "Seen":
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*.json") if not HALF.search(str(file)))
        if not files:
            return cls(None, ())
        content = hashlib.sha256()
        for file in files:
            content.update(hashlib.sha256(read_regular(file)).digest())
        return cls(content.hexdigest(), cls.mark_of(files))

    @staticmethod
    def mark_of(files: list[Path]) -> tuple:
        return tuple((str(file), *stamp(file)) for file in files)


# Taken before torch, whose import takes seconds: what Python reads of the code from here on is compared with it.
_SOURCES = {path: Seen.of(path) for folder in PACKAGES for path in folder.rglob("*.py")}
_begun = None


class Begun:
    """A stage's code, its values of params.yaml and the other files that its entry in dvc.yaml names, at its start."""

    def __init__(self, entry: dict[str, list[str]]):
        self.params = entry["params"]
        self.seen, self.content = Seen.of(PATH), read_yaml(PATH)
        self.deps = {path: Seen.of(path) for path in map(Path, entry["deps"])}
        self.loaded = _loaded()
        self._tell(_written_since(self.loaded))

    def check(self) -> None:
        """Raises ChangedError that tells all that has changed."""
        content = self.content if Seen.of(PATH).sha256 == self.seen.sha256 else read_yaml(PATH)
        told = [line for key in self.params for line in differences(key, at(self.content, key), at(content, key))]
        others = {path for path, seen in self.deps.items() if Seen.of(path).sha256 != seen.sha256}
        others |= {path for path in self.loaded if path in _SOURCES and Seen.of(path).sha256 != _SOURCES[path].sha256}
        # What was imported in the meantime may have been read between an edit and its undoing.
        others |= _written_since(_loaded() - self.loaded)
        self._tell({path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path for path in others}, told)

    @staticmethod
    def _tell(paths: set[Path], told: Sequence[str] = ()) -> None:
        lines = [*told, *(f"{path} was edited" for path in sorted(map(str, paths)))]
        if lines:
            raise ChangedError(
                "changed while this stage ran; nothing was written, and the last saved training state, if there is one, is kept:\n  "
                + "\n  ".join(lines) + "\nGive the same command again to run the stage as things are now; undo the change first "
                "to go on from the saved state."
            )


@contextmanager
def begun(script: str, arguments: list[str]) -> Iterator[None]:
    """Notes, for a block, what the stage of this command depends on; nothing where no dvc.yaml in the working folder has it."""
    global _begun
    entry = entry_of(read_yaml(GRAPH).get("stages"), ["python", "-m", f"stages.{script}", *arguments]) if GRAPH.is_file() else None
    _begun = Begun(entry) if entry else None
    try:
        yield
    finally:
        _begun = None


def check() -> None:
    """Raises ChangedError where something has changed since the stage began; silent outside of a stage."""
    if _begun:
        _begun.check()


def entry_of(stages: Any, command: list[str]) -> dict[str, list[str]] | None:
    """`deps` and `params` of the stage that a command is, its variables filled in; None where it is none of them.

    stages: of dvc.yaml; those of another kind than here, and what DVC itself refuses, are passed over
    """
    found = []
    bodies = [body.get("do", body) for body in stages.values() if isinstance(body, dict)] if isinstance(stages, dict) else []
    for body in bodies:
        if not isinstance(body, dict) or not isinstance(body.get("cmd"), str):
            continue
        texts = VARIABLE.split(body["cmd"])
        match = re.fullmatch("".join(r"(\S+)" if place % 2 else re.escape(text) for place, text in enumerate(texts)), " ".join(command))
        if match:
            found.append((sum(map(len, match.groups())), dict(zip(texts[1::2], match.groups())), body))
    if not found:
        return None
    _, scope, body = min(found, key=lambda item: item[0])  # the one that says most by itself
    content = read_yaml(PATH)

    def filled(text: str) -> str:
        return VARIABLE.sub(lambda name: str(scope.get(name[1], at(content, name[1]))), text)

    return {kind: [filled(text) for text in body.get(kind) or [] if isinstance(text, str)] for kind in ("deps", "params")}


def differences(key: str, old: Any, new: Any) -> list[str]:
    """What has changed at a key of params.yaml, one line per value; [] where nothing has."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [line for name in sorted({*old, *new}) for line in differences(f"{key}.{name}", old.get(name), new.get(name))]
    return [] if old == new and type(old) is type(new) else [f"{PATH}: {key} was {old!r}, is {new!r}"]


def _loaded() -> set[Path]:
    """The project's files that this process has imported."""
    files = {Path(module.__file__) for module in [*sys.modules.values()] if getattr(module, "__file__", None)}
    return {path for path in files if any(path.is_relative_to(folder) for folder in PACKAGES)}


def _written_since(paths: set[Path]) -> set[Path]:
    """Those that were written after their content was noted, or are new."""
    return {path for path in paths if path not in _SOURCES or Seen.mark_of([path]) != _SOURCES[path].mark}
