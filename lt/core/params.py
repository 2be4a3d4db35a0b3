"""params.yaml -> checked, typed settings. All mistakes are collected and told at once; torch is never imported."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Callable, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lt.core import batch_statistics
from lt.core.files import read_regular
from lt.core.options import LARGEST, Count, Fraction, Index, NonNegative, Positive, Seed, constant_of, options_of
from lt.core.plugins import FUNCTIONS, load as load_plugin, names, path_of, unknown, with_defaults

PATH = Path("params.yaml")
# Values in a YAML file.
MOST_VALUES = 100_000

# axis in params.yaml -> kind of plug-in, whose options stand in the block of the same name
AXES = {
    "dataset": "datasets", "model": "models", "head": "heads", "loss": "losses", "mix": "mixes",
    "weighting": "weightings", "sampler": "samplers", "augment": "augments",
}

# option of a method -> the value with which the method uses the labels of the validation part
VALIDATES = {"meta_set": "val", "tau": None}


class ParamsError(ValueError):
    """One or more mistakes in params.yaml."""


class Block(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Subset(Block):
    """How the long-tailed training part is drawn."""

    profile: Literal["exp", "step", "none"]
    seed: Seed
    val_fraction: Annotated[float, Field(ge=0, lt=1)]


class Schedule(Block):
    """SGD, its learning rate by epoch, how the network runs (lt/training/precision.py), and how often it is tested on its way."""

    epochs: Count
    batch_size: Count
    lr: Positive
    backbone_lr_factor: Positive = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    weight_decay: NonNegative
    schedule: Literal["constant", "step", "cosine"]
    warmup_epochs: Index
    warmup_from: Fraction
    milestones: list[Index]
    gamma: Fraction
    compile: Literal["auto", "on", "off"] = "auto"
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    deterministic: bool = False
    sync_batchnorm: bool = False
    test_every: Index = 0


class Train(Schedule):
    """Training of the base model; epochs 0: the backbone stays as its weights have it, and only a head is fitted (lt/base/frozen.py)."""

    epochs: Index


class Features(Block):
    """Feature extraction."""

    views: Count
    batch_size: Count
    bn: Literal["frozen", "recalibrate_natural", "recalibrate_balanced", "recalibrate_mixture"]
    dtype: Literal["float32", "float16"]


class Teacher(Block):
    """xERM with one teacher: the weights of its two terms (lt/distill/xerm.py)."""

    gamma: NonNegative
    eps: NonNegative
    temperature: Positive
    weights: Literal["xerm", "swapped", "restart", "distill", "half"]
    student: Literal["warm", "fresh"]
    student_loss: Literal["ce", "base"]


class Distill(Schedule):
    """Training of the xERM students."""


class Evaluate(Block):
    """Metrics."""

    bins: Count


class Report(Block):
    """The row that results/metrics.json shows."""

    row: str


class Settings(Block):
    """Everything in params.yaml, checked."""

    dataset: str
    imbalance: Annotated[float, Field(ge=1, le=LARGEST)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    model: str
    head: str
    loss: str
    mix: str
    weighting: str
    sampler: str
    augment: str
    subset: Subset
    train: Train
    features: Features
    methods: dict[str, dict[str, Any] | None]
    teachers: dict[str, Teacher]
    distill: Distill
    evaluate: Evaluate
    report: Report
    datasets: dict[str, dict[str, Any]]
    models: dict[str, dict[str, Any]]
    heads: dict[str, dict[str, Any]]
    losses: dict[str, dict[str, Any]]
    mixes: dict[str, dict[str, Any]]
    weightings: dict[str, dict[str, Any]]
    samplers: dict[str, dict[str, Any]]
    augments: dict[str, dict[str, Any]]

    def options(self, kind: str, name: str) -> dict[str, Any]:
        """Options of one plug-in, as given in params.yaml; ParamsError where it has no such block."""
        self.expect(kind, name)
        return dict(getattr(self, kind)[name] or {})

    def expect(self, kind: str, name: str) -> None:
        """Raises ParamsError, with the nearest names, unless there is a block `name` in the block `kind`."""
        blocks = getattr(self, kind)
        if name not in blocks:
            raise ParamsError(f"{kind}: {unknown(name, list(blocks), f'a block of {kind} in {PATH}')}")

    def plugin(self, axis: str, *arguments) -> Any:
        """What the plug-in that params.yaml names on an axis makes of `arguments` and its options."""
        kind, name = AXES[axis], getattr(self, axis)
        return load_plugin(kind, name)(*arguments, **self.options(kind, name))

    def rows(self) -> list[str]:
        """Rows of the table: base, every method, and xerm_<teacher> for every teacher."""
        return ["base", *self.methods, *(f"xerm_{teacher}" for teacher in self.teachers)]

    def trains_backbone(self) -> bool:
        """Whether the base model is trained, and not a head alone on the features of a backbone that stays as it is."""
        return self.train.epochs > 0

    def tested_while_training(self) -> bool:
        """Whether the base model or the xERM students are tested after epochs before the last."""
        return bool(self.train.test_every or self.distill.test_every)


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
        mistakes += [_mistake(item, content) for item in error.errors()]
    mistakes += _plugin_mistakes(content) + _teacher_mistakes(content) + (further(content) if further else [])
    if settings and not mistakes:
        mistakes += batch_statistics.mistakes(settings.features.bn, settings.methods) + _expert_mistakes(settings)
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
                found += _option_mistakes(kind, name, options or {})
    return found


def _option_mistakes(kind: str, name: str, options: dict) -> list[str]:
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
    if settings.loss in ("gcl", "ldam", "ride") and settings.head == "cosine":
        scales = [settings.options("losses", settings.loss).get("scale"), settings.options("heads", "cosine").get("scale")]
        if scales[0] != scales[1]:
            where = f"losses.{settings.loss}.scale"
            found.append(f"{where}: got {scales[0]}, expected that of heads.cosine ({scales[1]}): both scale the same cosines")
    for kind, name in (("weightings", settings.weighting), ("losses", settings.loss)):
        start = (getattr(settings, kind).get(name) or {}).get("start_epoch") or 0
        if settings.trains_backbone() and start >= settings.train.epochs:
            found.append(f"{kind}.{name}.start_epoch: got {start}, expected less than train.epochs ({settings.train.epochs})")
    if settings.weighting == "longtail_da" and settings.mix != "none":
        found.append(f"mix: got {settings.mix!r}, expected 'none' with weighting longtail_da, which weights single examples")
    if settings.weighting == "longtail_da" and settings.train.sync_batchnorm:
        found.append("train.sync_batchnorm: got true, expected false with weighting longtail_da: it has no forward-mode derivative")
    for name, options in settings.methods.items():
        has_val = settings.subset.val_fraction or (settings.datasets.get(settings.dataset) or {}).get("val_list")
        for option, value in VALIDATES.items():
            if option in (options or {}) and options[option] == value and not has_val:
                found.append(f"methods.{name}.{option}: got {value!r}, which needs subset.val_fraction above 0, or a val_list")
    frozen = settings.models.get(settings.model) or {}
    if frozen.get("trainable", "all") != "all" and frozen.get("weights") is None:
        where = f"models.{settings.model}.trainable"
        found.append(f"{where}: got {frozen['trainable']!r}, expected 'all' without weights: random layers would stay as they are")
    if settings.model == "resnet10" and frozen.get("weights") == "torchvision":
        found.append("models.resnet10.weights: got 'torchvision', which has none of resnet10; expected a file, or null")
    found += _embedding_mistakes(settings)
    if "tde" in settings.methods and settings.head != "causal":
        found.append(f"methods.tde: needs head: causal, got {settings.head!r}")
    found += [] if settings.trains_backbone() else _head_alone_mistakes(settings)
    for block in ("train", "distill") if settings.trains_backbone() else ():
        schedule = getattr(settings, block)
        if schedule.milestones != sorted(set(schedule.milestones)):
            found.append(f"{block}.milestones: got {schedule.milestones}, expected rising epochs")
        if schedule.schedule != "constant" and schedule.warmup_epochs >= schedule.epochs:
            found.append(f"{block}.warmup_epochs: got {schedule.warmup_epochs}, expected less than epochs ({schedule.epochs})")
        if schedule.schedule == "cosine" and schedule.epochs == 1:
            found.append(f"{block}.epochs: got 1, expected 2 or more with schedule cosine, whose last epoch has learning rate 0")
        if schedule.nesterov and not schedule.momentum:
            found.append(f"{block}.nesterov: needs momentum above 0")
    return found


def _expert_mistakes(settings: Settings) -> list[str]:
    """Methods that say EXPERTS = False, with a model of several."""
    if with_defaults("models", settings.model, settings.options("models", settings.model)).get("experts", 1) == 1:
        return []
    without = [name for name in settings.methods if not constant_of(path_of("methods", name), "EXPERTS", default=True)]
    told = f"got model {settings.model!r}, which has experts, and this method takes none (EXPERTS = False)"
    return [f"methods.{name}: {told}; leave it out" for name in without]


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


def _embedding_mistakes(settings: Settings) -> list[str]:
    """Settings that need images, where there are embeddings, and the other way round."""
    needed = {"model": "identity", "augment": "none", "train.epochs": 0}
    got = {"model": settings.model, "augment": settings.augment, "train.epochs": settings.train.epochs}
    if settings.dataset == "embeddings":
        return [f"{key}: got {got[key]!r}, expected {needed[key]!r} with dataset embeddings" for key in needed if got[key] != needed[key]]
    return ["model: got 'identity', which is for dataset embeddings alone"] if settings.model == "identity" else []


def _mistake(item: dict, content: dict) -> str:
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


def at(content: Any, key: str) -> Any:
    """The value at a dotted key, None where there is none."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content


