"""Small projects that are good, into which bad inputs are put."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import jpeg_tree
from benchmarks.stage import run_stage
from lt.core.files import inside

ROOT = Path(__file__).parent.parent
SIZES = jpeg_tree.Sizes(classes=3, train=14, imbalance=3, val_per_class=1, test_per_class=2)
LIST = {
    "images": "data/lists",
    "train_list": "data/lists/train.txt",
    "val_list": "data/lists/val.txt",
    "test_list": "data/lists/test.txt",
    "image_size": 16,
}
AS_IS = {"subset": {"profile": "none"}}
# What differs from the shipped params.yaml, by project.
SETTINGS: dict[str, dict[str, Any]] = {
    "digits": {},
    "lists": AS_IS | {"dataset": "listfile", "datasets": {"listfile": LIST | {"packed": True}}},
    "tree": AS_IS | {"dataset": "folder", "datasets": {"folder": {"path": "data/tree", "image_size": 16}}},
    "embeddings": AS_IS
    | {
        "dataset": "embeddings",
        "datasets": {"embeddings": {"path": "data/embeddings.npz"}},
        "model": "identity",
        "augment": "none",
        "train": {"epochs": 0},
    },
}
# What is made there.
COMMANDS = {
    "digits": ["subsample", "base --seed 0", "features --seed 0", "retrain crt --seed 0", "retrain pc --seed 0",
    "distill pc --seed 0",
               "evaluate base", "evaluate crt", "evaluate pc", "evaluate xerm_pc", "report", "page"],
    "lists": ["index listfile", "subsample", "base --seed 0"],
    "tree": ["index folder", "subsample", "base --seed 0"],
    "embeddings": ["index embeddings", "subsample", "base --seed 0"],
}  # fmt: skip


def make(folder: Path) -> Path:
    """Makes all of them, each in a folder of its name."""
    from lt.training.checkpoint import Checkpoint

    clear, Checkpoint.clear = Checkpoint.clear, lambda self: None  # the last training state stays
    os.environ["LT_SAVE_EVERY_S"] = "-1"
    try:
        for name, changes in SETTINGS.items():
            place = folder / name
            _begin(place, name, changes)
            with inside(place):
                for line in COMMANDS[name]:
                    run_stage(*line.split())
    finally:
        Checkpoint.clear = clear
        del os.environ["LT_SAVE_EVERY_S"]
    return folder


def _begin(place: Path, name: str, changes: dict[str, Any]) -> None:
    """params.yaml, small enough, and the raw data."""
    (place / "data").mkdir(parents=True)
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content["train"] |= {"epochs": 2, "warmup_epochs": 0}
    content["distill"] |= {"epochs": 2, "warmup_epochs": 0}
    content["features"]["views"] = 2
    methods = {"crt": content["methods"]["crt"] | {"steps": 5}, "pc": content["methods"]["pc"]}
    content |= {
        "methods": methods,
        "teachers": {"pc": content["teachers"]["pc"]},
        "report": {"row": "crt"},
        "imbalance": 50 if name == "digits" else 2,
    }
    for key, value in changes.items():
        if isinstance(value, dict):
            for inner_key, inner in value.items():
                content[key][inner_key] = content[key][inner_key] | inner if isinstance(inner, dict) else inner
        else:
            content[key] = value
    (place / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    for path in ("data/digits.json", "dvc.yaml"):
        shutil.copy(ROOT / path, place / path)
    (place / "recipes").symlink_to(ROOT / "recipes", target_is_directory=True)
    if name == "lists":
        jpeg_tree.write(place / "data" / "lists", SIZES, corrupt=0)
    if name in ("tree", "digits"):
        jpeg_tree.write(place / "data" / "tree", SIZES, corrupt=0)
        shutil.rmtree(place / "data" / "tree" / "val")
    if name == "embeddings":
        write_embeddings(place / "data" / "embeddings.npz")


def write_embeddings(path: Path) -> None:
    """Features of three classes, 14 rows each."""
    labels = np.repeat(np.arange(3), 14)
    np.savez(path, features=np.random.default_rng(0).standard_normal((42, 4)).astype(np.float32) + labels[:, None], labels=labels)
