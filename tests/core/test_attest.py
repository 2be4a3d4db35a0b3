"""What was edited while a stage ran is told, and never recorded as what its output was made from."""

import sys
from pathlib import Path

import pytest

from lt.core import artifacts, attest, params
from stages import start
from tests.conftest import ROOT, Project

GRAPH = """
stages:
  base:
    matrix: {seed: [0]}
    cmd: python -m stages.base --seed ${item.seed}
    deps: ["lt/losses/${loss}.py", data]
    params: [loss, train, "losses.${loss}"]
"""
PARAMS = "loss: ce\ntrain: {lr: 0.1, epochs: 2}\nlosses: {ce: {}, focal: {gamma: 1}}\n"
# A loss that edits the project in the middle of a training, once.
EDITING = """
from pathlib import Path
from lt.losses import ce

def make(counts, features=None):
    plain = ce.make(counts)
    forward = plain.forward

    def edited(*arguments, **options):
        edit = Path("edit.py")
        if edit.exists():
            code = edit.read_text()
            edit.unlink()
            exec(code, {"Path": Path})
        return forward(*arguments, **options)

    plain.forward = edited
    return plain
"""


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """stage(edit): runs a stage that calls `edit`, then writes its artifact; an earlier one is there."""
    for name, text in {"dvc.yaml": GRAPH, "params.yaml": PARAMS, "lt/losses/ce.py": "old", "data/index.json": "{}"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LT_DEBUG", raising=False)
    monkeypatch.setattr(sys, "argv", ["stages/base.py", "--seed", "0"])
    monkeypatch.setenv("DVC_STAGE", "base@0")
    write("old")

    def run(edit, write=write):
        def main():
            edit()
            write("new")

        start.run(main)
        return (artifacts.stage_dir("base", 0) / "a.txt").read_text()

    return run


def write(text):
    with artifacts.writing(artifacts.stage_dir("base", 0)) as folder:
        artifacts.write_text(folder / "a.txt", text)


def rewrite(name, old, new):
    path = artifacts.Path(name)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    "name, old, new, told",
    [
        ("params.yaml", "lr: 0.1", "lr: 0.001", "params.yaml: train.lr was 0.1, is 0.001"),
        ("params.yaml", "loss: ce", "loss: focal", "params.yaml: loss was 'ce', is 'focal'"),
        ("params.yaml", "epochs: 2", "epochs: 2.0", "train.epochs was 2, is 2.0"),
        ("params.yaml", ", epochs: 2", "", "train.epochs was 2, is None"),
        ("lt/losses/ce.py", "old", "new", "lt/losses/ce.py was edited"),
        ("data/index.json", "{}", "{ }", "data was edited"),
    ],
)
def test_an_edit_of_what_a_stage_depends_on_ends_it_and_leaves_the_old_output(stage, name, old, new, told):
    with pytest.raises(SystemExit) as ended:
        stage(lambda: rewrite(name, old, new))
    for part in (told, "nothing was written", "training state, if there is one, is kept"):
        assert part in str(ended.value)
    assert (artifacts.stage_dir("base", 0) / "a.txt").read_text() == "old"
    assert not list(artifacts.stage_dir("base").glob(".*"))


def test_an_edit_of_what_a_stage_does_not_depend_on_is_none_of_its_business(stage):
    assert stage(lambda: rewrite("params.yaml", "gamma: 1", "gamma: 2")) == "new"


def test_an_edit_undone_again_changes_nothing(stage):
    assert stage(lambda: (rewrite("lt/losses/ce.py", "old", "new"), rewrite("lt/losses/ce.py", "new", "old"))) == "new"


def test_a_stage_that_is_run_by_hand_checks_params_before_it_notes_what_it_depends_on(stage, monkeypatch):
    """The check's marker is made then, and subsample depends on it."""
    monkeypatch.delenv("DVC_STAGE")
    monkeypatch.setattr("stages.check.main", lambda: artifacts.write_text(Path("data/checked.json"), "{}"))
    assert stage(lambda: None) == "new"


def test_without_a_graph_and_outside_of_a_stage_nothing_is_compared(stage, monkeypatch):
    artifacts.Path("dvc.yaml").rename("other.yaml")
    assert stage(lambda: rewrite("params.yaml", "lr: 0.1", "lr: 0.2")) == "new"
    attest.check()


