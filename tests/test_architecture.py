"""Who may import whom, and that each stage's declared dependencies cover the code and the params it really uses."""

import ast
import json
import os
import sys
from pathlib import Path

import pytest

from lt.core import params, plugins

ROOT = Path(__file__).parent.parent
# Rooms and single modules of lt that import only from those before them; from distill on they may name plug-ins as well.
FLOORS = (
    "core", "data", "subsample", "evaluate", "input", "network", "check", "training", "features", "retrain", "base", "distill",
    "report", "published", "page", "predict", "predictions", "sklearn", "doctor",
)
SHARED = ("core.counts", "core.keys", "core.options", "training.contracts", "training.distributed")
# What a kind of plug-in may import from lt, besides SHARED: rooms, or modules of them.
ALLOWED = {
    "augments": ("input",),
    "datasets": ("data",),
    "heads": (),
    "losses": ("training.loss",),
    "methods": ("core", "evaluate.metrics", "input", "network", "training", "retrain", "features", "heads", "losses", "samplers"),
    "mixes": ("training.mixing",),
    "models": ("network",),
    "samplers": (),
    "weightings": (),
}
NUMPY_ONLY = [
    "core.artifacts", "core.counts", "core.subset", "data.split", "subsample", "evaluate.calibration", "evaluate.comparison",
    "evaluate.headline", "evaluate.label_shift", "evaluate.metrics", "evaluate.row", "report.plots", "report.table",
]


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports, at any depth, as dotted names; `from lt.core import x` counts as lt.core.x."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            is_package = (ROOT / node.module.replace(".", "/")).is_dir()
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if is_package else {node.module}
    return found


def is_in(name: str, places: tuple[str, ...]) -> bool:
    """Whether a module lt.<..> is one of these places of lt, or inside one."""
    return any(name == f"lt.{place}" or name.startswith(f"lt.{place}.") for place in places)


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", files("lt"), ids=lambda path: str(path.relative_to(ROOT)))
def test_lt_never_imports_stages(path):
    assert not any(name.split(".")[0] in ("stages", "tests", "benchmarks") for name in imports_of(path))


@pytest.mark.parametrize("kind", plugins.FUNCTIONS)
def test_plugins_import_only_what_their_kind_may(kind):
    for path in files(f"lt/{kind}"):
        for name in imports_of(path):
            if name.startswith("lt."):
                assert is_in(name, (*SHARED, *ALLOWED[kind])), f"{path}: {name}"


def test_every_place_has_a_floor():
    assert {path.stem for path in (ROOT / "lt").iterdir() if not path.stem.startswith("__")} == {*FLOORS, *plugins.FUNCTIONS}


@pytest.mark.parametrize("room", FLOORS)
def test_no_import_runs_upwards(room):
    number = FLOORS.index(room)
    above = (*FLOORS[number + 1 :], *(plugins.FUNCTIONS if number < FLOORS.index("distill") else ()))
    for path in files(f"lt/{room}") or [ROOT / f"lt/{room}.py"]:
        assert not [name for name in imports_of(path) if is_in(name, above)], path


def test_package_files_hold_a_docstring_only():
    for path in files("lt", "stages"):
        if path.name == "__init__.py":
            assert [type(node) for node in ast.parse(path.read_text()).body] == [ast.Expr], path


@pytest.mark.parametrize("name", NUMPY_ONLY)
def test_evaluation_needs_no_torch(name):
    code = f"import sys, lt.{name}; sys.exit('torch' in sys.modules)"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


def test_nothing_unpickles():
    for path in files("lt", "stages"):
        text = path.read_text()
        assert "import pickle" not in text and "allow_pickle=True" not in text, path
        assert text.count("torch.load(") == text.count("weights_only=True"), path


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


@pytest.fixture(scope="module")
def traced(project, tmp_path_factory):
    """The tiny project run through DVC; for each stage, the project's files that its process had imported."""
    folder = tmp_path_factory.mktemp("trace")
    (folder / "sitecustomize.py").write_text(TRACER)
    project.dvc("repro", PYTHONPATH=str(folder), TRACE_FOLDER=str(folder))
    return dict(json.loads(path.read_text()) for path in folder.glob("*.json"))


def declared(project) -> dict:
    """Stage name -> (files and folders among its deps, params keys), as DVC resolves dvc.yaml."""
    from dvc.repo import Repo

    with Repo(str(project.folder)) as repo:
        return {
            stage.name: (
                [Path(dep.fs_path).relative_to(project.folder) for dep in stage.deps if not dep.def_path.startswith("params.yaml")],
                {key for dep in stage.deps for key in getattr(dep, "params", None) or []},
            )
            for stage in repo.index.stages
        }


@pytest.mark.pipeline
def test_code_dependencies_cover_what_each_stage_imports(project, traced):
    stages = declared(project)
    assert set(traced) == set(stages)
    for stage, used in traced.items():
        deps = stages[stage][0]
        missing = [name for name in used if not any(dep == Path(name) or dep in Path(name).parents for dep in deps)]
        assert not missing, f"dvc.yaml, stage {stage}: add {missing} to its deps"


class Recorder:
    """Settings that note which keys were read."""

    def __init__(self, settings: params.Settings):
        self._settings, self._read = settings, set()

    def __getattr__(self, name):
        value = getattr(self._settings, name)
        if name in params.Settings.model_fields and name not in ("methods", "teachers"):
            self._read.add(name)
        return RecordedBlock(value, name, self._read) if name in ("methods", "teachers") else value

    def options(self, kind, name):
        self._read.add(f"{kind}.{name}")
        return self._settings.options(kind, name)

    plugin = params.Settings.plugin

    def rows(self):
        return self._settings.rows()


class RecordedBlock(dict):
    """A dict that notes which of its keys were read."""

    def __init__(self, values, name, read):
        super().__init__(values)
        self._name, self._read = name, read

    def __getitem__(self, key):
        self._read.add(f"{self._name}.{key}")
        return super().__getitem__(key)


@pytest.mark.pipeline
@pytest.mark.parametrize(
    "stage, command",
    [
        ("subsample", "subsample"), ("base@0", "base --seed 0"), ("features@0", "features --seed 0"),
        ("retrain@balms-0", "retrain balms --seed 0"), ("distill@pc-0", "distill pc --seed 0"), ("evaluate@crt-0", "evaluate crt --seed 0"),
        ("report", "report"),
    ],
)
def test_params_dependencies_cover_what_each_stage_reads(project, traced, monkeypatch, stage, command):
    import importlib

    name, *arguments = command.split()
    monkeypatch.chdir(project.folder)
    recorder = Recorder(params.load())
    monkeypatch.setattr(params, "load", lambda *_: recorder)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    importlib.import_module(f"stages.{name}").main()
    keys = declared(project)[stage][1]
    missing = [read for read in recorder._read if not any(read == key or read.startswith(f"{key}.") for key in keys)]
    assert not missing, f"dvc.yaml, stage {stage}: add {missing} to its params"
