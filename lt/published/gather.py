"""The content of a table: what the runs have measured, beside what was published, with where both come from."""

from typing import Any

from lt import artifacts
from lt.recipes import Recipe
from lt.table import HEADLINE
from lt.published.budget import changes
from lt.tables.graph import Stage
from lt.tables.runs import Run

# Half the width of the band around our mean, where twice the standard deviation is less: a point of accuracy.
LEAST = 0.01
BAND = (
    "inside: the published value is within the larger of 2 sd over seeds and 1.0 point of our mean; above, below: where our mean "
    "is, otherwise. One seed has no sd, which leaves 1.0 point. No verdict at a reduced budget."
)
HOW = ("compile", "precision", "deterministic")


def verdict(mean: float, sd: float | None, published: float) -> str:
    """Where our mean is, seen from the published value: inside, where |mean - published| <= max(2 sd, 0.01), above or below.

    mean, published in [0, 1]    sd over seeds, None for one seed
    """
    difference = round(mean - published, 6)  # results have six digits
    if abs(difference) <= max(2 * (sd or 0), LEAST):
        return "inside"
    return "above" if difference > 0 else "below"


def table(name: str, runs: list[tuple[Recipe, Run]], whole: list[dict], budget: float, seeds: list[int], command: str) -> dict:
    """Content of results/tables/<name>.json.

    runs: recipes with their runs, in order    whole: the params of each at the full budget    seeds: those asked for
    command: what makes this table
    """
    recipes = {recipe.name: section(recipe, run, full, budget, seeds) for (recipe, run), full in zip(runs, whole)}
    return {"table": name, "budget": budget, "seeds": seeds, "command": command, "band": BAND, "recipes": recipes}


def section(recipe: Recipe, run: Run, whole: dict[str, Any], budget: float, seeds: list[int]) -> dict[str, Any]:
    """One recipe: where it comes from, how this run differs, its rows, and what made them."""
    rows = {row: row_of(run, row, recipe.published.get(row), budget) for row in run.rows()}
    stages = {stage.name: (stage, note) for row in rows.values() for stage, note in row.pop("stages")}
    notes = [note for _, note in stages.values()]
    trained = [note for note in notes if "torch" in note]
    blocks = ("train", "distill") if run.content["teachers"] else ("train",)
    return {
        "summary": recipe.summary,
        "source": recipe.source.model_dump(),
        "protocol": recipe.protocol,
        "differs": [*recipe.differs, *our_differences(run, whole, budget, rows, seeds)],
        "run": run.folder.as_posix(),
        "how": {block: {key: run.content[block][key] for key in HOW} for block in blocks},
        "rows": rows,
        "versions": {key: sorted({note[key] for note in trained}) for key in ("torch", "python", "device")},
        "commits": sorted({note["commit"] for note in notes}),
        "seconds": _seconds(list(stages.values())),
    }


def our_differences(run: Run, whole: dict[str, Any], budget: float, rows: dict[str, dict], seeds: list[int]) -> list[str]:
    """How a run differs from its recipe and from what was asked for: budget, number of seeds, code."""
    cut = [change for change in changes(whole, run.content) if run.content["teachers"] or not change.startswith("distill.")]
    found = [f"a budget of {budget:g}: {', '.join(cut)}"] if budget < 1 else []
    listed = " ".join(map(str, seeds))
    found.append(f"one seed, {listed}, so there is no sd" if len(seeds) == 1 else f"mean over {len(seeds)} seeds: {listed}")
    done = {row: content for row, content in rows.items() if content["status"] == "done"}
    found += [f"{row} rests on seeds {content['seeds']}" for row, content in done.items() if content["seeds"] != seeds]
    for stage in dict.fromkeys(stage for content in done.values() for stage in content["other_code"]):
        resting = ", ".join(row for row, content in done.items() if stage in content["other_code"])
        found.append(f"{stage} was made by other code than the folder's latest; on it rest {resting}")
    return found


def seeds_done(runs: list[Run]) -> list[int]:
    """The seeds of the rows that have most of them; [] where no row is done."""
    notes = (run.note(stage) for run in runs for stage in run.plan([0], run.rows()) if stage.command[0] == "evaluate")
    return max((note["params"]["seeds"] for note in notes if note), key=len, default=[])


def row_of(run: Run, row: str, published: dict[str, float | str] | None, budget: float) -> dict[str, Any]:
    """One row: status done, not run, or out of date; numbers where it is done; the published ones in any case.

    stages: (stage, its note) of everything that the row was made by    other_code: stages that were made by other code than the
    folder's present one    difference: our mean minus the published value    verdict: by metric, only at the whole budget
    """
    numbers = {name: value for name, value in (published or {}).items() if name != "source"}
    found = {"budget": budget, "published": numbers, "source": (published or {}).get("source"), "stages": []}
    (last,) = [stage for stage in run.plan([0], [row]) if stage.command == ("evaluate", row)]
    note = run.note(last)
    if note is None or not run.is_whole(last):
        return found | {"status": "not run"}
    seeds = note["params"]["seeds"]
    plan = run.plan(seeds, [row])
    changed = {stage.name: run.changed(plan, stage) for stage in plan}
    stale = [name for name, what in changed.items() if what is None or what["params"] or what["inputs"]]
    # check is made anew with every set of seeds, and has no part in the numbers.
    stale = [name for name in stale if name != "check"]
    if stale:
        return found | {"status": "out of date", "changed": stale}
    details = artifacts.read_json(run.folder / "results" / "details" / f"{row}.json")
    mean, sd = ({name: details[kind].get(name) for name in dict.fromkeys((*HEADLINE, *numbers))} for kind in ("mean", "sd"))
    compared = {name: value for name, value in numbers.items() if mean[name] is not None}
    return found | {
        "status": "done",
        "seeds": seeds,
        "mean": mean,
        "sd": sd,
        "difference": {name: round(mean[name] - value, 6) for name, value in compared.items()},
        "verdict": {name: verdict(mean[name], sd[name], value) for name, value in compared.items()} if budget == 1 else {},
        "context": details["context"],
        "other_code": [name for name, what in changed.items() if what["code"] and name != "check"],
        "stages": [(stage, run.note(stage)) for stage in plan if stage.command[0] != "check"],
    }


def _seconds(stages: list[tuple[Stage, dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Seconds of every stage that the rows were made by: script -> what it was run with -> seconds."""
    found: dict[str, dict[str, float]] = {}
    for stage, note in stages:
        script, *arguments = stage.command
        found.setdefault(script, {})[" ".join(arguments)] = note["seconds"]
    return found
