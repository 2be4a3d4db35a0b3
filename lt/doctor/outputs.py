"""The project's own outputs: what killed stages have left half written, artifacts that are not as their manifests say."""

from functools import partial
from pathlib import Path
from typing import Iterator

from lt.core import artifacts, files, manifest
from lt.core.artifacts import ArtifactError
from lt.doctor.findings import Finding

ASIDE = ".old.part"
PLACES = (artifacts.ROOT, artifacts.RESULTS, Path(".resume"))


def look() -> Iterator[Finding]:
    """What is wrong with artifacts/ and results/ of the working folder, and with its training states."""
    yield from _leftovers()
    yield from _damaged()


def _leftovers() -> Iterator[Finding]:
    found = {path for place in PLACES for path in place.rglob("*.part")} | {*Path("data").glob("*.part")}
    for path in sorted(found):
        if path.name.endswith(ASIDE):
            target = path.with_name(path.name.removeprefix(".").removesuffix(ASIDE))
            what = f"{target.name} as it was, of a stage that was killed while it replaced it"
            yield Finding(path, what, "takes its place again, or goes where there is a new one", partial(files.restore, target, path))
        else:
            yield Finding(path, "half written by a command that was killed", "is removed", partial(files.remove, path))


def _damaged() -> Iterator[Finding]:
    """Artifacts that differ from their manifests, or have none."""
    inside = (path for path in artifacts.ROOT.rglob("*") if path.is_file())
    for folder in sorted({path.parent for path in inside if not any(part.endswith(".part") for part in path.parts)}):
        try:
            manifest.check_all(folder)
        except ArtifactError as error:
            what, _, todo = str(error).partition("; ")
            yield Finding(folder, what.removeprefix(str(folder)).lstrip("/ "), todo)
