"""Recipes: each one fits params.yaml, survives DVC's command line, and its plug-ins train together."""

import importlib
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from lt.check import mistakes
from lt.base.trained import train_base
from lt.core import params
from lt.core.options import options_of
from lt.core.params import AXES
from lt.core.plugins import names, path_of
from lt.data.split import Split
from lt.evaluate import label_shift, metrics
from lt.input.part import training_part
from lt.network import classifier, inference
from lt.published import recipes
from lt.subsample import make as make_subset
from lt.training import engine, setup
from tests.conftest import ROOT
from tests.plugins.test_models import LARGE

RECIPES = recipes.read_all(ROOT / "recipes")
SHIPPED = params.read_yaml(ROOT / "params.yaml")
# How fast it runs, and the one option that is not read with the dev_source of the recipes.
RUN = ("compile", "precision", "deterministic", "sync_batchnorm", "test_every")
FREE = {f"{block}.{key}" for block in ("train", "distill") for key in RUN}
FREE |= {"features.batch_size", "weightings.longtail_da.dev_per_class"}
# Where lists and images lie, and whether the latter are kept decoded.
FREE |= {"datasets.folder.path"}
PLACES = ("images", "train_list", "val_list", "test_list", "class_names", "packed")
FREE |= {f"datasets.{dataset}.{option}" for dataset in ("imagenet_lt", "places_lt", "inat18") for option in PLACES}
METRICS = set(metrics.accuracies(np.arange(2), np.arange(2), np.array([3, 2])))
METRICS |= set(label_shift.shifted(label_shift.curve(np.eye(2), np.arange(2), np.array([3, 2]), np.full(2, 0.5))))


def expanded(name, content=SHIPPED):
    return recipes.expand(RECIPES[name], content)


def loaded(content, folder):
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return mistakes.load(path)


def changed(value):
    """Another value of the same type throughout, as if each had been edited by hand."""
    if isinstance(value, dict):
        return {key: changed(inner) for key, inner in value.items()}
    if isinstance(value, bool):
        return not value
    return "other" if isinstance(value, str) else [7] if isinstance(value, list) else 7


