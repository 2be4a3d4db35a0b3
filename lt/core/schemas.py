"""What the JSON files hold that one stage writes and another reads: one class per kind of file, whose other keys are free."""

from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from lt.core.options import LARGEST, Count, Index, NonNegative, Real, Seed

# one for embeddings, which have no colours
Colours = Annotated[list[Real], Field(min_length=1, max_length=3)]
Prior = Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)]
Digits = Annotated[str, Field(pattern=r"^[0-9]{1,18}$")]
Metrics = dict[str, float | None]


class Plugin(BaseModel):
    name: str
    options: dict[str, Any]


class Network(BaseModel):
    model: Plugin
    head: Plugin
    num_classes: Count
    mean: Colours
    std: Colours

    @model_validator(mode="after")
    def _check_colours(self) -> "Network":
        if len(self.mean) != len(self.std) or len(self.mean) == 2:
            raise ValueError(f"mean and std: got {len(self.mean)} and {len(self.std)} numbers, expected one each, or three of colours")
        return self


class Routing(BaseModel):
    top: Count
    hidden: Count


class Head(Plugin):
    feature_dim: Count
    num_classes: Count
    num_experts: Count
    routing: Routing | None = None


class Names(BaseModel):
    """The plug-in on each axis of lt.core.params."""

    dataset: str
    model: str
    head: str
    loss: str
    mix: str
    weighting: str
    sampler: str
    augment: str


class Context(Names):
    """What a row was made of, see lt/core/context.py."""

    imbalance: str
    subset: str
    data: str


class Row(BaseModel):
    """row.json of any row of the table."""

    logit_prior: Prior
    context: Context

    def expect_classes(self, count: int) -> None:
        """ValueError where the prior is of another number of classes."""
        if len(self.logit_prior) != count:
            raise ValueError(f"logit_prior: got {len(self.logit_prior)} weights, expected {count}, one per class")


class ClassifierRow(Row):
    """row.json of base and distill."""

    classifier: Network

    @model_validator(mode="after")
    def _check_prior(self) -> "ClassifierRow":
        self.expect_classes(self.classifier.num_classes)
        return self


class RuleRow(Row):
    """row.json of retrain."""

    head: Head
    balanced_view: bool

    @model_validator(mode="after")
    def _check_prior(self) -> "RuleRow":
        self.expect_classes(self.head.num_classes)
        return self


class SubsetFile(BaseModel):
    """subset.json of the drawn training part."""

    dataset: str
    classes: Annotated[list[str], Field(min_length=1)]
    counts: list[Index]
    drawn: list[Index]
    train_size: Index
    val_size: Index
    test_size: Index
    profile: str
    imbalance: Annotated[float, Field(ge=1, le=LARGEST)]
    val_fraction: Annotated[float, Field(ge=0, lt=1)]
    seed: Seed
    sha256: str
    raw_sha256: str
    image_size: Count | None
    mean: Colours
    std: Colours
    val_part: str


class RawFile(BaseModel):
    path: str
    size: Annotated[int, Field(ge=0)]
    sha256: str


class ImageBlock(BaseModel):
    part: str
    first: Index
    files: Count
    bytes: Annotated[int, Field(ge=0)]
    sizes: str
    sample: str
    sample_bytes: Annotated[int, Field(ge=0)]
    contents: str | None = None


class IndexFile(BaseModel):
    """data/<name>.json, the index of a data set's raw files."""

    dataset: str
    files: list[RawFile]
    images: list[ImageBlock] = []


class PackFile(BaseModel):
    """pack.json of decoded images."""

    images: Index
    corrupt: dict[Digits, str]


class PackedChunk(BaseModel):
    """A line of done.jsonl: images that a packing has done."""

    start: Index
    corrupt: dict[Digits, str]


Scores = list[float | None]


class ClassScores(BaseModel):
    recall: Scores
    precision: Scores
    f1: Scores
    predicted: list[Index]


class Histogram(BaseModel):
    count: list[Index]
    confidence: Scores
    accuracy: Scores


class Reliability(BaseModel):
    before: Histogram
    after: Histogram


class SeedDetails(BaseModel):
    metrics: Metrics
    per_class: ClassScores
    reliability: Reliability
    test_prior: list[dict[str, Any]]
    correct: Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]


class Judged(BaseModel):
    """What a row was made of and judged on."""

    row: str
    context: dict[str, Any]
    classes: list[str]
    train_counts: list[Index]
    test_counts: list[Index]
    val_size: Index

    @model_validator(mode="after")
    def _check_lengths(self) -> "Judged":
        lists = {"train_counts": self.train_counts, "test_counts": self.test_counts}
        lists |= {f"{where}.per_class.{name}": value for where, one in self.by_seed().items() for name, value in one.per_class}
        for name, value in lists.items():
            if len(value) != len(self.classes):
                raise ValueError(f"{name}: got {len(value)} values, expected {len(self.classes)}, one per class")
        return self

    def by_seed(self) -> dict[str, SeedDetails]:
        """What was measured on each seed, by where it stands."""
        raise NotImplementedError


class Measured(Judged):
    """measured.json of evaluate, everything measured on a row of one seed."""

    result: SeedDetails

    def by_seed(self) -> dict[str, SeedDetails]:
        return {"result": self.result}


class Details(Judged):
    """results/details/<row>.json, everything measured on a row."""

    mean: Metrics
    sd: Metrics
    seeds: Annotated[dict[str, SeedDetails], Field(min_length=1)]

    def by_seed(self) -> dict[str, SeedDetails]:
        return {f"seeds.{seed}": one for seed, one in self.seeds.items()}


class Note(BaseModel):
    """What is known of a stage's run, beside DVC's run cache: all of it may be missing."""

    seconds: NonNegative = 0.0
    device: str = ""
    torch: str = ""
    python: str = ""
    commit: str = ""


class Cost(Note):
    """.cost/<stage>_<arguments>.json, which the report page shows."""

    arguments: list[str]
    seconds: NonNegative
    peak_rss_mib: NonNegative
    peak_gpu_mib: NonNegative = 0.0


class LockPath(BaseModel):
    path: str


class LockEntry(BaseModel):
    cmd: str
    deps: list[LockPath] = []
    outs: list[LockPath] = []
    params: dict[str, dict[str, Any]] = {}


class LockFile(BaseModel):
    """dvc.lock."""

    stages: dict[str, LockEntry]
