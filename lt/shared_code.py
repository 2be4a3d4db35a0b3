"""A stage's code, besides the plug-ins that it names, and its hashes: one short dependency in dvc.yaml instead of thirty."""

import ast
import hashlib
from pathlib import Path
from typing import Iterable

FOLDER = Path(__file__).parent


def imported(path: Path) -> set[Path]:
    """Files lt/<name>.py that a file imports, at its head or inside a function; plug-ins, in folders of their own, are left out."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "lt":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.removeprefix("lt."))
        elif isinstance(node, ast.Import):
            names |= {alias.name.removeprefix("lt.") for alias in node.names}
    return {FOLDER / f"{name}.py" for name in names if (FOLDER / f"{name}.py").is_file()}


def closure(scripts: Iterable[Path]) -> list[Path]:
    """The scripts, which may be folders of such, and the files lt/<name>.py that they import, directly or through one another;
    sorted."""
    scripts = [path for script in scripts for path in (sorted(script.glob("*.py")) if script.is_dir() else [script])]
    found, todo = set(), set().union(*map(imported, scripts))
    while todo:
        found |= todo
        todo = set().union(*map(imported, todo)) - found
    return sorted(found | {path.resolve() for path in scripts})


def fingerprint(scripts: Iterable[Path]) -> str:
    """One line per file of their closure: sha256, two spaces, path from the project's root."""
    hashes = ((hashlib.sha256(path.read_bytes()).hexdigest(), path.relative_to(FOLDER.parent)) for path in closure(scripts))
    return "".join(f"{digest}  {path.as_posix()}\n" for digest, path in hashes)
