"""Mistakes in params.yaml, all told at once: names, options, types, and settings that do not go together. No torch.

What only one plug-in asks for stands in its file, as literals that are read without importing it:
    NEEDS = {key of params.yaml: (values it goes with, why)}          where it is selected, or a row of the methods
    REFUSES = {option of its own: (value, why)}
    SAME = {option of its own: (key of another plug-in's option, why)}    where both plug-ins are selected
    EXPERTS = False                                                       of a method, where it takes no model of several
"""

from pathlib import Path
from typing import Any, Callable

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from lt.core import batch_statistics
from lt.core.options import constant_of, options_of
from lt.core.params import AXES, PATH, ParamsError, Settings, Teacher, at
from lt.core.plugins import FUNCTIONS, names, path_of, unknown, with_defaults
from lt.core.yaml_file import read_yaml

# option of a method -> the value with which the method uses the labels of the validation part
VALIDATES = {"meta_set": "val", "tau": None}


def load(path: Path = PATH, further: Callable[[dict[str, Any]], list[str]] | None = None) -> Settings:
    """Reads and checks a params file; raises ParamsError with every mistake, one per line.

    further: another check, from what the file holds, right or wrong, to mistakes that are told among the rest
    """
    content = read_yaml(path)
    mistakes = []
    settings = None
    try:
        settings = Settings.model_validate(content)
    except ValidationError as error:
        mistakes += [_mistake(item) for item in error.errors()]
    mistakes += _plugin_mistakes(content) + _teacher_mistakes(content) + (further(content) if further else [])
    if settings and not mistakes:
        mistakes += batch_statistics.mistakes(settings.features.bn, settings.methods) + _expert_mistakes(settings)
        mistakes += [line for kind, name in _chosen(settings) for line in _declared_mistakes(settings, content, kind, name)]
    if settings:
        mistakes += _cross_mistakes(settings)
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise ParamsError(
            f"{path} has {count}; nothing was deleted or trained.\n" + "\n".join(f"  {line}" for line in mistakes)
            + f"\nCorrect the file. If the value came from `dvc exp run -S`, it is still in the file: undo it with another -S, or "
            f"`touch {path} && git checkout {path}`."
        )
    return settings


def _expert_mistakes(settings: Settings) -> list[str]:
    """Methods that say EXPERTS = False, with a model of several."""
    if with_defaults("models", settings.model, settings.options("models", settings.model)).get("experts", 1) == 1:
        return []
    without = [name for name in settings.methods if not constant_of(path_of("methods", name), "EXPERTS", default=True)]
    told = f"got model {settings.model!r}, which has experts, and this method takes none (EXPERTS = False)"
    return [f"methods.{name}: {told}; leave it out" for name in without]


def _plugin_mistakes(content: dict) -> list[str]:
    """Wrong plug-in names, and options that a plug-in does not take, in the axes and in the blocks of options."""
    found = []
    for axis, kind in AXES.items():
        name, block = content.get(axis), content.get(kind)
        if isinstance(name, str) and name not in names(kind):
            found.append(f"{axis}: {unknown(name, names(kind), 'one of')}")
        elif isinstance(name, str) and isinstance(block, dict) and name not in block:
            found.append(f"{kind}: no block for {axis} {name!r}; add `{name}: {{}}` (every selectable name needs one)")
    for kind in FUNCTIONS:
        block = content.get(kind)
        for name, options in (block.items() if isinstance(block, dict) else ()):
            if name not in names(kind):
                found.append(f"{kind}.{name}: {unknown(name, names(kind), 'a file of lt/' + kind)}")
            elif isinstance(options, dict) or options is None:
                found += option_mistakes(kind, name, options or {})
    return found


