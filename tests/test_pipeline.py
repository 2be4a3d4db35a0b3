"""The pipeline through DVC: one run of it, what its stages import and read, and that a mistake leaves all as it was."""

import importlib
import json
import re
import sys
import time
from pathlib import Path

import pytest

from lt.core import params
from tests.conftest import executed, experiment, lock

pytestmark = pytest.mark.pipeline
EVALUATIONS = {"evaluate_base@0", "evaluate_xerm@pc-0", "evaluate@crt-0", "evaluate@pc-0", "evaluate@balms-0"}


def test_one_command_builds_the_whole_table(built):
    trained = {"base@0", "features@0", "retrain@crt-0", "retrain@pc-0", "retrain@balms-0", "distill@pc-0"}
    assert executed(built.first) == {"check", "subsample", *trained, *EVALUATIONS, "report"}
    table = (built.folder / "results/table.md").read_text()
    for row in ("base", "crt", "pc", "balms", "xerm_pc"):
        assert re.search(rf"^\| {row} +\|", table, re.MULTILINE), table
    assert table.strip().splitlines()[-1] in built.first.stdout


def test_every_row_has_the_same_keys(built):
    rows = [json.loads(path.read_text()) for path in (built.folder / "results/methods").glob("*.json")]
    assert len(rows) == 5
    assert all(row.keys() == rows[0].keys() for row in rows)
    metrics = {"top1", "balanced", "balanced_sd", "many", "medium", "few", "head", "mid", "tail", "nll", "ece", "train_prior"}
    assert rows[0].keys() == metrics | {"loss", "row"}


def test_a_second_run_does_nothing(built):
    start = time.monotonic()
    assert executed(built.dvc("repro")) == set()
    assert "up to date" in built.dvc("repro").stdout
    assert time.monotonic() - start < 60  # a hang, not a speed bar


def declared(project) -> dict:
    """Stage name -> (files and folders among its deps, params keys), as DVC resolves dvc.yaml."""
    from dvc.repo import Repo

    with Repo(str(project.folder)) as repo:
        return {
            stage.name: (
                [Path(dep.fs_path).relative_to(project.folder) for dep in stage.deps if not dep.def_path.startswith("params.yaml")],
                {key for dep in stage.deps for key in getattr(dep, "params", None) or []},
            )
            for stage in repo.index.stages
        }


def test_code_dependencies_cover_what_each_stage_imports(built):
    stages = declared(built)
    assert set(built.imported) == set(stages)
    for stage, used in built.imported.items():
        deps = stages[stage][0]
        missing = [name for name in used if not any(dep == Path(name) or dep in Path(name).parents for dep in deps)]
        assert not missing, f"dvc.yaml, stage {stage}: add {missing} to its deps"


class Recorder:
    """Settings that note which keys were read."""

    def __init__(self, settings: params.Settings):
        self._settings, self._read = settings, set()

    def __getattr__(self, name):
        value = getattr(self._settings, name)
        if name in params.Settings.model_fields and name not in ("methods", "teachers"):
            self._read.add(name)
        return RecordedBlock(value, name, self._read) if name in ("methods", "teachers") else value

    def options(self, kind, name):
        self._read.add(f"{kind}.{name}")
        return self._settings.options(kind, name)

    plugin = params.Settings.plugin

    def rows(self):
        return self._settings.rows()


class RecordedBlock(dict):
    """A dict that notes which of its keys were read."""

    def __init__(self, values, name, read):
        super().__init__(values)
        self._name, self._read = name, read

    def __getitem__(self, key):
        self._read.add(f"{self._name}.{key}")
        return super().__getitem__(key)


@pytest.mark.parametrize(
    "stage, command",
    [
        ("subsample", "subsample"), ("base@0", "base --seed 0"), ("features@0", "features --seed 0"),
        ("retrain@balms-0", "retrain balms --seed 0"), ("distill@pc-0", "distill pc --seed 0"), ("evaluate@crt-0", "evaluate crt --seed 0"),
        ("report", "report"),
    ],
)
def test_params_dependencies_cover_what_each_stage_reads(built, monkeypatch, stage, command):
    name, *arguments = command.split()
    monkeypatch.chdir(built.folder)
    recorder = Recorder(params.load())
    monkeypatch.setattr(params, "load", lambda *_: recorder)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    importlib.import_module(f"stages.{name}").main()
    keys = declared(built)[stage][1]
    missing = [read for read in recorder._read if not any(read == key or read.startswith(f"{key}.") for key in keys)]
    assert not missing, f"dvc.yaml, stage {stage}: add {missing} to its params"


@pytest.mark.parametrize(
    "override, told", [("loss=bayes", "bayias"), pytest.param("imbalance=-3", "greater than or equal to 1", marks=pytest.mark.slow)]
)
def test_a_mistake_is_told_before_anything_happens(restored, override, told):
    before = lock(restored), sorted(str(path) for path in restored.folder.glob("artifacts/**/*"))
    start = time.monotonic()
    done = experiment(restored, "-S", override, ok=False)
    assert time.monotonic() - start < 60  # a hang, not a speed bar
    assert done.returncode != 0
    message = done.stdout + done.stderr
    for part in (*override.split("="), told, "git checkout params.yaml"):
        assert part in message
    assert "Traceback" not in message
    after = lock(restored), sorted(str(path) for path in restored.folder.glob("artifacts/**/*"))
    assert after == before
    assert (restored.folder / "results/table.md").is_file()


def test_rows_of_other_runs_are_not_mixed(restored):
    row = restored.folder / "artifacts/evaluate/crt/0/measured.json"
    text = row.read_text().replace('"loss": "ce"', '"loss": "bayias"')
    row.unlink()
    row.write_text(text)
    done = restored.run("python", "-m", "stages.report", ok=False, LT_VERIFY="0")
    assert done.returncode == 1 and "crt" in done.stderr and "loss" in done.stderr
