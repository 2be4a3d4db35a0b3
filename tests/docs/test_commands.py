"""Each command, option, key, name and path that a page tells is one that there is."""

import contextlib
import functools
import importlib
import io
import re
import shutil
import sys
from pathlib import Path

import pytest

from lt.core import params
from lt.core.options import options_of
from lt.core.plugins import FUNCTIONS, names, path_of
from lt.published import names as tables
from lt.published import recipes
from tests.conftest import ROOT
from tests.docs.markdown import PAGES, blocks, commands, inline, overrides, split

EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
SHIPPED = params.read_yaml(ROOT / "params.yaml")
RECIPES = recipes.read_all(ROOT / "recipes")
KEY = re.compile(r"([a-z]+(?:\.[\w<>]+)+)(?:: .*)?")
PATH = re.compile(r"(?:lt|stages|docs|recipes|tests|benchmarks|results)/[\w.*/<>{},-]*")
CHOICE = re.compile(r"(\w+): (\w+)")
NAMED = re.compile(r"\brecipes? ((?:`[^`]+`(?:, | and )?)+)", re.IGNORECASE)


def calls(page, *start):
    """What follows, in each of the page's commands that begin like this."""
    return [command[len(start) :] for command in commands(page) if command[: len(start)] == [*start]]


def modules(page):
    """(module, its arguments) of each `-m` that Python or torchrun gets."""
    found = [command for command in commands(page) if command[0] in ("python", "torchrun") and "-m" in command]
    return [(command[command.index("-m") + 1], command[command.index("-m") + 2 :]) for command in found]


@functools.cache
def help_of(module):
    """What a script prints for --help; it runs in this process, where torch is imported already."""
    printed, argv = io.StringIO(), sys.argv
    sys.argv = [module, "--help"]
    try:
        with contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
            importlib.import_module(module).main()
    finally:
        sys.argv = argv
    return printed.getvalue()


def test_commands_are_found():
    script = "A=1 dvc repro -q && (cd runs && dvc push) # not me\ndvc exp run $(python -m stages.recipe x) -S 'seeds=[0, 1]' \\\n -n y\n"
    assert split(script) == [
        ["python", "-m", "stages.recipe", "x"], ["dvc", "repro", "-q"], ["dvc", "push"],
        ["dvc", "exp", "run", "-S", "seeds=[0, 1]", "-n", "y"],
    ]
    assert sum(len(commands(page)) for page in PAGES) > 100


@EACH_PAGE
def test_scripts_know_their_options(page):
    for module, arguments in modules(page):
        if module == "pytest":
            assert all((ROOT / path).exists() for path in arguments), arguments
            continue
        path = ROOT / module.replace(".", "/")
        there = path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
        assert there, f"{page.name}: python -m {module}"
        given = [argument for argument in arguments if argument.startswith("-")]
        if there and given:
            module = f"{module}.__main__" if path.is_dir() else module
            known = re.findall(r"(?<![\w-])--?[\w-]+", help_of(module))
            assert set(given) <= set(known), f"{page.name}: {module} {given}"


@EACH_PAGE
def test_dvc_and_make_take_their_commands(page):
    from dvc.cli.parser import get_main_parser

    for arguments in calls(page, "dvc"):
        get_main_parser().parse_args(arguments)  # exits on one that it does not know
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {target for call in calls(page, "make") for target in call[:1]} <= {*targets}


@EACH_PAGE
def test_overrides_give_valid_params(page, tmp_path):
    from dvc.utils.hydra import apply_overrides

    for values in filter(None, overrides(page)):
        shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
        apply_overrides(tmp_path / "params.yaml", values)
        params.load(tmp_path / "params.yaml")  # raises on a value that is wrong


