"""Gives a published protocol as arguments of `dvc exp run`, or as a params file.

python -m stages.recipe                                           lists the recipes; --list, with their published numbers
python -m stages.recipe cifar100_if100_balms --show               protocol, published numbers, what differs here
dvc exp run $(python -m stages.recipe cifar100_if100_balms)       runs it
python -m stages.recipe cifar100_if100_balms --write params.yaml  without DVC
"""

from pathlib import Path

import yaml

from lt.core import artifacts, params
from lt.core.command import command_line, run
from lt.core.yaml_file import read_yaml
from lt.published import recipes

# Where the output is put into a command line, an error must not leave that command to run without the recipe.
REFUSED = "--no-such-recipe"


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("recipe", nargs="?")
    parser.add_argument("--list", action="store_true", help="list the recipes with their published balanced accuracies, in percent")
    parser.add_argument("--show", action="store_true", help="tell what it is, instead of the arguments")
    parser.add_argument("--write", type=Path, metavar="PATH", help="write params.yaml with the recipe applied to PATH")
    args = parser.parse_args()
    if args.recipe is None or args.list:
        found = recipes.read_all()
        width = max(map(len, found))
        for recipe in found.values():
            print(f"{recipe.name:{width}} {published(recipe) if args.list else recipe.summary}")
        return
    try:
        recipe = recipes.find(args.recipe)
        content = read_yaml(params.PATH)
        wanted = recipes.expand(recipe, content)
        settings = " ".join(f"-S {argument}" for argument in recipes.arguments(content, wanted))
    except ValueError:
        print(REFUSED)
        raise
    if args.show:
        print(describe(recipe))
    elif args.write:
        text = f"# The recipe {recipe.name}: {recipe.summary}\n{yaml.safe_dump(wanted, sort_keys=False)}"
        artifacts.write_text(args.write, text)
        print(f"{args.write}: {recipe.name}")
    else:
        print(settings)


def published(recipe: recipes.Recipe) -> str:
    """Balanced accuracies that were published for a recipe, by row, in percent, / between several sources; - where there are none."""
    numbers = {
        row: [recipes.percent(values["balanced"]) for values in found if "balanced" in values] for row, found in recipe.published.items()
    }
    return ", ".join(f"{row} {' / '.join(values)}" for row, values in numbers.items() if values) or "-"


def describe(recipe: recipes.Recipe) -> str:
    """A recipe in words."""
    source = recipe.source.paper if recipe.source.table == "none" else f"{recipe.source.paper}; {recipe.source.table}"
    lines = [f"{recipe.name}: {recipe.summary}", "", recipe.protocol, "", f"Source: {source}"]
    lines += [f"Code: {recipe.source.repository}"] if recipe.source.repository else []
    lines += ["", "Published:" if recipe.published else "Published: no number that could be checked"]
    for row, values in ((row, values) for row, found in recipe.published.items() for values in found):
        numbers = ", ".join(f"{metric} {recipes.percent(value)} %" for metric, value in values.items() if metric != "source")
        lines.append(f"  {row}: {numbers} ({values['source']})")
    lines += ["", "What differs here:", *(f"  - {line}" for line in recipe.differs)] if recipe.differs else []
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
