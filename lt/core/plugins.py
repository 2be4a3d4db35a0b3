"""Find and import a plug-in by kind and name: the file `lt/<kind>/<name>.py`, no registry."""

import difflib
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

from lt.core.options import options_of

FUNCTIONS = {
    "datasets": "open_split",
    "augments": "make",
    "models": "make",
    "heads": "make",
    "losses": "make",
    "mixes": "make",
    "weightings": "make",
    "samplers": "make",
    "methods": "fit",
}
FOLDER = Path(__file__).parent.parent


def names(kind: str) -> list[str]:
    """Names of all plug-ins of a kind, sorted."""
    return sorted(path.stem for path in (FOLDER / kind).glob("*.py") if path.stem != "__init__")


def path_of(kind: str, name: str) -> Path:
    """File of a plug-in; ValueError with the valid names and the nearest one if there is none."""
    if name not in names(kind):
        raise ValueError(unknown(name, names(kind), what=f"one of lt/{kind}"))
    return FOLDER / kind / f"{name}.py"


def module_of(kind: str, name: str) -> ModuleType:
    """The module of a plug-in; ValueError as path_of."""
    path_of(kind, name)
    return importlib.import_module(f"lt.{kind}.{name}")


def load(kind: str, name: str) -> Callable:
    """The one function of a plug-in, such as `make` of lt/losses/<name>.py."""
    return getattr(module_of(kind, name), FUNCTIONS[kind])


def with_defaults(kind: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options of a plug-in, those not given at their defaults; the plug-in is not imported."""
    return {option: default for option, (_, default) in options_of(path_of(kind, name), FUNCTIONS[kind]).items()} | options


def unknown(name: object, valid: list[str], what: str) -> str:
    """Message for a name that is not among `valid`, with the nearest valid one."""
    near = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.4)
    hint = f"; nearest: {near[0]!r}" if near else ""
    return f"got {name!r}, expected {what}: {', '.join(valid)}{hint}"
