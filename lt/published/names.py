"""Names of tables: a recipe's name, or what the names of several recipes begin with."""

import difflib
from typing import Mapping

from lt.published.recipes import Recipe, RecipeError


def members(name: str, recipes: Mapping[str, Recipe]) -> list[Recipe]:
    """The recipes of a table: the one of this name, else all called <name>_*; RecipeError with the nearest names otherwise."""
    found = [recipes[name]] if name in recipes else [recipe for other, recipe in recipes.items() if other.startswith(f"{name}_")]
    if not found:
        near = difflib.get_close_matches(name, every(recipes), n=3, cutoff=0.4)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise RecipeError(
            f"table: got {name!r}, expected the name of a recipe, or what those of several begin with{hint}; "
            f"`python -m stages.table --list` lists all"
        )
    return found


def every(recipes: Mapping[str, Recipe]) -> dict[str, list[str]]:
    """Name of each table -> its recipes: each beginning, up to an underscore, that recipes share, then each recipe."""
    parts = [name.split("_") for name in recipes]
    beginnings = dict.fromkeys("_".join(part[:i]) for part in parts for i in range(1, len(part)))
    shared = {start: [name for name in recipes if name.startswith(f"{start}_")] for start in beginnings if start not in recipes}
    return {start: names for start, names in shared.items() if len(names) > 1} | {name: [name] for name in recipes}


def with_budget(name: str, budget: float) -> str:
    """Name of a table, or of a recipe's run, at a budget: a part of it is told, the whole is not."""
    return name if budget == 1 else f"{name}_budget{budget!r}"
