"""What the JSON files hold that one stage writes and another reads: one class per kind of file, whose other keys are free."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from lt.core.options import LARGEST, MOST, Count, Index, Real, Seed

# one for embeddings, which have no colours
Colours = Annotated[list[Real], Field(min_length=1, max_length=3)]
Prior = Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]
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


class Head(Plugin):
    feature_dim: Count
    num_classes: Count
    num_experts: Count


class Context(BaseModel):
    """What a row was made of, see lt/core/context.py."""

    dataset: str
    model: str
    head: str
    loss: str
    mix: str
    weighting: str
    sampler: str
    augment: str
    imbalance: str
    subset: str
    data: str


class Row(BaseModel):
    """row.json of any row of the table."""

    logit_prior: Prior
    context: Context


class ClassifierRow(Row):
    """row.json of base and distill."""

    classifier: Network


class RuleRow(Row):
    """row.json of retrain."""

    head: Head
    balanced_view: bool


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


class IndexFile(BaseModel):
    """data/<name>.json, the index of a data set's raw files."""

    dataset: str
    files: list[RawFile]
    images: list[ImageBlock] = []


class PackFile(BaseModel):
    """pack.json of decoded images."""

    images: Index
    corrupt: dict[Digits, str]


class SeedDetails(BaseModel):
    metrics: Metrics


class Details(BaseModel):
    """results/details/<row>.json, everything measured on a row."""

    row: str
    context: dict[str, Any]
    classes: list[str]
    train_counts: list[Index]
    test_counts: list[Index]
    val_size: Annotated[int, Field(ge=0, le=MOST)]
    mean: Metrics
    sd: Metrics
    seeds: dict[str, SeedDetails]
