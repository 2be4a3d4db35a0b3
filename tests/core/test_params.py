"""params.yaml: every mistake is told at once, with what to change; torch is never imported."""

import difflib
import subprocess
import sys
import time
from typing import Literal

import pytest
import yaml

from lt.check import mistakes
from lt.core import params
from lt.core.options import options_of
from lt.core.plugins import FUNCTIONS, names, path_of
from lt.core.schemas import Context, Names
from lt.core.yaml_file import YamlError
from tests.conftest import ROOT


def written(tmp_path, **changes):
    content = params.read_yaml(params.PATH)
    for key, value in changes.items():
        *blocks, last = key.split("__")
        place = content
        for block in blocks:
            place = place[block]
        place[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_shipped_file_is_valid():
    settings = params.load()
    assert settings.rows()[0] == "base"
    assert settings.report.row in settings.rows()


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_the_shipped_file_lists_every_option(kind):
    content = params.read_yaml(params.PATH)
    blocks = content[kind]
    wanted = blocks if kind == "methods" else names(kind)
    assert sorted(blocks) == sorted(wanted), f"params.yaml: block {kind} must hold every file of lt/{kind}"
    for name in wanted:
        typed = options_of(path_of(kind, name), FUNCTIONS[kind])
        assert set(blocks[name] or {}) == set(typed), f"{kind}.{name}"


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"weighting": "class_balance"}, ["weighting", "nearest: 'class_balanced'"]),
        ({"loss": "bayes"}, ["loss", "'bayes'", "nearest: 'bayias'"]),
        ({"imbalance": -3}, ["imbalance", "-3", "greater than or equal to 1"]),
        ({"imbalance": "hundred"}, ["imbalance", "'hundred'", "number"]),
        ({"imbalance": True}, ["imbalance", "True"]),
        ({"seeds": []}, ["seeds", "at least 1"]),
        ({"seeds": [1, 1]}, ["seeds", "different"]),
        ({"train__epoch": 3}, ["train.epoch", "nearest: 'epochs'"]),
        ({"train__lr": 0}, ["train.lr", "greater than 0"]),
        ({"train__schedule": "cosin"}, ["train.schedule", "'cosine'"]),
        ({"methods__crt__steps": 0}, ["methods.crt.steps", "got 0"]),
        ({"methods__crt__step": 5}, ["methods.crt.step", "nearest: 'steps'"]),
        ({"methods__crtt": {}}, ["methods.crtt", "nearest: 'crt'"]),
        ({"teachers__crtt": {}}, ["teachers.crtt", "nearest: 'crt'"]),
        ({"report__row": "balm"}, ["report.row", "nearest: 'balms'"]),
        ({"surprise": 1}, ["surprise", "expected one of"]),
        ({"weighting": "class_balanced", "weightings__class_balanced__start_epoch": 60}, ["weightings.class_balanced.start_epoch", "got 60"]),
        ({"loss": "ride", "losses__ride__start_epoch": 160}, ["losses.ride.start_epoch", "got 160", "train.epochs (60)"]),
        ({"loss": "ride", "head": "cosine", "losses__ride__scale": 16.0}, ["losses.ride.scale", "got 16.0", "(30.0)"]),
        ({"train__epochs": 1, "train__warmup_epochs": 0}, ["train.epochs", "learning rate 0"]),
        ({"weighting": "longtail_da", "mix": "mixup"}, ["mix", "'mixup'"]),
        ({"weighting": "longtail_da", "train__sync_batchnorm": True}, ["train.sync_batchnorm", "forward-mode"]),
        ({"subset__profile": "none", "subset__reserve": 10}, ["subset.reserve: got 10", "profile none"]),
        ({"methods__balms__meta_set": "val"}, ["methods.balms.meta_set", "subset.val_fraction above 0"]),
        ({"methods__tau_norm__tau": None}, ["methods.tau_norm.tau: got None", "subset.val_fraction above 0"]),
        ({"methods__tde": {}}, ["methods.tde", "causal"]),
        ({"head": "cosine"}, ["head: got 'cosine'", "methods.lws, whose class vectors", "methods.tau_norm"]),
        ({"methods__crt__lr": float("nan")}, ["methods.crt.lr", "nan"]),
        ({"methods__crt__lr": 2**400}, ["methods.crt.lr", "less than or equal to 1"]),
        ({"subset__seed": 99999999999}, ["subset.seed", "less than 4294967296"]),
        ({"seeds": [2**32]}, ["seeds.0", "less than 4294967296"]),
        ({"seeds": [-1]}, ["seeds.0", "greater than or equal to 0"]),
        ({"features__views": 99999999999999}, ["features.views", "less than or equal to 1000000000"]),
        ({"train__batch_size": 10**20}, ["train.batch_size", "less than or equal to 1000000000"]),
        ({"train__batch_size": 2**70}, ["train.batch_size", "less than or equal to 1000000000"]),
        ({"imbalance": 10**200}, ["imbalance", "less than or equal to"]),
    ],
)
def test_each_mistake_names_key_value_and_remedy(tmp_path, changes, told):
    with pytest.raises(params.ParamsError) as error:
        mistakes.load(written(tmp_path, **changes))
    for part in [*told, "-S", "git checkout"]:
        assert part in str(error.value)


