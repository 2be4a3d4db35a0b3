"""What a plug-in may define besides its one function: each hook that is asked for is written down, and met as it is written."""

import ast
import importlib
import inspect
from types import ModuleType

import numpy as np
import pytest
from torch import nn

from lt.core.plugins import load, module_of, names, with_defaults
from lt.data.contracts import HasParts, ListsImages, Packs, Prepares
from lt.data.decode import ImageFiles
from lt.network.contracts import HasBalancedView, HasExperts, HasNormalisation, Observes
from lt.retrain.contracts import HasStages
from lt.training.contracts import (
    DrawsNumbers, FollowsEpochs, HasDevelopmentSet, HasSlowPart, LogsEpochs, SeesExperts, StartsLater, TellsCoupling,
)
from tests.conftest import ROOT

COUNTS = np.array([5, 3, 1])
# The others share the code of these, or need a package or embeddings.
MODELS = ("resnet8", "resnet10", "resnet32_bbn", "ride_resnet32", "timm")
KINDS = {
    "datasets": (HasParts, ListsImages, Prepares),
    "heads": (HasBalancedView, Observes),
    "images": (Packs,),
    "losses": (DrawsNumbers, FollowsEpochs, SeesExperts),
    "mixes": (TellsCoupling,),
    "models": (HasExperts, HasNormalisation, HasSlowPart, HasStages),
    "weightings": (HasDevelopmentSet, LogsEpochs, StartsLater),
}
HOOKS = [(kind, hook) for kind, hooks in KINDS.items() for hook in hooks]
EACH_HOOK = pytest.mark.parametrize("kind, hook", HOOKS, ids=lambda part: getattr(part, "__name__", part))
# Asked of what is no plug-in: file -> attributes.
OF_OTHERS = {
    "lt/check/mistakes.py": {"annotation"},  # a field of pydantic
    "lt/core/attest.py": {"__file__"},  # any module
    "lt/models/timm.py": {"set_input_size", "feature_info"},  # a network of timm
}


@pytest.fixture(scope="module")
def plugins_of():
    """plugins_of(kind): what the plug-ins of a kind make, with their defaults."""

    def made(kind):
        if kind == "datasets":
            return [module_of(kind, name) for name in names(kind)]
        if kind == "heads":
            return [load(kind, name)(4, 3) for name in names(kind)]
        if kind == "images":
            return [ImageFiles([], 8), np.zeros((1, 8, 8, 3), np.uint8)]
        if kind == "models":
            return [_model(name) for name in MODELS]
        return [load(kind, name)(COUNTS) for name in names(kind)]

    def _model(name):
        if name != "timm":
            return load("models", name)()
        pytest.importorskip("timm")
        return load("models", name)(name="resnet10t", weights=None, image_size=32)

    return made


def members(hook):
    """Names that a Protocol asks for."""
    return {name for name in {**vars(hook), **hook.__annotations__} if not name.startswith("_")}


def asked_for(source):
    """(name asked of, attribute) of each hasattr, and getattr with a default, in a file, but those of imported modules."""
    tree = ast.parse(source)
    imported = {(alias.asname or alias.name).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if (node.func.id, len(node.args)) in (("hasattr", 2), ("getattr", 3)):
                whose, what = node.args[0], node.args[1]
                if not any(isinstance(part, ast.Name) and part.id in imported for part in ast.walk(whose)):
                    yield ast.unparse(whose), what.value if isinstance(what, ast.Constant) else ast.unparse(what)


def test_what_is_asked_for_is_found():
    source = "import os\nhasattr(os, 'sysconf')\ngetattr(os.environ, 'a', 1)\nhasattr(head, 'observe')\ngetattr(run.mix, 'name', 1)\ngetattr(a, b)\n"
    assert [*asked_for(source)] == [("head", "observe"), ("run.mix", "name")]


def test_no_hook_is_asked_for_by_its_name_alone():
    """A hook is a Protocol of a contracts module, and asked for by isinstance."""
    for path in sorted(path for folder in ("lt", "stages") for path in (ROOT / folder).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        assert {what for _, what in asked_for(path.read_text())} == OF_OTHERS.get(name, set()), name


def test_each_hook_belongs_to_a_kind():
    rooms = [importlib.import_module(f"lt.{path.parent.name}.contracts") for path in (ROOT / "lt").glob("*/contracts.py")]
    written = {each for room in rooms for each in vars(room).values() if getattr(each, "_is_runtime_protocol", False)}
    assert written == {hook for _, hook in HOOKS} and len(written) == len(HOOKS)


@EACH_HOOK
def test_hooks_are_met_as_they_are_written(plugins_of, kind, hook):
    """One plug-in or more has it, whole and with its parameters; those without it define no part of it."""
    met = 0
    for plugin in plugins_of(kind):
        defined = {name for name in members(hook) if hasattr(plugin, name)}
        assert isinstance(plugin, hook) == bool(defined) and defined in (set(), members(hook)), plugin
        met += bool(defined)
        for name in defined & {*vars(hook)}:
            expected = [*inspect.signature(getattr(hook, name)).parameters.values()][1:]
            got = inspect.signature(getattr(plugin, name))
            positional = [parameter.name for parameter in expected if parameter.kind is not parameter.VAR_KEYWORD]
            if isinstance(plugin, ModuleType):
                got.bind(*positional, **with_defaults(kind, plugin.__name__.split(".")[-1], {}))
            else:
                assert [*got.parameters] == positional, plugin
    assert met


@EACH_HOOK
def test_what_has_no_hook_is_told_from_what_has(kind, hook):
    assert not isinstance(nn.Linear(1, 1), hook) and not isinstance(lambda logits, target: logits, hook) and not isinstance(None, hook)


@EACH_HOOK
def test_the_page_on_plugins_lists_each_hook(kind, hook):
    page = (ROOT / "docs" / "adding.md").read_text()
    for name in members(hook):
        assert f"`{name}`" in page or f"`{name}(" in page, name
