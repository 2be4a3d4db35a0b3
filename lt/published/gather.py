"""The content of a table: what the runs have measured, beside what was published, with where both come from."""

from dataclasses import dataclass
from typing import Any

from lt.core.params import at
from lt.core.row_names import evaluation
from lt.evaluate.headline import HEADLINE
from lt.evaluate.row import rounded
from lt.published import lock
from lt.published.budget import changes
from lt.published.recipes import Numbers, Recipe
from lt.published.workspace import TRAINING, Collected, Workspace, measured
from lt.report.merge import read_details

# Half the width of the band around our mean, where twice the standard deviation is less: a point of accuracy.
LEAST = 0.01
BAND = (
    "inside: the published value is within the larger of 2 sd over seeds and 1.0 point of our mean; above, below: where our mean "
    "is, otherwise. One seed has no sd, which leaves 1.0 point. No verdict at a reduced budget."
)
UNKNOWN = "unknown"
HOW = ("compile", "precision", "deterministic")


def verdict(mean: float, sd: float | None, published: float) -> str:
    """Where our mean is, seen from the published value: inside, where |mean - published| <= max(2 sd, 0.01), above or below.

    mean, published in [0, 1]    sd over seeds, None for one seed
    """
    difference = round(mean - published, 6)  # results have six digits
    if abs(difference) <= max(2 * (sd or 0), LEAST):
        return "inside"
    return "above" if difference > 0 else "below"


@dataclass(frozen=True)
class Member:
    """One recipe of a table. whole: its params at the full budget    found: what its workspace holds"""

    recipe: Recipe
    workspace: Workspace
    whole: dict[str, Any]
    found: Collected


def table(name: str, members: list[Member], budget: float, seeds: list[int], command: str) -> dict:
    """Content of results/tables/<name>.json.

    members: in order    seeds: those asked for    command: what makes this table
    """
    recipes = {member.recipe.name: section(member, budget, seeds) for member in members}
    return {"table": name, "budget": budget, "seeds": seeds, "command": command, "band": BAND, "recipes": recipes}


def section(member: Member, budget: float, seeds: list[int]) -> dict[str, Any]:
    """One recipe: where it comes from, how this run differs, its rows, and what made them."""
    recipe, workspace, found = member.recipe, member.workspace, member.found
    rows = {row: row_of(workspace, found, row, recipe.published.get(row, []), budget) for row in workspace.rows()}
    stages = list(dict.fromkeys(stage for row in rows.values() for stage in row.pop("stages")))
    trained = [note for note in map(found.notes.get, stages) if "torch" in note or "seconds" not in note]
    blocks = ("train", "distill") if workspace.content["teachers"] else ("train",)
    return {
        "summary": recipe.summary,
        "source": recipe.source.model_dump(),
        "protocol": recipe.protocol,
        "differs": [*recipe.differs, *our_differences(member, budget, rows, seeds)],
        "run": workspace.folder.as_posix(),
        "how": {block: {key: workspace.content[block][key] for key in HOW} for block in blocks},
        "rows": rows,
        "versions": {key: sorted({note.get(key, UNKNOWN) for note in trained}) for key in ("torch", "python", "device")},
        "commits": sorted({found.notes[stage].get("commit", UNKNOWN) for stage in stages}),
        "seconds": _seconds(stages, found),
    }


def our_differences(member: Member, budget: float, rows: dict[str, dict], seeds: list[int]) -> list[str]:
    """How a run differs from its recipe and from what was asked for: budget, number of seeds, code."""
    content = member.workspace.content
    cut = [change for change in changes(member.whole, content) if content["teachers"] or not change.startswith("distill.")]
    found = [f"a budget of {budget:g}: {', '.join(cut)}"] if budget < 1 else []
    listed = " ".join(map(str, seeds))
    found.append(f"one seed, {listed}, so there is no sd" if len(seeds) == 1 else f"mean over {len(seeds)} seeds: {listed}")
    done = {row: content for row, content in rows.items() if content["status"] == "done"}
    found += [f"{row} rests on seeds {content['seeds']}" for row, content in done.items() if content["seeds"] != seeds]
    for stage in dict.fromkeys(stage for content in done.values() for stage in content["other_code"]):
        resting = ", ".join(row for row, content in done.items() if stage in content["other_code"])
        found.append(f"{stage} was made by other code than the folder's latest; on it rest {resting}")
    return found


