"""Every kind of published recipe goes through all stages: small stand-ins of its data set, two epochs, every row, one table."""

import importlib
import json
import sys

import numpy as np
import pytest
import yaml

from lt.core import params
from lt.evaluate.label_shift import RATIOS
from lt.published import recipes
from lt.published.budget import scale
from tests.conftest import ROOT
from tests.published.small_data import write_cifar, write_lists

RECIPES = recipes.read_all(ROOT / "recipes")
SHIPPED = params.read_yaml(ROOT / "params.yaml")
WRITERS = dict.fromkeys(["cifar10", "cifar100"], write_cifar) | dict.fromkeys(["imagenet_lt", "places_lt", "inat18"], write_lists)
# What asks for options that no recipe has.
VARIANTS = [
    ("imagenet_lt_rx50_decoupling", {"methods.ncm.space": "plain"}),
    ("imagenet_lt_rx50_decoupling", {"methods.ncm.space": "cosine"}),
    ("cifar100_if10_balanced_softmax", {"loss": "eql"}),
    ("cifar100_if10_balanced_softmax", {"loss": "cb"}),
    ("cifar10_if50_decoupling", {"methods.tau_norm.tau": None, "subset.val_fraction": 0.2}),
]


def small(name: str, **changes) -> dict:
    """What a recipe makes of params.yaml, with little to compute: which plug-ins, rows and options there are stays as it is."""
    content = recipes.expand(RECIPES[name], SHIPPED)
    content = scale(content, 2 / content["train"]["epochs"])
    for block in (content["train"], content["distill"]):
        block |= {"batch_size": 16, "lr": 0.1 * block["lr"]}  # the running statistics of a few steps follow no faster
    content["features"]["views"] = min(content["features"]["views"], 2)
    content["seeds"] = [0]
    for options in content["methods"].values():
        less = {"steps": 20, "batch_size": 16, "meta_batch_size": 16, "head_epochs": 1}
        options |= {option: value for option, value in less.items() if option in options}
        if "epochs" in options:  # trains the backbone
            options["lr"] *= 0.1
    options = content["datasets"][content["dataset"]]
    if content["dataset"].startswith("cifar"):
        content["imbalance"] = 10
    else:
        lists = {f"{part}_list": f"data/{content['dataset']}/{part}.txt" for part in ("train", "val", "test")}
        options |= {key: path for key, path in lists.items() if options[key]} | {"image_size": 36, "test_crop": 32}
        content["augments"]["resized_crop"]["size"] = 32
        content["models"][content["model"]]["weights"] = None
        content["models"][content["model"]]["trainable"] = "all"  # frozen layers need weights
    for key, value in changes.items():
        *blocks, last = key.split(".")
        place = content
        for block in blocks:
            place = place[block]
        place[last] = value
    return content


def kinds() -> list[str]:
    """One recipe of each kind: those that differ from it in the data set's name or the imbalance alone are left out."""
    found = {}
    for name in RECIPES:
        if recipes.expand(RECIPES[name], SHIPPED)["dataset"] in WRITERS:
            content = small(name)
            content["dataset"] = content["dataset"].rstrip("0")
            found.setdefault(json.dumps(content, sort_keys=True), name)
    return [*found.values()]


def run(monkeypatch, *commands: str) -> None:
    for command in commands:
        stage, *arguments = command.split()
        monkeypatch.setattr(sys, "argv", [stage, *arguments])
        importlib.import_module(f"stages.{stage}").main()


@pytest.mark.slow
@pytest.mark.parametrize("name, changes", [*((name, {}) for name in kinds()), *VARIANTS])
def test_a_recipe_goes_through_all_stages(name, changes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    content = small(name, **changes)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    WRITERS[content["dataset"]](tmp_path / "data", content["dataset"], monkeypatch)
    rows = ["base", *content["methods"], *(f"xerm_{teacher}" for teacher in content["teachers"])]
    run(
        monkeypatch, f"index {content['dataset']}", "check", "subsample", "base --seed 0", "features --seed 0",
        *(f"retrain {method} --seed 0" for method in content["methods"]),
        *(f"distill {teacher} --seed 0" for teacher in content["teachers"]),
        *(f"evaluate {row}" for row in rows), "report",
    )  # fmt: skip
    table = (tmp_path / "results/table.md").read_text().splitlines()
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line.startswith("|")]
    assert "train_prior %" in head and [line[0] for line in lines] == rows
    for row in rows:
        details = json.loads((tmp_path / f"results/details/{row}.json").read_text())
        published = {metric for numbers in RECIPES[name].published.get(row, []) for metric in numbers} - {"source"}
        assert published <= details["mean"].keys()
        shifted = {f"{order}_{ratio:g}" for order in ("forward", "backward") for ratio in RATIOS}
        for metric in {"balanced", "train_prior", "nll", "ece"} | shifted:
            assert np.isfinite(details["mean"][metric]), (row, metric)
