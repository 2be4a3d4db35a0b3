"""A recipe's DVC workspace: a folder under runs/ with params.yaml, dvc.lock and a copy of the code, on the project's cache.

    with held(workspace.folder) as hold:
        prepare(workspace, [0])
        reproduce(workspace, ["base", "crt"], hold)
        found = collect(workspace)
"""

import json
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import IO, Any, Callable, Iterable

import yaml

from lt.core import artifacts
from lt.core.row_names import evaluation, maker, row_names
from lt.core.yaml_file import read_yaml
from lt.published import lock, notes
from lt.published.engine import EngineError, dvc, repro

RUNS = Path("runs")
CODE = ("lt", "stages")
FILES = ("dvc.yaml", ".dvcignore")
# What takes long, or draws the data: never made a second time without being asked.
TRAINING = ("subsample", "base", "features", "retrain", "distill")


@dataclass(frozen=True)
class Workspace:
    """One recipe at one budget. content: of params.yaml, but for its seeds, which `write_params` sets"""

    name: str
    content: dict[str, Any]

    @property
    def folder(self) -> Path:
        return RUNS / self.name

    def rows(self) -> list[str]:
        """Rows of the table, in order."""
        return row_names(self.content["methods"], self.content["teachers"])

    def seeds(self) -> list[int]:
        """The seeds that were asked for last; [] where none were."""
        path = self.folder / "params.yaml"
        return read_yaml(path)["seeds"] if path.is_file() else []

    def stages(self, rows: Iterable[str]) -> list[str]:
        """The stages, as DVC names them, that evaluate those of the rows that this recipe has, over the seeds asked for last."""
        return [evaluation(row, seed) for row in self.rows() if row in rows for seed in self.seeds()]

    def trainings(self, rows: Iterable[str], seed: int) -> dict[str, str]:
        """Each of those of the rows that this recipe has -> the stage, as DVC names it, that trains it with a seed."""
        made_by = {row: maker(row) for row in self.rows() if row in rows}
        return {row: f"{stage}@{f'{method}-' if method else ''}{seed}" for row, (stage, method) in made_by.items()}


@dataclass(frozen=True)
class Changes:
    """What `dvc status` finds changed under a stage that was made: keys of params.yaml, inputs, files of code."""

    params: list[str]
    inputs: list[str]
    code: list[str]

    def names(self) -> list[str]:
        return [*self.params, *self.inputs, *self.code]


@dataclass(frozen=True)
class Collected:
    """What a workspace holds: entries of dvc.lock, their notes, and what has changed under them, by stage; seeds asked for last."""

    made: dict[str, dict[str, Any]]
    notes: dict[str, dict[str, Any]]
    changed: dict[str, Changes]
    asked: list[int]

    def seeds(self, rows: Iterable[str]) -> list[int]:
        """Those of the seeds asked for last that are there of that row which has most of them."""
        found = ([seed for seed in self.asked if evaluation(row, seed) in self.made] for row in rows)
        return max(found, key=len, default=[])


def prepare(workspace: Workspace, seeds: list[int], source: Path = Path(), made_by: str | None = None) -> None:
    """Makes the workspace ready: a copy of the project's code, its data, cache and remote, and params.yaml with these seeds.

    source: where the code is copied from    made_by: its commit, looked up in the working folder if none is given
    Stages run from the copy, so that an edit in the middle of a long run does not reach a part of it.
    """
    folder = workspace.folder
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / notes.NOTES).exists():
        notes.take(folder, lock.read(folder))  # of a command that was killed, under the commit of its code
    if not (folder / ".dvc").is_dir():
        dvc(folder, "init", "--no-scm", "--quiet")
    for name in CODE:
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy2(source / name, folder / name)
    (folder / "data").unlink(missing_ok=True)
    (folder / "data").symlink_to(Path("data").resolve(), target_is_directory=True)
    artifacts.write_text(folder / notes.COMMIT, made_by or commit())
    notes.link(folder, share(folder))
    write_params(workspace, seeds)


def share(folder: Path) -> Path:
    """Gives the workspace the project's DVC settings, its cache and remote among them; returns the cache's folder."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        with Repo() as project:
            settings, cache = project.config.read(), project.cache.local_cache_dir
    except NotDvcRepoError:
        raise EngineError("this project has no folder .dvc, where the cache lies that tables share: `dvc init` makes one") from None
    settings["cache"] = settings.get("cache", {}) | {"dir": cache}
    settings["core"] = settings.get("core", {}) | {"no_scm": True}
    with Repo(str(folder)) as own, own.config.edit() as found:
        found.clear()
        found.update(settings)
    return Path(cache)


def write_params(workspace: Workspace, seeds: list[int]) -> None:
    """Writes the workspace's params.yaml."""
    text = yaml.safe_dump(workspace.content | {"seeds": seeds}, sort_keys=False)
    artifacts.write_text(workspace.folder / "params.yaml", f"# Written by python -m stages.table: {workspace.name}\n{text}")


