"""Recipes: published protocols as changes to params.yaml, with the numbers that were published for them."""

import copy
import difflib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError

from lt.core.params import Block
from lt.core.plugins import unknown, with_defaults
from lt.core.yaml_file import read_yaml

FOLDER = Path("recipes")
ROW_BLOCKS = ("methods", "teachers")
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
NOT_WORDS = {"true", "false", "null", "nan", "inf"}


class RecipeError(ValueError):
    """A recipe that is unknown, or does not fit params.yaml."""


class Source(Block):
    """Where a protocol comes from: paper, the tables that its numbers are from, and the released code."""

    paper: str
    table: str
    repository: str | None = None


# What was published for a row: metric -> value in [0, 1], and source -> where the numbers stand.
Numbers = dict[str, float | str]
AllNumbers = Annotated[list[Numbers], BeforeValidator(lambda found: [found] if isinstance(found, dict) else found)]


class Variant(Block):
    """One recipe of a protocol: what is particular to one data set and imbalance.

    summary: in a line, where it is not that of the protocol
    published: row -> its numbers; several, with the one that ours is judged by first, where sources disagree
    """

    summary: str | None = None
    overrides: dict[str, Any] = {}
    published: dict[str, AllNumbers] = {}


class Protocol(Block):
    """A file of recipes/: what its recipes share, and the recipes themselves."""

    summary: str
    source: Source
    protocol: str
    differs: list[str]
    overrides: dict[str, Any]
    recipes: dict[str, Variant]


@dataclass(frozen=True)
class Recipe:
    """One recipe.

    overrides: (dotted key of params.yaml, value), applied in order, see expand
    published: row -> one or more of {metric: value in [0, 1], source: where the number stands}; empty where none could be checked
    differs: how a run of this recipe differs from what was published
    """

    name: str
    summary: str
    source: Source
    protocol: str
    differs: tuple[str, ...]
    overrides: tuple[tuple[str, Any], ...]
    published: dict[str, list[Numbers]]


def read_all(folder: Path = FOLDER) -> dict[str, Recipe]:
    """All recipes by name, from the files of the folder in order; RecipeError where one is malformed or a name stands twice."""
    found = {}
    for path in sorted(Path(folder).glob("*.yaml")):
        try:
            protocol = Protocol.model_validate(read_yaml(path))
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise RecipeError(f"{path}: {told}") from None
        for name, variant in protocol.recipes.items():
            if name in found:
                raise RecipeError(f"{path}: recipe {name!r} stands in two files; rename one")
            check_published(f"{path}, {name}", variant.published)
            overrides = (*protocol.overrides.items(), *variant.overrides.items())
            found[name] = Recipe(
                name, variant.summary or protocol.summary, protocol.source, protocol.protocol.strip(), tuple(protocol.differs), overrides,
                variant.published,
            )
    return found


def check_published(where: str, published: dict[str, list[Numbers]]) -> None:
    """RecipeError unless every row has numbers that name their source, and every other value is a number in [0, 1]."""
    empty = [row for row, found in published.items() if not found]
    if empty:
        raise RecipeError(f"{where}, published.{empty[0]}: got [], expected at least one metric, and its source")
    for row, values in ((row, values) for row, found in published.items() for values in found):
        if not isinstance(values.get("source"), str) or len(values) < 2:
            raise RecipeError(f"{where}, published.{row}: got {values}, expected at least one metric, and its source")
        for metric, value in values.items():
            if metric != "source" and not (isinstance(value, float) and 0 <= value <= 1):
                raise RecipeError(f"{where}, published.{row}.{metric}: got {value!r}, expected a fraction, 0 to 1, not percent")


def percent(value: float) -> str:
    """A published value in percent, with two decimals where it has been published so: 0.6915 -> 69.15, 0.453 -> 45.3."""
    text = f"{100 * value:.2f}"
    return text[:-1] if text.endswith("0") else text


def find(name: str, folder: Path = FOLDER) -> Recipe:
    """One recipe; RecipeError with the nearest names where there is none of this name."""
    recipes = read_all(folder)
    if name not in recipes:
        near = difflib.get_close_matches(name, recipes, n=3, cutoff=0.4)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise RecipeError(f"recipe: got {name!r}, which is not in {folder}/{hint}; `python -m stages.recipe` lists all")
    return recipes[name]


def followed(content: dict[str, Any]) -> Recipe | None:
    """The recipe that the content of params.yaml is, among those with published numbers; None where it is none of them.

    What a recipe leaves open, such as seeds, precision and compilation, may be anything; so may the reported row.
    """
    methods = {name: with_defaults("methods", name, options or {}) for name, options in content["methods"].items()}
    content = content | {"methods": methods}
    for recipe in read_all().values():
        try:
            if recipe.published and expand(recipe, content) | {"report": content["report"]} == content:
                return recipe
        except RecipeError:
            continue
    return None


def expand(recipe: Recipe, content: dict[str, Any]) -> dict[str, Any]:
    """The content of params.yaml with a recipe applied; the given content is not changed.

    A mapping changes only the keys that it names, but for `methods` and `teachers`, whose mapping is all the rows there shall be;
    options that it leaves out of a method have the method's defaults, whatever stands in params.yaml.
    Raises RecipeError on a key that params.yaml does not have.
    """
    content = copy.deepcopy(content)
    for key, value in recipe.overrides:
        _apply(recipe.name, content, key, value)
    return content


def _apply(name: str, content: dict, key: str, value: Any) -> None:
    *blocks, last = key.split(".")
    place = content
    for depth, part in enumerate((*blocks, last)):
        if not isinstance(place, dict) or part not in place:
            valid = list(place) if isinstance(place, dict) else []
            what = f"a key of {'.'.join(blocks[:depth]) or 'params.yaml'}"
            raise RecipeError(f"recipe {name}, {key}: {unknown(part, valid, what)}")
        place = place[part] if depth < len(blocks) else place
    if key == "methods":
        place[last] = {method: with_defaults("methods", method, options or {}) for method, options in value.items()}
    elif key in ROW_BLOCKS or not isinstance(value, dict):
        place[last] = copy.deepcopy(value)
    else:
        for inner, inner_value in value.items():
            _apply(name, content, f"{key}.{inner}", inner_value)


def arguments(current: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """What turns one params.yaml into another, as values for -S of `dvc exp run`: key=value, +key=value to add, ~key to delete.

    No argument holds a blank, a quote, or anything else that a shell would change in the output of a command. None is there for
    a value that already stands: deleting a row a second time would be an error.

    prefix: of the keys, where the two are a block of it
    """
    found = [f"~{prefix}{name}" for name in current if name not in wanted]
    for name, value in wanted.items():
        key = f"{prefix}{name}"
        if name not in current:
            found.append(f"+{key}={text(value)}")
        elif isinstance(value, dict) and isinstance(current[name], dict):
            found += arguments(current[name], value, f"{key}.")
        elif value != current[name] or isinstance(value, bool) != isinstance(current[name], bool):
            found.append(f"{key}={text(value)}")
    return found


def text(value: Any) -> str:
    """A value in the grammar of -S, without blanks; RecipeError where it has no such form."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) or isinstance(value, float) and math.isfinite(value):
        return repr(value)
    if isinstance(value, list):
        return f"[{','.join(map(text, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{text(key)}:{text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, str) and WORD.fullmatch(value) and value.lower() not in NOT_WORDS:
        return value
    raise RecipeError(f"got {value!r}, expected a number, a word of letters, digits, _ . and -, or a list or mapping of them")
