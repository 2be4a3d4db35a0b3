"""A table whose trainings run on a cluster: they fill the cache, from which the recipes' own workspaces then restore them."""

import contextlib
from typing import IO, Callable, Iterator, NamedTuple

from lt.published import crew, jobs, stale, workspace
from lt.published.engine import EngineError
from lt.published.workspace import Changes, Workspace


class Claim(NamedTuple):
    """A recipe's workspace that this command holds, and what has changed under its trainings."""

    space: Workspace
    hold: IO
    changed: dict[str, Changes]


def work(claims: list[Claim], seeds: list[int], rows: list[str], how: str | None, write: Callable, where: str) -> list[str]:
    """Trains what is due on the cluster that `where` names; a recipe's rows are restored and written once its last job has ended.

    how: what is done with trainings that are out of date. A training that fails leaves the other rows; returns what was told of those.
    """
    failed: list[str] = []
    wanted: dict[str, list[int]] = {}
    for claim in claims:
        with _telling(failed):
            wanted[claim.space.name] = _due(claim, seeds, rows, how)
    claims = [claim for claim in claims if claim.space.name in wanted]
    planned = jobs.plan([claim.space for claim in claims], wanted, rows)
    made: dict[str, set[str]] = {}  # job that has ended -> the stages that are done

    def finish(claim: Claim) -> None:
        """Restores and writes a recipe's rows, once all of its jobs have ended."""
        own = [job for job in planned if job.space == claim.space]
        if any(job.name not in made for job in own):
            return
        missing = {(row, job.seed) for job in own for row, stage in job.trained.items() if stage not in made[job.name]}
        with _telling(failed):
            _restore(claim, {row: [seed for seed in seeds if (row, seed) not in missing] for row in claim.space.rows() if row in rows})
        if workspace.collect(claim.space).seeds(claim.space.rows()):
            write(claim.space)

    for claim in claims:
        finish(claim)
    with contextlib.closing(crew.outcomes(where, planned)) if planned else contextlib.nullcontext([]) as ended:
        for job, outcome in ended:
            made[job.name] = set(outcome["made"])
            for stage, last in outcome["failed"].items():
                failed.append(f"{job.name}: {stage or 'the job'} failed")
                print(f"\n{failed[-1]}; its last lines:\n{last}\n", flush=True)
            finish(next(claim for claim in claims if claim.space == job.space))
    return failed


@contextlib.contextmanager
def _telling(failed: list[str]) -> Iterator[None]:
    """Tells an error of one recipe, and goes on; its first line is added to `failed`."""
    try:
        yield
    except EngineError as error:
        print(f"\n{error}\n", flush=True)
        failed.append(str(error).partition(";")[0])


def _due(claim: Claim, seeds: list[int], rows: list[str], how: str | None) -> list[int]:
    """The seeds that are to be trained; their subset is drawn here, so that no two jobs do it at once, and mistakes show early."""
    space = claim.space
    if again := stale.renew(space, claim.changed, rows, how):
        told = f"{', '.join(again)} would run again although DVC takes them for up to date"
        raise EngineError(f"{space.folder}: {told}, which only this machine can do: give the command without --cluster first")
    due = jobs.due(space, workspace.collect(space), rows, seeds)
    if due:
        workspace.write_params(space, seeds)
        workspace.make(space, ["subsample"], claim.hold, show=lambda told: None)
    return due


def _restore(claim: Claim, done: dict[str, list[int]]) -> None:
    """Takes what is trained from the cache, and evaluates it. done: row -> the seeds that have been trained

    The rows that lack most seeds come first, so that params.yaml ends with all of them.
    """
    for seeds in sorted({tuple(found) for found in done.values() if found}, key=len):
        workspace.write_params(claim.space, list(seeds))
        workspace.reproduce(claim.space, [row for row, found in done.items() if tuple(found) == seeds], claim.hold)
