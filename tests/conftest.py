"""A copy of the project in a temporary folder, with params small enough for tests."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

from lt.core import params

# How many examples a property test takes: `make test` asks for few.
hypothesis.settings.register_profile("few", max_examples=25)
hypothesis.settings.register_profile("many", max_examples=150)
hypothesis.settings.load_profile("many")

# A shell starts background jobs with Ctrl-C ignored, and children inherit that: tests of Ctrl-C need it as in a terminal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
TINY = {
    "train.epochs": 2, "train.warmup_epochs": 0, "features.views": 2, "distill.epochs": 2, "distill.warmup_epochs": 0,
    "methods.*.steps": 20,
}
# DVC's settings in tests, whatever the user's own are: no daemons that ask a server for news.
DVC_CONFIG = ROOT / "tests" / "dvc"
# Writes what a stage's process has imported of the project.
TRACER = """
import atexit, json, os, sys
from pathlib import Path

def dump():
    stage, folder = os.environ.get("DVC_STAGE"), os.environ.get("TRACE_FOLDER")
    if stage and folder and "stages" in sys.modules:
        here = Path.cwd()
        used = {Path(m.__file__).resolve() for m in list(sys.modules.values()) if getattr(m, "__file__", None)}
        inside = sorted(str(p.relative_to(here)) for p in used if here in p.parents and p.name != "__init__.py" and p.exists())
        Path(folder, stage.replace("/", "_") + ".json").write_text(json.dumps([stage, inside]))

atexit.register(dump)
"""


class Project:
    """A checkout to run commands in."""

    def __init__(self, folder: Path):
        self.folder = folder

    def run(self, *command: str, ok: bool = True, **env: str) -> subprocess.CompletedProcess:
        """Runs a command in the checkout; `python` and `dvc` are those of this environment."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "LT_"))}
        everything = {**clean, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", "DVC_GLOBAL_CONFIG_DIR": str(DVC_CONFIG), **env}
        done = subprocess.run(command, cwd=self.folder, env=everything, capture_output=True, text=True, timeout=600)
        if ok and done.returncode:
            raise AssertionError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
        return done

    def git(self, *arguments: str) -> str:
        return self.run("git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments).stdout

    def dvc(self, *arguments: str, ok: bool = True, **env: str) -> subprocess.CompletedProcess:
        return self.run("dvc", *arguments, ok=ok, **env)

    def set(self, changes: dict) -> None:
        """Edits params.yaml; `methods.*.steps` means every method that has steps."""
        import ruamel.yaml

        yaml, path = ruamel.yaml.YAML(), self.folder / "params.yaml"
        content = yaml.load(path)
        for key, value in changes.items():
            *blocks, last = key.split(".")
            places = [content]
            for block in blocks:
                places = [child for place in places for child in (place.values() if block == "*" else [place[block]])]
            for place in places:
                if last in place or "*" not in blocks:
                    place[last] = value
        yaml.dump(content, path)

    def keep(self, methods: list[str], teachers: list[str]) -> None:
        """Leaves only some rows."""
        import ruamel.yaml

        yaml, path = ruamel.yaml.YAML(), self.folder / "params.yaml"
        content = yaml.load(path)
        for block, names in (("methods", methods), ("teachers", teachers)):
            for name in [*content[block]]:
                if name not in names:
                    del content[block][name]
        content["report"]["row"] = "base"
        yaml.dump(content, path)


def copy_project(folder: Path) -> Project:
    """The files that git tracks, or would track, in a repository of their own, without results."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    for name in filter(None, listed):
        if (ROOT / name).is_file() and not name.startswith("results/") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    project = Project(folder)
    project.set(TINY)
    project.git("init", "-q")
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A tiny project: base, three methods, one xERM row; committed, nothing run yet."""
    project = copy_project(tmp_path_factory.mktemp("project"))
    project.keep(["crt", "pc", "balms"], ["pc"])
    project.git("add", "-A")
    project.git("commit", "-qm", "start")
    return project


def executed(done: subprocess.CompletedProcess) -> set[str]:
    """Names of the stages that DVC really ran."""
    return set(re.findall(r"Running stage '([^']+)'", done.stdout))


def lock(project: Project) -> str:
    return (project.folder / "dvc.lock").read_text()


def experiment(project: Project, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess:
    return project.dvc("exp", "run", *arguments, ok=ok)


@pytest.fixture(scope="module")
def built(project, tmp_path_factory):
    """The project after its first `dvc repro`, committed; `imported`: for each stage, the project's files that its process had."""
    traces = tmp_path_factory.mktemp("trace")
    (traces / "sitecustomize.py").write_text(TRACER)
    project.first = project.dvc("repro", PYTHONPATH=str(traces), TRACE_FOLDER=str(traces))
    project.imported = dict(json.loads(path.read_text()) for path in traces.glob("*.json"))
    project.git("add", "-A")
    project.git("commit", "-qm", "first results")
    return project


@pytest.fixture
def restored(built):
    """The built project; its params and results are put back after the test."""
    yield built
    (built.folder / "params.yaml").touch()
    built.git("checkout", "-f", ".")
    built.git("clean", "-fdq", "lt")
    built.dvc("checkout", "--force")


@pytest.fixture(scope="module")
def stages_in(tmp_path_factory):
    """stages_in(changes, *commands): sets params, runs stages such as 'retrain pc --seed 0' in this process, gives the folder.

    Calls of one module share their folder. The working folder is back in place afterwards.
    """
    folder = tmp_path_factory.mktemp("stages")
    (folder / "data").mkdir()
    for source in (ROOT / "params.yaml", *(ROOT / "data").glob("*.json")):
        shutil.copy(source, folder / source.relative_to(ROOT))
    Project(folder).set(TINY)

    def run(changes: dict, *commands: str) -> Path:
        Project(folder).set(changes)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.delenv("DVC_ROOT", raising=False)
            for command in commands:
                name, *arguments = command.split()
                patch.setattr(sys, "argv", [name, *arguments])
                importlib.import_module(f"stages.{name}").main()
        return folder

    return run


@pytest.fixture
def settings():
    """The shipped params."""
    return params.load(ROOT / "params.yaml")


def pytest_collection_modifyitems(items):
    """What runs tables through DVC takes minutes in all: it belongs to `make test-all`. The files that take longest come first."""
    for item in items:
        if {"desk", "base_only"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.get_closest_marker("pipeline") is None)
