"""Which files of lt a stage shares with others, and their hashes: one short dependency in dvc.yaml instead of thirty."""

import ast
import hashlib
from pathlib import Path

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


def closure(script: Path) -> list[Path]:
    """Files lt/<name>.py that a script needs, directly or through one another, sorted."""
    found, todo = set(), imported(script)
    while todo:
        found |= todo
        todo = set().union(*(imported(path) for path in todo)) - found
    return sorted(found)


def fingerprint(script: Path) -> str:
    """One line per file: sha256, two spaces, path from the project's root."""
    lines = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  lt/{path.name}\n" for path in closure(script))
    return "".join(lines)
