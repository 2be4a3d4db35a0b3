"""Who may import whom."""

import ast
import os
import sys
from pathlib import Path

import pytest

from lt.core import plugins

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
    "datasets": ("core.files", "data"),
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
    """Modules that a file imports, at any depth, as dotted names; `from lt.core import x` counts as lt.core.x, and what it names to
    importlib counts too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            is_package = (ROOT / node.module.replace(".", "/")).is_dir()
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if is_package else {node.module}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module" and isinstance(node.args[0], ast.Constant):
            found.add(node.args[0].value)
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