def leaves(kind):
    """Types of numbers that a type is built from, with their constraints."""
    parts = [*getattr(kind, "__metadata__", ())] if getattr(kind, "__metadata__", None) else []
    if parts:
        return [(kind.__origin__, parts)]
    inner = [leaf for part in getattr(kind, "__args__", ()) for leaf in leaves(part)] if not isinstance(kind, type(Literal["a"])) else []
    return inner or ([(kind, [])] if kind in (int, float) else [])


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_every_number_among_the_options_has_an_end(kind):
    for name in names(kind):
        for option, (type_, _) in options_of(path_of(kind, name), FUNCTIONS[kind]).items():
            for number, constraints in leaves(type_):
                ends = [part for field in constraints for part in field.metadata if hasattr(part, "le") or hasattr(part, "lt")]
                assert ends or number not in (int, float), f"{kind}.{name}.{option}: a number without an end"


def test_all_mistakes_are_told_together(tmp_path):
    with pytest.raises(params.ParamsError, match="3 mistakes") as error:
        mistakes.load(written(tmp_path, loss="bayes", imbalance=-3, methods__balms__lr="fast"))
    assert all(word in str(error.value) for word in ("bayias", "imbalance", "methods.balms.lr"))


@pytest.mark.parametrize("text, value", [("1e-05", 1e-5), ("1e-3", 1e-3), ("5.0e-4", 5e-4), ("1E5", 1e5), (".5", 0.5), ("3.", 3.0), ("3", 3)])
def test_numbers_as_dvc_writes_them_are_numbers(tmp_path, text, value):
    path = tmp_path / "params.yaml"
    path.write_text(params.PATH.read_text().replace("  weight_decay: 5.0e-4", f"  weight_decay: {text}"))
    assert mistakes.load(path).train.weight_decay == value


def test_yaml_is_read_as_version_1_2(tmp_path):
    path = tmp_path / "any.yaml"
    path.write_text("a: on\nb: 010\nc: no\nd: true\ne: null\nf:\ng: '1e-3'\n")
    assert params.read_yaml(path) == {"a": "on", "b": 10, "c": "no", "d": True, "e": None, "f": None, "g": "1e-3"}


@pytest.mark.parametrize("text, told", [("a: [1", "not valid YAML"), ("- 1", "expected keys and values"), (None, "is missing")])
def test_a_broken_file_is_told(tmp_path, text, told):
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(YamlError, match=told):
        mistakes.load(path)


def test_check_imports_no_torch():
    code = "import sys; from lt.core import params; params.load(); import stages.check; sys.exit('torch' in sys.modules)"
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert time.monotonic() - start < 20  # a hang, not a speed bar


def test_a_method_without_experts_is_refused_a_model_of_them(monkeypatch, tmp_path):
    (tmp_path / "alone.py").write_text("STATISTICS = 'natural'\nEXPERTS = False\n\ndef fit(inputs):\n    pass\n")
    path_of = mistakes.path_of
    monkeypatch.setattr(mistakes, "path_of", lambda kind, name: tmp_path / "alone.py" if name == "crt" else path_of(kind, name))
    content = params.read_yaml(ROOT / "params.yaml") | {"methods": {"crt": {}, "pc": {}}, "teachers": {}, "report": {"row": "crt"}}

    def load(**changes):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content | changes))
        return mistakes.load(tmp_path / "params.yaml")

    assert list(load().methods) == ["crt", "pc"]
    with pytest.raises(params.ParamsError, match="1 mistake; .*\n.*methods.crt: got model 'ride_resnet32', which has experts, .*EXPERTS = False"):
        load(model="ride_resnet32")
    single = content["models"] | {"ride_resnet32": {"experts": 1, "reduce_dimension": True}}
    assert load(model="ride_resnet32", models=single).model == "ride_resnet32"


@pytest.mark.parametrize(
    "override, gone, new",
    [
        ("loss=bayias", ["loss: ce"], ["loss: bayias"]), ("seeds=[0,1,2]", [], ["- 1", "- 2"]),
        ("methods.pc.tau=0.5", ["    tau: 1.0"], ["    tau: 0.5"]), ("imbalance=50", [], []),
    ],
)  # fmt: skip
def test_an_override_of_dvc_changes_its_own_lines_alone(override, gone, new, tmp_path):
    from dvc.utils.hydra import apply_overrides

    before = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(before)
    apply_overrides(tmp_path / "params.yaml", [override])
    changes = list(difflib.ndiff(before.splitlines(), (tmp_path / "params.yaml").read_text().splitlines()))
    assert [line[2:] for line in changes if line.startswith("- ")] == gone
    assert [line[2:] for line in changes if line.startswith("+ ")] == new


def test_each_axis_is_a_name_of_the_settings_and_of_a_rows_context():
    assert [*params.AXES] == [*Names.model_fields]
    assert params.AXES.keys() <= params.Settings.model_fields.keys() and params.AXES.keys() <= Context.model_fields.keys()
