"""params.yaml -> typed settings. What is wrong in it beyond types is told by lt/check; torch is never imported."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lt.core.options import LARGEST, Count, Fraction, Index, NonNegative, Positive, Seed
from lt.core.plugins import load as load_plugin, unknown
from lt.core.row_names import row_names
from lt.core.schemas import Names
from lt.core.yaml_file import YamlError, read_yaml

PATH = Path("params.yaml")

# axis in params.yaml -> kind of plug-in, whose options stand in the block of the same name
AXES = {
    "dataset": "datasets", "model": "models", "head": "heads", "loss": "losses", "mix": "mixes",
    "weighting": "weightings", "sampler": "samplers", "augment": "augments",
}

# option of a weighting, and the value with which it adds labelled images that the subset left out
ADDS = ("dev_source", "train_pool_extra")


class ParamsError(YamlError):
    """One or more mistakes in params.yaml."""


class Block(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Subset(Block):
    """How the long-tailed training part is drawn."""

    profile: Literal["exp", "step", "none"]
    seed: Seed
    val_fraction: Annotated[float, Field(ge=0, lt=1)]
    reserve: Index = 0


class TrainingSettings(Block):
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


class Train(TrainingSettings):
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


class Distill(TrainingSettings):
    """Training of the xERM students."""


class Evaluate(Block):
    """Metrics."""

    bins: Count


class Report(Block):
    """The row that results/metrics.json shows."""

    row: str


class Settings(Block, Names):
    """Everything in params.yaml, checked."""

    imbalance: Annotated[float, Field(ge=1, le=LARGEST)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
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
        """Rows of the table."""
        return row_names(self.methods, self.teachers)

    def trains_backbone(self) -> bool:
        """Whether the base model is trained, and not a head alone on the features of a backbone that stays as it is."""
        return self.train.epochs > 0

    def adds_images(self) -> bool:
        """Whether the base model is trained with labelled images besides those of the subset."""
        option, value = ADDS
        return self.options("weightings", self.weighting).get(option) == value

    def tested_while_training(self) -> bool:
        """Whether the base model or the xERM students are tested after epochs before the last."""
        return bool(self.train.test_every or self.distill.test_every)


def load(path: Path = PATH) -> Settings:
    """Reads a params file; ParamsError where it is no YAML, or a key is missing, unknown or of another type.

    Stages read it so: stages.check, which runs before them, has told every mistake (lt/check/mistakes.py).
    """
    try:
        return Settings.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ParamsError(f"{path}: {where}: {first['msg']}; `python -m stages.check` tells every mistake") from None


def at(content: Any, key: str) -> Any:
    """The value at a dotted key, None where there is none."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content
