"""Trainings of a table that are out of date: refused, kept, or run again, as --stale says."""

from lt.published import workspace
from lt.published.engine import EngineError
from lt.published.workspace import Changes, Workspace
from lt.report.words import in_words

# Names of what has changed under a training, in a message.
SHOWN = 3


def refuse(spaces: list[Workspace], old: list[dict[str, Changes]]) -> None:
    """Raises EngineError where trainings are out of date: they are run again, or kept, only where that is asked for."""
    lines = []
    for space, changed in zip(spaces, old):
        found = workspace.collect(space).notes if changed else {}
        for stage, what in changed.items():
            took = in_words(found[stage]["seconds"]) if "seconds" in found[stage] else "time unknown"
            more = f" and {len(what.names()) - SHOWN} more" if len(what.names()) > SHOWN else ""
            lines.append(f"{space.folder}: {stage} ({took}), changed since: {', '.join(what.names()[:SHOWN])}{more}")
    if lines:
        raise EngineError(
            "trainings that are out of date; nothing was run:\n  " + "\n  ".join(lines)
            + "\nAdd --stale again to run again what DVC cannot restore from its cache, or --stale keep to keep those of which only "
            "the code has changed, which the table then says; or undo the change."
        )


def renew(space: Workspace, changed: dict[str, Changes], rows: list[str], how: str | None) -> list[str]:
    """Keeps the trainings that shall be kept; returns those that run again although DVC takes them for up to date."""
    if how == "keep":
        kept = [stage for stage, what in changed.items() if what.code and not what.params and not what.inputs]
        if kept:
            workspace.keep(space, kept)
        workspace.forget(space, changed.keys() - set(kept))
        return []
    again = workspace.kept(space, rows) if how == "again" else []
    workspace.forget(space, [*changed, *again])
    return again