def reproduce(workspace: Workspace, rows: list[str], hold: IO, again: Iterable[str] = ()) -> None:
    """Makes these rows over the seeds of params.yaml: what is up to date stays, what the cache has is restored, the rest runs.

    again: stages that run whatever DVC thinks of them. The project's remote, if it has one, is asked for what the cache has not.
    Raises EngineError where a stage fails, KeyboardInterrupt on a stop signal.
    """
    run = partial(make, workspace, hold=hold, show=lambda told: print(f"{workspace.name}: {told}", flush=True))
    if again:
        run(["--force", "--single-item", *again])
    run(workspace.stages(rows))


def make(workspace: Workspace, arguments: list[str], hold: IO, show: Callable[[str], None]) -> None:
    """`dvc repro` with these arguments, through the remote where there is one; notes what the stages took. Raises as `reproduce` does."""
    pull = ["--pull"] if has_remote(workspace.folder) and "--force" not in arguments else []
    try:
        repro(workspace.folder, *pull, *arguments, show=show, hold=hold)
    finally:
        notes.take(workspace.folder, lock.read(workspace.folder))


def has_remote(folder: Path) -> bool:
    """Whether a project or a workspace has a DVC remote."""
    from dvc.repo import Repo

    with Repo(str(folder)) as found:
        return bool(found.config["core"].get("remote"))


def collect(workspace: Workspace) -> Collected:
    """What the workspace holds now; runs nothing."""
    made = lock.read(workspace.folder)
    found = {stage: notes.read(workspace.folder, entry) for stage, entry in made.items()}
    try:
        return Collected(made, found, changed(workspace) if made else {}, workspace.seeds())
    except EngineError as error:
        if " is busy" not in str(error):
            raise
        return Collected(made, found, {}, workspace.seeds())  # DVC does not look at what a stage is at work on; what was made stands


def bring_up(workspace: Workspace, rows: list[str]) -> dict[str, Changes]:
    """The trainings of these rows that were made here and are out of date, with what has changed under them.

    Before that, what takes no time and has changed is made anew, and what is not as it was made is taken from the cache.
    """
    folder, targets = workspace.folder, workspace.stages(rows)
    made = lock.read(folder)
    if not made or not changed(workspace, targets):
        return {}
    graph = read_yaml(folder / "dvc.yaml")["stages"]
    repro(folder, *(stage for stage in graph if not stage.startswith((*TRAINING, "evaluate", "report"))), show=lambda told: None)
    dvc(folder, "checkout", "--quiet", "--force", "--allow-missing", "--with-deps", *(name for name in targets if name in made))
    found = changed(workspace, targets).items()
    return {stage: what for stage, what in found if stage in made and stage.startswith(TRAINING) and what.names()}


def forget(workspace: Workspace, stages: Iterable[str]) -> None:
    """Removes the numbers of rows that rest on stages which are to run again: a kill must not leave them beside other models."""
    made, stages = lock.read(workspace.folder), set(stages)
    for row, seed in product(workspace.rows(), workspace.seeds()):
        if evaluation(row, seed) in made and stages & set(lock.rests_on(made, evaluation(row, seed))):
            shutil.rmtree(measured(workspace, row, seed), ignore_errors=True)


def keep(workspace: Workspace, stages: list[str]) -> None:
    """Records trainings that other code has made as made by the present one, as `dvc commit` does, and notes that."""
    before = lock.read(workspace.folder)
    dvc(workspace.folder, "commit", "--quiet", "--force", *stages)
    after = lock.read(workspace.folder)
    for stage in stages:
        notes.write(workspace.folder, lock.key(after[stage]), notes.read(workspace.folder, before[stage]) | {"kept": True})


def kept(workspace: Workspace, rows: list[str]) -> list[str]:
    """Trainings under these rows that were kept although other code has made them."""
    made = lock.read(workspace.folder)
    last = [stage for stage in workspace.stages(rows) if stage in made]
    return [stage for stage in lock.rests_on(made, *last) if "kept" in notes.read(workspace.folder, made[stage])]


def measured(workspace: Workspace, row: str, seed: int) -> Path:
    """The folder of everything that was measured on a row of one seed."""
    return workspace.folder / artifacts.measured_dir(row, seed)


def changed(workspace: Workspace, targets: Iterable[str] = ()) -> dict[str, Changes]:
    """What `dvc status` tells of these stages and all before them, or of every stage."""
    deps = ["--with-deps"] if targets else []
    told = json.loads(dvc(workspace.folder, "--wait-for-lock", "status", "--json", *deps, *targets))
    return {stage: _changes(entries) for stage, entries in told.items()}


def _changes(entries: list[Any]) -> Changes:
    found = Changes([], [], [])
    for entry in entries:
        if not isinstance(entry, dict):
            found.inputs.append("its command")
            continue
        for dep, how in entry.get("changed deps", {}).items():
            if isinstance(how, dict):
                found.params.extend(how)
            elif dep.startswith(("lt/", "stages/")):
                found.code.append(dep)
            elif how != "deleted":  # what is gone from the workspace is restored
                found.inputs.append(dep)
    return found


def commit() -> str:
    """The project's commit in 12 digits, and whether its code differs from it; 'unknown' without git."""
    try:
        last = _git("rev-parse", "--short=12", "HEAD")
        return f"{last} with changes" if _git("status", "--porcelain", "--", *CODE, "dvc.yaml") else last
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