@EACH_PAGE
def test_recipes_and_tables_exist(page):
    for call in (arguments for module, arguments in modules(page) if module == "stages.recipe"):
        assert {name for name in call[:1] if not name.startswith("-")} <= {*RECIPES, "NAME"}, call
    for call in (arguments for module, arguments in modules(page) if module == "stages.table"):
        assert [tables.members(name, RECIPES) for name in call[:1] if not name.startswith("-")] != [[]]
    for listed in NAMED.findall(page.read_text(encoding="utf-8")):
        for name in re.findall(r"`([^`]+)`", listed):
            assert any(Path(recipe).match(name) for recipe in RECIPES), f"{page.name}: recipe {name}"


def exists(key):
    """Whether params.yaml has a key, or a method has this option; <name> stands for any."""
    kind, name, *option = key.split(".")
    if kind == "methods" and option and not name.startswith("<"):
        return option[0] in options_of(path_of(kind, name), "fit")
    places = [SHIPPED]
    for part in (kind, name, *option):
        inside = [place.items() for place in places if isinstance(place, dict)]
        places = [value for items in inside for other, value in items if part in (other, "<name>", "<dataset>")]
    return bool(places)


@EACH_PAGE
def test_keys_of_params_exist(page):
    for code in inline(page):
        found = KEY.fullmatch(code)
        if found and found[1].split(".")[0] in SHIPPED and Path(code).suffix != ".txt":
            assert exists(found[1]), f"{page.name}: {code}"


@EACH_PAGE
def test_selected_plugins_exist(page):
    axes = params.AXES
    for code in inline(page):
        found = CHOICE.fullmatch(code)
        if found and found[1] in axes:
            assert found[2] in names(axes[found[1]]), f"{page.name}: {code}"


@EACH_PAGE
def test_paths_exist(page):
    made = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "dvc.yaml", *(ROOT / "stages").glob("*.py")))
    for code in (*inline(page), *(word for command in commands(page) for word in command)):
        if not PATH.fullmatch(code):
            continue
        pattern = re.sub(r"<[^>]*>|\{[^}]*\}", "*", code)
        pattern = f"{pattern}/*" if code.startswith("lt/<kind>") and code.count("/") == 1 else pattern
        assert any(ROOT.glob(pattern.rstrip("/"))) or code in made, f"{page.name}: {code}"


@EACH_PAGE
def test_variables_are_read(page):
    code = "".join(path.read_text(encoding="utf-8") for folder in ("lt", "stages") for path in (ROOT / folder).rglob("*.py"))
    for name in re.findall(r"\bLT_[A-Z_]+\b", page.read_text(encoding="utf-8")):
        assert f'"{name}"' in code, f"{page.name}: {name}"


@EACH_PAGE
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]+))?\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        path = page.parent / target if target else page
        assert path.is_file(), f"{page.name}: {target}"
        headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [page for page in PAGES if page.parent == ROOT / "docs" and f"](docs/{page.name})" not in text]


def test_yaml_blocks_are_of_params():
    import yaml

    for page in PAGES:
        for block in blocks(page, "yaml"):
            for name, content in yaml.safe_load(block).items():
                assert all(exists(f"{name}.{plugin}.{option}") for plugin, options in content.items() for option in options)


def test_every_plugin_has_its_paragraph():
    """Of each kind that docs/methods.md tells of: every file has a heading, every heading a file, and the same words below."""
    text = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    chapters = {title.lower(): chapter for title, chapter in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)}
    assert {"losses", "heads", "mixes", "weightings", "samplers", "methods"} <= chapters.keys()
    for kind in FUNCTIONS.keys() & chapters.keys():
        paragraphs = dict(re.findall(r"^### (\w+)\n\n(.*?)(?=\n\n|\Z)", chapters[kind], re.MULTILINE | re.DOTALL))
        assert sorted(paragraphs) == names(kind), f"docs/methods.md, {kind}"
        for name, paragraph in paragraphs.items():
            assert all(word in paragraph for word in ("*Helps*", "*Cost*", "*Source*")), f"docs/methods.md, {kind}, {name}"