def row_of(workspace: Workspace, found: Collected, row: str, published: list[Numbers], budget: float) -> dict[str, Any]:
    """One row: status done, not run, or out of date; numbers where it is done; the published ones in any case.

    stages: everything that the row was made by    other_code: those of them that were made by other code than the workspace's
    present one    difference: our mean minus the published value    verdict: by metric, only at the whole budget
    also: published, source, and where the row is done difference and verdict, of each further source
    """
    first, *others = [_parted(numbers) for numbers in published] or [_parted({})]
    content = {"budget": budget, **first, "also": others, "stages": []}
    seeds = found.seeds([row])
    if not seeds:
        return content | {"status": "not run"}
    last = [evaluation(row, seed) for seed in seeds]
    # check is made anew with every set of seeds, and has no part in the numbers.
    stages = [stage for stage in lock.rests_on(found.made, *last) if stage.startswith((*TRAINING, "evaluate"))]
    stale = [stage for stage in stages if _is_stale(stage, workspace, found)]
    gone = [name for name, seed in zip(last, seeds) if not measured(workspace, row, seed).is_dir()]
    if stale or gone:
        return content | {"status": "out of date", "changed": stale or gone}
    details = rounded(read_details(row, seeds, workspace.folder))
    names = dict.fromkeys((*HEADLINE, *(name for numbers in (first, *others) for name in numbers["published"])))
    mean, sd = ({name: details[kind].get(name) for name in names} for kind in ("mean", "sd"))
    return content | {
        "status": "done",
        "seeds": seeds,
        "mean": mean,
        "sd": sd,
        **_compared(first, mean, sd, budget),
        "also": [numbers | _compared(numbers, mean, sd, budget) for numbers in others],
        "context": details["context"],
        "other_code": [stage for stage in stages if _by_other_code(stage, found)],
        "stages": stages,
    }


def _parted(numbers: Numbers) -> dict[str, Any]:
    """Published numbers apart from where they stand."""
    return {"published": {name: value for name, value in numbers.items() if name != "source"}, "source": numbers.get("source")}


def _compared(numbers: dict[str, Any], mean: dict[str, Any], sd: dict[str, Any], budget: float) -> dict[str, Any]:
    """Difference and verdict, by metric, of our row beside the numbers of one source; see row_of."""
    values = {name: value for name, value in numbers["published"].items() if mean[name] is not None}
    return {
        "difference": {name: round(mean[name] - value, 6) for name, value in values.items()},
        "verdict": {name: verdict(mean[name], sd[name], value) for name, value in values.items()} if budget == 1 else {},
    }


def _is_stale(stage: str, workspace: Workspace, found: Collected) -> bool:
    """Whether a stage was made of other options than this recipe's, or of inputs that have been made anew since."""
    is_other = any(at(workspace.content, key) != value for key, value in lock.params(found.made[stage]).items())
    return is_other or stage in found.changed and bool(found.changed[stage].inputs)


def _by_other_code(stage: str, found: Collected) -> bool:
    return "kept" in found.notes[stage] or stage in found.changed and bool(found.changed[stage].code)


def _seconds(stages: list[str], found: Collected) -> dict[str, dict[str, float | None]]:
    """Seconds of every stage that the rows were made by, None where nobody knows: script -> what it was run with -> seconds."""
    seconds: dict[str, dict[str, float | None]] = {}
    for stage in stages:
        script, *arguments = lock.command(found.made[stage])
        seconds.setdefault(script, {})[" ".join(arguments)] = found.notes[stage].get("seconds")
    return seconds