def option_mistakes(kind: str, name: str, options: dict[str, Any]) -> list[str]:
    """Options that a plug-in does not take, or not with these values, one line each; ValueError where there is no such plug-in."""
    typed = options_of(path_of(kind, name), FUNCTIONS[kind])
    found = []
    for option, value in options.items():
        where = f"{kind}.{name}.{option}"
        if option not in typed:
            found.append(f"{where}: {unknown(option, sorted(typed), 'an option of ' + name) if typed else f'{name} takes no options'}")
            continue
        try:
            TypeAdapter(typed[option][0], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            found.append(f"{where}: got {value!r}; {error.errors()[0]['msg']}")
    return found


def _teacher_mistakes(content: dict) -> list[str]:
    """Teachers that are no row of methods."""
    methods, teachers = (content[key] if isinstance(content.get(key), dict) else {} for key in ("methods", "teachers"))
    what = "a row of methods, whose logits teach"
    return [f"teachers.{name}: {unknown(name, list(methods), what)}" for name in teachers if name not in methods]


def _cross_mistakes(settings: Settings) -> list[str]:
    """Settings that are each fine, but not together."""
    found = []
    if settings.report.row not in settings.rows():
        found.append(f"report.row: {unknown(settings.report.row, settings.rows(), 'a row of the table')}")
    if len(set(settings.seeds)) != len(settings.seeds):
        found.append(f"seeds: got {settings.seeds}, expected different seeds")
    for kind, name in (("weightings", settings.weighting), ("losses", settings.loss)):
        start = (getattr(settings, kind).get(name) or {}).get("start_epoch") or 0
        if settings.trains_backbone() and start >= settings.train.epochs:
            found.append(f"{kind}.{name}.start_epoch: got {start}, expected less than train.epochs ({settings.train.epochs})")
    if settings.subset.reserve and settings.subset.profile == "none":
        found.append(f"subset.reserve: got {settings.subset.reserve}, expected 0 with profile none, which takes all images")
    for name, options in settings.methods.items():
        has_val = settings.subset.val_fraction or (settings.datasets.get(settings.dataset) or {}).get("val_list")
        for option, value in VALIDATES.items():
            if option in (options or {}) and options[option] == value and not has_val:
                found.append(f"methods.{name}.{option}: got {value!r}, which needs subset.val_fraction above 0, or a val_list")
    frozen = settings.models.get(settings.model) or {}
    if frozen.get("trainable", "all") != "all" and frozen.get("weights") is None:
        where = f"models.{settings.model}.trainable"
        found.append(f"{where}: got {frozen['trainable']!r}, expected 'all' without weights: random layers would stay as they are")
    found += [] if settings.trains_backbone() else _head_alone_mistakes(settings)
    for block in ("train", "distill") if settings.trains_backbone() else ():
        training = getattr(settings, block)
        if training.milestones != sorted(set(training.milestones)):
            found.append(f"{block}.milestones: got {training.milestones}, expected rising epochs")
        if training.schedule != "constant" and training.warmup_epochs >= training.epochs:
            found.append(f"{block}.warmup_epochs: got {training.warmup_epochs}, expected less than epochs ({training.epochs})")
        if training.schedule == "cosine" and training.epochs == 1:
            found.append(f"{block}.epochs: got 1, expected 2 or more with schedule cosine, whose last epoch has learning rate 0")
        if training.nesterov and not training.momentum:
            found.append(f"{block}.nesterov: needs momentum above 0")
    return found


def _head_alone_mistakes(settings: Settings) -> list[str]:
    """What asks for a training, where a backbone stays as it is (train.epochs 0)."""
    found = []
    for axis, only in (("mix", "none"), ("weighting", "none"), ("sampler", "instance")):
        if getattr(settings, axis) != only:
            found.append(f"{axis}: got {getattr(settings, axis)!r}, expected {only!r} with train.epochs 0, where all images weigh the same")
    for block in ("train", "distill"):
        if getattr(settings, block).test_every:
            found.append(f"{block}.test_every: got {getattr(settings, block).test_every}, expected 0 with train.epochs 0")
    if start := (settings.losses.get(settings.loss) or {}).get("start_epoch"):
        found.append(f"losses.{settings.loss}.start_epoch: got {start}, expected null with train.epochs 0")
    options = settings.models.get(settings.model) or {}
    if settings.model != "identity" and options.get("weights") is None:
        found.append(f"train.epochs: got 0, expected 1 or more with model {settings.model!r} without weights, which would stay random")
    if options.get("projection") is not None:
        found.append(f"models.{settings.model}.projection: got {options['projection']}, expected null with train.epochs 0: it is random")
    return found


def _mistake(item: dict) -> str:
    """One pydantic error as: where, what was got, what was expected."""
    where = ".".join(map(str, item["loc"]))
    if item["type"] == "missing":
        return f"{where}: is missing"
    if item["type"] == "extra_forbidden":
        valid = list(Settings.model_fields)
        for part in item["loc"][:-1]:
            field = Settings.model_fields.get(part) if part in Settings.model_fields else None
            kind = Teacher if part == "teachers" else getattr(field, "annotation", None)
            valid = list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else valid
        return f"{where}: {unknown(item['loc'][-1], valid, 'one of')}"
    return f"{where}: got {item['input']!r}; {item['msg']}"


def _chosen(settings: Settings) -> list[tuple[str, str]]:
    """Kind and name of every plug-in that params.yaml selects, rows of the methods among them."""
    return [(kind, getattr(settings, axis)) for axis, kind in AXES.items()] + [("methods", name) for name in settings.methods]


def _declared_mistakes(settings: Settings, content: dict, kind: str, name: str) -> list[str]:
    """What one plug-in's NEEDS, REFUSES and SAME are against."""
    path, block, chosen, found = path_of(kind, name), at(content, f"{kind}.{name}") or {}, _chosen(settings), []
    for key, (values, why) in constant_of(path, "NEEDS", {}).items():
        if at(content, key) not in values:
            expected = " or ".join(map(repr, values))
            found.append(f"{key}: got {at(content, key)!r}, expected {expected} with {kind}.{name}, {why}")
    for option, (value, why) in constant_of(path, "REFUSES", {}).items():
        if block.get(option) == value:
            found.append(f"{kind}.{name}.{option}: got {value!r}, {why}")
    for option, (key, why) in constant_of(path, "SAME", {}).items():
        if tuple(key.split(".")[:2]) in chosen and block.get(option) != at(content, key):
            found.append(f"{kind}.{name}.{option}: got {block.get(option)!r}, expected that of {key} ({at(content, key)!r}): {why}")
    return found
