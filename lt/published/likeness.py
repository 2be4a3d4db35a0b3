"""What must be alike where a table is asked for and where its trainings run: the code, the data's index, and versions."""

import hashlib
import platform
from importlib import metadata
from pathlib import Path

from lt.published.engine import EngineError
from lt.published.workspace import CODE, FILES

# What decides the bytes of a result, or how processes speak with each other.
PACKAGES = ("torch", "torchvision", "numpy", "dvc", "distributed")


def digest(folder: Path, dataset: str) -> str:
    """sha256 of a project's, or a workspace's, code and of its index of a data set; a file that is missing counts as empty."""
    inside = (path for name in CODE for path in (folder / name).rglob("*") if path.is_file() and path.suffix != ".pyc")
    content = hashlib.sha256()
    for path in (*sorted(inside), *(folder / name for name in FILES), folder / "data" / f"{dataset}.json"):
        content.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        content.update(hashlib.sha256(path.read_bytes() if path.is_file() else b"").digest())
    return content.hexdigest()


def versions() -> dict[str, str]:
    """Python's minor version, and those of PACKAGES; none where one is not installed."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def check_versions(wanted: dict[str, str], found: dict[str, str], where: str) -> None:
    """EngineError where a worker's versions are not the command's; where: the worker, in words."""
    differing = [f"{name} {found.get(name, 'none')} instead of {version}" for name, version in wanted.items() if found.get(name) != version]
    if differing:
        raise EngineError(f"{where} has other versions than the command: {', '.join(differing)}; install the same on both")


def other_code(where: str, dataset: str) -> EngineError:
    """What to say of a worker whose digest is not the command's."""
    return EngineError(
        f"{where} has other code than the command, or another data/{dataset}.json: start workers in the project's folder, at the same commit"
    )