class _Yaml12(yaml.SafeLoader):
    """PyYAML reads YAML 1.1, DVC writes YAML 1.2: 1e-05 is a number there, `on` a word, 010 is ten.

    Refused besides: a key that stands twice, a value that is not of its tag, and aliases that make a small file a large one.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        self._size(node, {})
        return node

    def _size(self, node: yaml.Node | None, sizes: dict[yaml.Node, int | None]) -> int:
        """Values in a node, those of an alias counted each time."""
        if sizes.get(node, 0) is None:
            raise _refused("an alias inside what it stands for", node)
        if node not in sizes:
            sizes[node] = None
            parts = node.value if isinstance(node, yaml.CollectionNode) else []
            inner = [part for item in parts for part in (item if isinstance(item, tuple) else [item])]
            sizes[node] = 1 + sum(self._size(part, sizes) for part in inner)
            if sizes[node] > MOST_VALUES:
                raise _refused(f"more than {MOST_VALUES} values, those of aliases counted each time", node)
        return sizes[node]

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            raise _refused(f"got {str(node.value)[:40]!r}, which is no {node.tag.split(':')[-1]}", node) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        lines = {}
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in lines:
                raise _refused(f"the key {key!r} stands twice, first in line {lines[key]}", key_node)
            if isinstance(key, Hashable):
                lines[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)


def _refused(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


def _resolver(tag: str, pattern: str, first: str) -> None:
    _Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first))


_Yaml12.yaml_implicit_resolvers = {}
_resolver("null", r"~|null|Null|NULL|", "~nN")
_Yaml12.yaml_implicit_resolvers[""] = _Yaml12.yaml_implicit_resolvers["~"]
_resolver("bool", r"true|True|TRUE|false|False|FALSE", "tTfF")
_resolver("int", r"[-+]?[0-9]+", "-+0123456789")
_resolver("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.0123456789")
_Yaml12.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))


def read_yaml(path: Path) -> dict:
    """Reads a YAML 1.2 mapping; ParamsError, with file and line, where the file is missing, broken or no mapping."""
    try:
        content = yaml.load(read_regular(path).decode(), Loader=_Yaml12)
    except FileNotFoundError:
        raise ParamsError(f"{path} is missing in {Path.cwd()}; run from the project's root") from None
    except OSError as error:
        raise ParamsError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ParamsError(f"{path}, line {mark.line + 1}: not valid YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        raise ParamsError(f"{path}: not valid YAML: {error.reason} at character {error.position + 1}") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: not valid YAML: not UTF-8 text at byte {error.start + 1}") from None
    except RecursionError:
        raise ParamsError(f"{path}: not valid YAML: blocks within blocks, too deep to be read") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path}: got {type(content).__name__}, expected keys and values")
    return content