def keys_of(content, prefix=""):
    """Dotted key and value of all values that are no mappings."""
    for key, value in content.items():
        yield from keys_of(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [(f"{prefix}{key}", value)]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_gives_valid_params(name, tmp_path):
    settings = loaded(expanded(name), tmp_path)
    assert settings.train.epochs > settings.weightings[settings.weighting].get("start_epoch", 0) or not settings.trains_backbone()
    assert set(RECIPES[name].published) <= set(settings.rows())
    for row in sum(RECIPES[name].published.values(), []):
        assert row["source"] and set(row) - {"source"} <= METRICS
    if name.startswith("cifar"):
        dataset, imbalance, _ = name.split("_", 2)
        assert (settings.dataset, f"if{settings.imbalance:g}") == (dataset, imbalance)
        assert RECIPES[name].differs


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_leaves_nothing_that_matters_to_chance(name):
    """Whatever stands in params.yaml, the recipe's result is the same, but for what the machine decides."""
    usual, edited = (dict(keys_of(selected(expanded(name, content)))) for content in (SHIPPED, changed(SHIPPED)))
    assert {key for key in usual if usual[key] != edited[key]} <= FREE


def selected(content):
    """What a result depends on: the axes, the options of what they name, and the stages that run."""
    blocks = ["imbalance", *AXES, "subset", "train", "features", "methods", "teachers", "report"]
    blocks += ["distill"] if content["teachers"] else []
    return {block: content[block] for block in blocks} | {
        kind: {content[axis]: content[kind][content[axis]]} for axis, kind in AXES.items()
    }


def test_balms_follows_its_published_schedule():
    """Released lengths: ceil(13000 / ceil(N / 512)) epochs, ceil(800 / ceil(N / 512)) of them warm-up."""
    for dataset, classes, largest in (("cifar10", 10, 5000), ("cifar100", 100, 500)):
        for imbalance in (10, 50, 100, 200):
            train = expanded(f"{dataset}_if{imbalance}_balms")["train"]
            total = sum(int(largest * (1 / imbalance) ** (c / (classes - 1))) for c in range(classes))
            batches = -(-total // 512)
            assert (train["epochs"], train["warmup_epochs"]) == (-(-13000 // batches), -(-800 // batches))


def test_constants_that_are_only_in_released_settings():
    assert expanded("cifar100_if100_ride")["losses"]["ride"]["diversity"] == -0.45


def test_tau_norm_keeps_the_bias_beside_the_numbers_of_bag_of_tricks_alone():
    found = {name: content["methods"]["tau_norm"]["bias"] for name in RECIPES if "tau_norm" in (content := expanded(name))["methods"]}
    bags = {name for name, recipe in RECIPES.items() if recipe.source.repository == "github.com/zhangyongshun/BagofTricks-LT"}
    assert len(bags) == 8 and len(found) > 8
    assert found == {name: "keep" if name in bags else "drop" for name in found}


def test_precision_is_compared_with_that_over_the_predicted_classes_where_the_release_has_it():
    for name in ("cifar100_if100_xerm_ride", "cifar100_if100_two_experts_xerm_ride"):
        for row in ("pc", "xerm_pc"):
            (published,) = RECIPES[name].published[row]
            wanted = {f"{group}_precision_predicted" for group in ("many", "medium", "few")}
            assert {metric for metric in published if "precision" in metric} == wanted


def test_the_over_balance_ablation_changes_the_draw_of_balanced_softmax_and_nothing_else():
    names = [name for name in RECIPES if name.endswith("_over_balance")]
    assert len(names) == 6
    for name in names:
        found, balms = expanded(name), expanded(name.replace("over_balance", "balms"))
        balms["methods"] = {"balanced_softmax": balms["methods"]["balanced_softmax"] | {"sampling": "class_balanced"}}
        balms["report"] = {"row": "balanced_softmax"}
        assert found == balms


@pytest.mark.parametrize(
    "kind, change",
    [
        ("balanced_softmax", {"loss": "balanced_softmax"}),
        ("class_weights", {"weighting": "class_balanced"}),
        ("class_sampling", {"sampler": "class_balanced"}),
    ],
)
def test_the_end_to_end_rows_of_balms_change_one_axis_of_its_base(kind, change):
    names = [name for name in RECIPES if name.startswith("cifar") and name.endswith(kind)]
    assert len(names) == 6
    axes = set(AXES) | {"imbalance", "subset", "train", "augments", "datasets", "models", "heads"}
    for name in names:
        found, balms = expanded(name), expanded(name.replace(kind, "balms"))
        assert {key: found[key] for key in axes} == {key: balms[key] for key in axes} | change
        assert found["methods"] == {} and RECIPES[name].published["base"]
    assert expanded("cifar10_if100_class_weights")["weightings"]["class_balanced"]["beta"] == 0.999999


def test_recipes_of_one_protocol_that_are_not_alike_say_so_in_their_summaries():
    told = [recipes.find(name).summary for name in recipes.read_all() if name.startswith("digits_")]
    assert len({*told}) == len(told) >= 6
    plain, extra, control = (recipes.find(f"cifar10_if100_{name}longtail_da").summary for name in ("", "extra_", "no_eps_"))
    assert len({plain, extra, control}) == 3 and "extra data" in extra and "nothing learned" in control
    assert recipes.find("cifar10_if10_balms").summary == recipes.find("cifar100_if200_balms").summary


def test_extra_data_are_opt_in_and_told():
    names = [name for name in RECIPES if expanded(name)["weightings"]["longtail_da"]["dev_source"] == "train_pool_extra"]
    assert {name.split("_")[2] for name in names} == {"extra", "focal", "ldam"} and len(names) == 18
    for name in names:
        content = expanded(name)
        assert content["subset"]["reserve"] == content["weightings"]["longtail_da"]["dev_per_class"] == 10
        assert any("extra data" in line for line in RECIPES[name].differs)
    assert not [name for name in RECIPES if name not in names and expanded(name)["subset"]["reserve"]]


def test_the_control_of_longtail_da_differs_in_the_learned_weights_alone():
    for dataset in ("cifar10", "cifar100"):
        found, full = (expanded(f"{dataset}_if100_{kind}longtail_da") for kind in ("no_eps_", ""))
        full["weightings"]["longtail_da"]["eps_lr"] = 0.0
        assert found == full


def test_both_sets_of_prior_lt_and_of_bag_of_tricks_are_told():
    def values(name):
        return [numbers["balanced"] for numbers in RECIPES[name].published["base"]]

    assert values("cifar10_if10_prior_lt") == [0.8966, 0.8780] and values("cifar100_if100_prior_lt") == [0.4545, 0.4641]
    assert values("cifar100_if100_plain") == values("cifar100_if100_decoupling") == [0.3832, 0.3773]


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith(("imagenet_lt", "places_lt"))])
def test_who_sees_labelled_validation_images_is_told(name, tmp_path):
    settings = loaded(expanded(name), tmp_path)
    seeing = {
        row for row, options in settings.methods.items()
        if any(option in options and options[option] == value for option, value in mistakes.VALIDATES.items())
    }  # fmt: skip
    (told,) = [line for line in RECIPES[name].differs if "labelled images of the validation part" in line]
    assert all(row in told for row in seeing) and (not name.endswith("_balms") or "balms" in seeing)


def test_expanding_replaces_rows_and_fills_in_defaults():
    digits, before = expanded("digits_full"), json.dumps(SHIPPED)
    assert list(digits["methods"]["dro_lt"]) == list(options_of(path_of("methods", "dro_lt"), "fit"))
    assert digits["methods"]["dro_lt"]["epochs"] == 20 and digits["methods"]["dro_lt"]["lr"] == 0.005
    # A method that is added need not be a row of it.
    assert set(digits["methods"]) == set(digits["teachers"]) <= set(names("methods")) - {"tde"} and len(digits["methods"]) >= 10
    assert expanded("cifar100_if100_balms")["teachers"] == {}
    assert json.dumps(SHIPPED) == before


@pytest.mark.parametrize(
    "name",
    ["cifar100_if100_balms", "cifar100_if50_xerm_tde", "cifar100_if100_dro_lt", "cifar10_if100_longtail_da", "digits_full", "own_images"],
)
def test_dvc_makes_of_the_arguments_what_expand_makes(name, tmp_path):
    from dvc.utils.cli_parse import to_path_overrides
    from dvc.utils.hydra import apply_overrides

    path, wanted = tmp_path / "params.yaml", expanded(name)
    shutil.copy(ROOT / "params.yaml", path)
    arguments = recipes.arguments(SHIPPED, wanted)
    assert all(not set(argument) & set(" \t\n'\"\\$`;&|<>()*?!#") for argument in arguments)
    (overrides,) = to_path_overrides(arguments).values()
    apply_overrides(path, overrides)
    assert params.read_yaml(path) == wanted
    assert recipes.arguments(params.read_yaml(path), wanted) == []


def test_every_recipe_is_reached_from_every_other_through_dvc(tmp_path):
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    for name in ("digits_full", "cifar10_if10_prior_lt", "cifar100_if100_xerm_ride", "cifar10_if200_balms"):
        content = params.read_yaml(path)
        apply_overrides(path, recipes.arguments(content, recipes.expand(RECIPES[name], content)))
        reached = params.read_yaml(path)
        assert recipes.arguments(reached, recipes.expand(RECIPES[name], reached)) == []
        for block in ("methods", "teachers"):
            assert set(reached[block]) == set(expanded(name)[block])


@pytest.mark.parametrize("value", ["two words", "a'b", "true", "", "$HOME", float("inf"), {"a b": 1}, object()])
def test_what_has_no_plain_form_is_refused(value):
    with pytest.raises(recipes.RecipeError):
        recipes.text(value)


def test_values_in_the_grammar_of_dvc():
    assert recipes.text({"a": [1, 2.5], "b": None, "c": True, "d": "lt", "e": {}}) == "{a:[1,2.5],b:null,c:true,d:lt,e:{}}"
    assert recipes.arguments({"a": 1, "b": {"c": 1}}, {"b": {"c": 1, "d": 2}}) == ["~a", "+b.d=2"]
    assert recipes.arguments({"a": 1}, {"a": True}) == ["a=true"]


@pytest.mark.parametrize(
    "change, told",
    [
        ({"overrides": {"train.epoch": 3}}, "nearest: 'epochs'"),
        ({"overrides": {"lost.ce": 3}}, "expected a key of params.yaml"),
        ({"published": {"base": {"balanced": 45.3, "source": "a table"}}}, "fraction, 0 to 1"),
        ({"published": {"base": {"balanced": 0.453}}}, "its source"),
        ({"published": {"base": {"source": "a table"}}}, "at least one metric"),
        ({"published": {"base": []}}, "at least one metric"),
        ({"published": {"base": [{"balanced": 0.4, "source": "a table"}, {"balanced": 0.5}]}}, "its source"),
        ({"sauce": 1}, "sauce"),
    ],
)
def test_a_wrong_recipe_is_told(change, told, tmp_path):
    source = {"paper": "A", "table": "B"}
    content = {"summary": "s", "source": source, "protocol": "p", "differs": [], "overrides": {}, "recipes": {"one": change}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(recipes.RecipeError, match=told):
        recipes.expand(recipes.find("one", tmp_path), SHIPPED)


def test_published_values_are_told_to_the_last_digit():
    assert [recipes.percent(value) for value in (0.6915, 0.453, 0.9, 0.0, 1.0)] == ["69.15", "45.3", "90.0", "0.0", "100.0"]
    for values in (numbers for recipe in RECIPES.values() for found in recipe.published.values() for numbers in found):
        told = {metric: float(recipes.percent(value)) for metric, value in values.items() if metric != "source"}
        assert told == pytest.approx({metric: 100 * values[metric] for metric in told}, abs=1e-9)


def test_two_recipes_of_one_name_are_told(tmp_path):
    for name in ("a", "b"):
        shutil.copy(ROOT / "recipes" / "digits.yaml", tmp_path / f"{name}.yaml")
    with pytest.raises(recipes.RecipeError, match="'digits_full' stands in two files"):
        recipes.read_all(tmp_path)


def command(monkeypatch, *arguments):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["recipe", *arguments])
    importlib.import_module("stages.recipe").main()


def test_the_command_lists_shows_prints_and_writes(monkeypatch, capsys, tmp_path):
    command(monkeypatch)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(RECIPES)
    command(monkeypatch, "--list")
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(listed) == list(RECIPES) and "balms 50.8" in listed["cifar100_if100_balms"] and listed["digits_full"] == "-"
    assert listed["cifar10_if10_prior_lt"] == "base 89.66 / 87.8"
    command(monkeypatch, "cifar100_if100_balms", "--show")
    shown = capsys.readouterr().out
    assert "balms: balanced 50.8 %" in shown and "What differs here:\n  - " in shown
    command(monkeypatch, "own_images", "--show")
    shown = capsys.readouterr().out
    assert "Source: none; defaults for images of one's own\n" in shown and "What differs" not in shown
    command(monkeypatch, "cifar100_if100_balms")
    printed = capsys.readouterr().out.split()
    assert printed[::2] == ["-S"] * (len(printed) // 2)
    assert printed[1::2] == recipes.arguments(SHIPPED, expanded("cifar100_if100_balms"))
    command(monkeypatch, "cifar100_if100_xerm", "--write", str(tmp_path / "params.yaml"))
    assert params.read_yaml(tmp_path / "params.yaml") == expanded("cifar100_if100_xerm")


def test_an_unknown_recipe_is_told_and_stops_the_command_around_it(monkeypatch, capsys):
    with pytest.raises(recipes.RecipeError, match="nearest: cifar100_if100_balms"):
        command(monkeypatch, "cifar100_if100_blams")
    refused = capsys.readouterr().out.split()
    done = subprocess.run([sys.executable, "-m", "dvc", "exp", "run", *refused], capture_output=True, text=True)
    assert done.returncode and "unrecognized arguments" in done.stderr


def test_recipes_need_no_torch():
    code = "import sys, stages.recipe; from lt.published import recipes; recipes.read_all(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def made_small(name):
    """What a recipe makes of params.yaml, with resnet10 in place of the larger networks of the same code, and small images."""
    content = expanded(name)
    if content["model"] in LARGE:
        content["models"]["resnet10"] = content["models"][content["model"]] | {"weights": None, "trainable": "all"}
        content["model"] = "resnet10"
    if content["model"] == "timm":
        content["model"] = "resnet10"
    content["augments"]["resized_crop"]["size"] = None
    return content


def combinations():
    """One recipe of each combination of plug-ins, the data set apart."""
    found = {}
    for name in RECIPES:
        content = made_small(name)
        found.setdefault(tuple(content[axis] for axis in AXES if axis != "dataset"), name)
    return found.values()


@pytest.mark.parametrize("name", combinations())
def test_its_plug_ins_train_together(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    content = made_small(name)
    content["train"] |= {"epochs": 1, "batch_size": 8, "warmup_epochs": 0, "milestones": [], "schedule": "constant", "lr": 0.01}
    for options in (content["weightings"][content["weighting"]], content["losses"][content["loss"]]):
        if options.get("start_epoch"):
            options["start_epoch"] = 0
    content["weightings"]["longtail_da"]["dev_per_class"] = 1
    settings, part = loaded(content, tmp_path), tiny_part(reserve=min(content["subset"]["reserve"], 1))
    trained = train_base(settings, part, seed=0)
    assert len(trained.log) == 1 and np.isfinite(trained.log[0]["loss"])
    assert trained.logit_prior.shape == (3,) and trained.logit_prior.sum() == pytest.approx(1)
    logits = inference.predict(trained.model, part.split, part.images.device)
    assert np.isfinite(logits).all() and logits.shape[0] == 10 and logits.shape[-1] == 3


# github.com/XuZhengzhuo/Prior-LT and github.com/dvirsamuel/DRO-LT, models/resnet_cifar.py, _weights_init, which is applied to
# nn.Linear too; github.com/abdullahjamal/Longtail_DA, C-LT/resnet.py, alike, and C-LT/data_utils.py for its images. In LDAM-DRW
# and RIDE the head is a cosine head; in BALMS, BagofTricks-LT and xERM it is no part of the network that is drawn so.
@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("cifar")])
def test_a_recipe_starts_its_head_and_takes_its_images_as_its_release(name):
    content, is_longtail_da = expanded(name), name.endswith("longtail_da")
    has_kaiming = is_longtail_da or name.endswith(("prior_lt", "dro_lt"))
    if content["head"] == "linear":
        assert content["heads"]["linear"]["init"] == ("kaiming_normal" if has_kaiming else "torch")
    assert content["datasets"][content["dataset"]]["normalization"] == ("pixel_std" if is_longtail_da else "image_std")
    if content["augment"] == "crop_flip":
        assert content["augments"]["crop_flip"] == {"padding": 4, "padding_mode": "reflect" if is_longtail_da else "constant"}


# Learning rates of the layers that xERM's release calls the feature model and the classifier, in both of its stages:
# github.com/BeierZhu/xERM, xERM.TDE.public/config/Places_LT/resnet{50,152}_{TDE,xERM}.yaml, optim_params; fc_add, the layer of 512
# units, is in models/ResNetFeature.py.
@pytest.mark.parametrize("name", ["places_lt_r50_xerm_tde", "places_lt_r152_xerm_tde"])
@pytest.mark.parametrize("block, features_lr, classifier_lr", [("train", 0.001, 0.1), ("distill", 0.01, 0.1)])
def test_the_further_layer_of_tde_learns_at_the_rate_of_the_feature_model(name, block, features_lr, classifier_lr, tmp_path):
    settings, part = loaded(made_small(name), tmp_path), tiny_part()
    model = classifier.build(setup.specification(settings, part), seed=0)
    run = SimpleNamespace(model=model, settings=getattr(settings, block), objective=nn.Module())
    optimizer = engine._optimizer(run)
    rate = {id(parameter): factor * optimizer.lr for parameter, factor in zip(optimizer.parameters, optimizer.factors)}
    groups = {}
    for path, parameter in model.named_parameters():
        groups.setdefault(path.split(".")[0] + "." + path.split(".")[1], set()).add(round(rate[id(parameter)], 12))
    assert groups == {"backbone.trunk": {features_lr}, "backbone.projection": {features_lr}, "head.weight": {classifier_lr}}


def tiny_part(reserve=0):
    labels = np.repeat(np.arange(3), [5, 3, 2])
    images = np.random.RandomState(0).randint(0, 256, (10, 16, 16, 3)).astype(np.uint8)
    split = Split(images, labels, ("a", "b", "c"), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    options = {"kind": "none", "imbalance": 1.0, "seed": 0, "val_fraction": 0.0, "raw_sha256": "0", "reserve": reserve}
    subset = make_subset("tiny", split, split, **options)
    return training_part(split, subset, torch.device("cpu"))
