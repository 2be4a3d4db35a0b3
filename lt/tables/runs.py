"""A recipe's folder under runs/: which of its stages are done, by which code, and which have to run."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from lt.core import artifacts
from lt.core.params import at, read_yaml
from lt.tables.graph import Stage, needed, stages_of

RUNS = Path("runs")
NOTES = ".stages"
# What takes long, or draws the data: never made a second time without being asked.
TRAINING = ("subsample", "base", "features", "retrain", "distill")
# Kinds of difference, in the order in which they are told.
KINDS = ("params", "inputs", "code")


@dataclass(frozen=True)
class Run:
    """One recipe at one budget, in a folder of its own.

    content: of params.yaml; its seeds do not matter    graph: `stages` of dvc.yaml

    Each finished stage leaves a note: what it depended on (values of params, hashes of its inputs and of its code), its
    outputs' hash and sizes, the commit, the seconds. A stage is up to date where all of that is still so.
    """

    name: str
    content: dict[str, Any]
    graph: dict[str, Any]

    @cached_property
    def folder(self) -> Path:
        """runs/<name>-<hash of all that the base model depends on, but for seeds and code>.

        So another seed or another row reuses what is there, and another precision does not write over it.
        """
        shared = self.shared()
        return RUNS / f"{self.name}-{hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:8]}"

    def shared(self) -> dict[str, Any]:
        """What the base model depends on: dotted key of params.yaml -> value."""
        stages = [stage for stage in self.plan([0], ["base"]) if stage.command[0] in ("subsample", "base")]
        return {key: value for stage in stages for key, value in stage.params.items()}

    def others(self) -> dict[Path, list[str]]:
        """Folders of the same recipe and budget under other settings: which of them differ."""
        found = {}
        for path in sorted(RUNS.glob(f"{self.name}-????????/params.yaml")):
            if path.parent != self.folder:
                theirs = read_yaml(path)
                found[path.parent] = [key for key, value in self.shared().items() if at(theirs, key) != value]
        return found

    def rows(self) -> list[str]:
        """Rows of the table, in order."""
        return [stage.command[1] for stage in stages_of(self.content, self.graph) if stage.command[0] == "evaluate"]

    def plan(self, seeds: list[int], rows: list[str]) -> list[Stage]:
        """The stages that these rows need over these seeds, producers first."""
        return needed(stages_of(self.content | {"seeds": seeds}, self.graph), rows)

    def due(self, plan: list[Stage], keep: bool = False) -> list[Stage]:
        """Stages of a plan that have to run: those of which a dependency has changed; the evaluations, and whatever a stage
        that has to run reads, where an output is not there or not whole. keep: trainings of which only the code has changed stay.
        """
        found, wanted = [], set()
        for stage in reversed(plan):
            changed = self.changed(plan, stage)
            stale = changed is None or any(changed.values()) and not (keep and only_code(stage, changed))
            is_read = stage.command[0] == "evaluate" or any(stage.made_for(dep) for dep in wanted)
            if stale or is_read and not self.is_whole(stage):
                found.append(stage)
                wanted |= set(stage.deps)
        return found[::-1]

    def changed(self, plan: list[Stage], stage: Stage) -> dict[str, list[str]] | None:
        """What a stage depended on that is another now: names by kind, see KINDS; None where it has not run."""
        note = self.note(stage)
        if note is None:
            return None
        now, found = self.depends_on(plan, stage), {}
        for kind in KINDS:
            names = sorted(now[kind].keys() | note[kind].keys())
            found[kind] = [name for name in names if now[kind].get(name) != note[kind].get(name)]
        # What is to be made anew may come out as it was.
        found["inputs"] = [name for name in found["inputs"] if name not in now["inputs"] or now["inputs"][name] is not None]
        return found

    def depends_on(self, plan: list[Stage], stage: Stage) -> dict[str, dict[str, Any]]:
        """What a stage's outputs depend on now: values of params, hashes of inputs and of code.

        An input that a stage of the plan makes has the hash in that stage's note, None without one.
        """
        found = {"params": stage.params, "inputs": {}, "code": {}}
        for dep in stage.deps:
            if dep.startswith(("lt/", "stages/", "artifacts/code/")):
                found["code"] |= _hashes(self.folder, dep)
                continue
            made = [(out, self.note(producer)) for producer in plan for out in producer.made_for(dep)]
            if made:
                found["inputs"] |= {out: note and note["outputs"][out]["sha256"] for out, note in made}
            else:
                found["inputs"] |= _hashes(self.folder, dep)
        return found

    def note(self, stage: Stage) -> dict[str, Any] | None:
        """What the stage's last run left behind; None where it has not run."""
        path = self._note(stage)
        return artifacts.read_json(path) if path.is_file() else None

    def write_note(self, stage: Stage, found: dict[str, Any]) -> None:
        """Notes a finished stage: `found`, and hash and sizes of its outputs; ArtifactError where one is not there."""
        outputs = {out: _contents(self.folder / out) for out in stage.outs}
        artifacts.write_json(self._note(stage), found | {"command": list(stage.command), "outputs": outputs})

    def is_whole(self, stage: Stage) -> bool:
        """Whether the outputs of a stage that has run have their files, in the sizes that they were written in."""
        note = self.note(stage)
        return note is not None and all(_sizes(self.folder / out) == made["sizes"] for out, made in note["outputs"].items())

    def _note(self, stage: Stage) -> Path:
        return self.folder / NOTES / f"{stage.name}.json"


def only_code(stage: Stage, changed: dict[str, list[str]]) -> bool:
    """Whether this is a training of which nothing but the code has changed."""
    return stage.command[0] in TRAINING and not changed["params"] and not changed["inputs"]


def _sizes(path: Path) -> dict[str, int]:
    """Bytes of a file, or of every file in a folder, by path from there; {} where there is nothing."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.stat().st_size for file in files}


def _contents(path: Path) -> dict[str, Any]:
    """sha256 and sizes of an output."""
    if not path.exists():
        raise artifacts.ArtifactError(f"{path} is not there, although its stage ended without an error")
    hashes = {name: _file_sha(path / name if path.is_dir() else path) for name in _sizes(path)}
    return {"sha256": hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest(), "sizes": _sizes(path)}


def _hashes(folder: Path, dep: str) -> dict[str, str | None]:
    """sha256 of a dependency by path: one entry for a file, None where it is missing, one for each Python file of a folder.

    A file of artifacts/code lists hashes itself.
    """
    path = folder / dep
    if dep.startswith("artifacts/code/") and path.is_file():
        return {name: sha for sha, name in (line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines())}
    if path.is_dir():
        return {file.relative_to(folder).as_posix(): _file_sha(file) for file in sorted(path.rglob("*.py"))}
    return {dep: _file_sha(path) if path.is_file() else None}


def _file_sha(path: Path) -> str:
    return _sha_of(path, path.stat().st_mtime_ns, path.stat().st_size)


@lru_cache(maxsize=4096)
def _sha_of(path: Path, modified_ns: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