@pytest.mark.parametrize(
    "arguments, dep, key",
    [
        ("base --seed 7", "lt/losses/ce.py", "losses.ce"),
        ("retrain balms --seed 0", "lt/methods/balms.py", "methods.balms"),
        ("distill pc --seed 0", "artifacts/retrain/pc/0", "teachers.pc"),
        ("evaluate base --seed 1", "artifacts/base/1", "evaluate"),
        ("evaluate crt --seed 1", "artifacts/retrain/crt/1", "evaluate"),
        ("evaluate xerm_pc --seed 1", "artifacts/distill/pc/1", "evaluate"),
        ("subsample", "data/digits.json", "datasets.digits"),
    ],
)
def test_each_command_has_its_entry_of_the_graph(arguments, dep, key, monkeypatch):
    monkeypatch.chdir(ROOT)
    entry = attest.entry_of(params.read_yaml("dvc.yaml")["stages"], ["python", "-m", *f"stages.{arguments}".split()])
    assert dep in entry["deps"] and key in entry["params"]
    assert not any("$" in text for text in (*entry["deps"], *entry["params"]))


def test_a_command_that_is_no_stage_has_none():
    assert attest.entry_of(params.read_yaml(ROOT / "dvc.yaml")["stages"], ["python", "-m", "stages.table", "x"]) is None


CODE = """
import sys
from pathlib import Path
from lt.core import attest
edit, later = sys.argv[1:]
import lt.core.options
attest._begun = begun = attest.Begun({"params": [], "deps": []})
path = Path(attest.lt.__path__[0], edit)
text = path.read_text()
path.write_text(text + "#")
if later: __import__(later)
if edit == "core/counts.py": path.write_text(text)
begun.check()
"""


@pytest.mark.parametrize(
    "edit, later, told",
    [
        ("core/options.py", "", "lt/core/options.py was edited"),  # imported at the start
        ("core/counts.py", "", None),  # never imported
        ("core/counts.py", "lt.core.counts", "lt/core/counts.py was edited"),  # imported between an edit and its undoing
        ("training/schedule.py", "lt.training.schedule", "lt/training/schedule.py was edited"),
    ],
)
def test_an_edit_of_imported_code_is_told(tmp_path, edit, later, told):
    import shutil

    shutil.copytree(ROOT / "lt", tmp_path / "lt", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    done = Project(tmp_path).run("python", "-c", CODE, edit, later, ok=False, PYTHONPATH=str(tmp_path))
    if told:
        assert done.returncode == 1 and told in done.stderr
    else:
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.pipeline
@pytest.mark.parametrize(
    "edit, told",
    [
        ("p = Path('params.yaml'); p.write_text(p.read_text().replace('  lr: 0.1', '  lr: 0.05', 1))", "train.lr was 0.1, is 0.05"),
        ("p = Path('lt/losses/editing.py'); p.write_text(p.read_text() + '#')", "lt/losses/editing.py was edited"),
        ("p = Path('lt/training/engine.py'); p.write_text(p.read_text() + '#')", "lt/training/engine.py was edited"),
    ],
)
def test_dvc_never_records_a_training_as_that_of_an_edit_in_its_middle(project, edit, told):
    (project.folder / "lt/losses/editing.py").write_text(EDITING)
    project.set({"loss": "editing", "losses.editing": {}, "train.lr": 0.1})
    (project.folder / "edit.py").write_text(edit)
    done = project.dvc("repro", "base@0", ok=False)
    assert done.returncode and told in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert not (project.folder / "artifacts/base/0").exists()
    assert "base@0" in project.dvc("status").stdout
    assert "Running stage 'base@0'" in project.dvc("repro", "base@0").stdout
    assert "base@0" not in project.dvc("status", "base@0").stdout


@pytest.mark.parametrize("stages", [None, [], {"a": None}, {"a": {"deps": []}}, {"a": {"cmd": ["python -m stages.base", "true"]}}, {"a": {"do": 1}}], ids=str)
def test_stages_of_another_kind_are_passed_over(stages):
    command = ["python", "-m", "stages.base"]
    assert attest.entry_of(stages, command) is None
    if isinstance(stages, dict):
        plain = {"cmd": "python -m stages.base", "deps": ["x", {"y": 1}], "params": None}
        assert attest.entry_of(stages | {"b": plain}, command) == {"deps": ["x"], "params": []}
