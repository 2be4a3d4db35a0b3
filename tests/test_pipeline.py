"""The pipeline through DVC: what a change re-runs, what a mistake leaves alone, that two runs give the same bytes."""

import json
import re
import shutil
import time

import pytest

from tests.conftest import copy_project

pytestmark = pytest.mark.pipeline
EVALUATIONS = {"evaluate_base@0", "evaluate_xerm@pc-0", "evaluate@crt-0", "evaluate@pc-0", "evaluate@balms-0"}
TRAINED = ("base", "features", "retrain", "distill")


def executed(done) -> set[str]:
    """Names of the stages that DVC really ran."""
    return set(re.findall(r"Running stage '([^']+)'", done.stdout))


def lock(project) -> str:
    return (project.folder / "dvc.lock").read_text()


@pytest.fixture(scope="module")
def built(project):
    """The project after its first `dvc repro`, committed."""
    project.first = project.dvc("repro")
    project.git("add", "-A")
    project.git("commit", "-qm", "first results")
    return project


@pytest.fixture
def restored(built):
    """The built project; its params and results are put back after the test."""
    yield built
    (built.folder / "params.yaml").touch()
    built.git("checkout", "-f", ".")
    built.git("clean", "-fdq", "lt")
    built.dvc("checkout", "--force")


def experiment(project, *arguments, ok=True):
    return project.dvc("exp", "run", *arguments, ok=ok)


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


def test_another_run_from_empty_caches_gives_the_same_hashes(built, tmp_path):
    again = copy_project(tmp_path)
    again.keep(["crt", "pc", "balms"], ["pc"])
    again.dvc("repro")
    assert lock(again) == lock(built)


def test_another_loss_re_runs_from_base_on_and_going_back_trains_nothing(restored):
    done = experiment(restored, "-S", "loss=bayias", "-n", "bayias")
    assert {"base@0", "features@0", "retrain@balms-0", "distill@pc-0", "report"} <= executed(done)
    assert "subsample" not in executed(done)
    diff = json.loads(restored.dvc("metrics", "diff", "HEAD", "bayias", "--all", "--json").stdout)["results/metrics.json"]
    assert {"top1", "balanced", "head", "mid", "tail", "nll", "ece", "loss"} <= diff.keys()
    base, pc = (json.loads((restored.folder / f"results/methods/{row}.json").read_text()) for row in ("base", "pc"))
    assert {key: base[key] for key in ("top1", "nll", "ece")} == {key: pc[key] for key in ("top1", "nll", "ece")}
    back = experiment(restored, "-S", "loss=ce")
    assert executed(back) <= {"check", "report"}


def test_another_reported_row_trains_nothing(restored):
    for row in ("balms", "crt"):
        assert executed(experiment(restored, "-S", f"report.row={row}", "-n", row)) <= {"check", "report"}
    diff = json.loads(restored.dvc("metrics", "diff", "crt", "balms", "--json").stdout)["results/metrics.json"]
    assert diff["row"] == {"old": "crt", "new": "balms"}


def test_a_methods_option_re_runs_that_method_only(restored):
    done = experiment(restored, "-S", "methods.crt.lr=0.05")
    assert executed(done) == {"check", "retrain@crt-0", "evaluate@crt-0", "report"}


def test_a_new_seed_runs_that_seed_only_and_one_seed_less_the_report_alone(restored, tmp_path):
    before = {path: path.read_bytes() for path in sorted((restored.folder / "results").rglob("*.*")) if path.suffix != ".html"}
    done = experiment(restored, "-S", "seeds=[0,1]")
    first = {"base@0", "features@0", "retrain@crt-0", "retrain@pc-0", "retrain@balms-0", "distill@pc-0"} | EVALUATIONS
    assert executed(done) == {stage.replace("0", "1") for stage in first} | {"check", "report"}
    row = json.loads((restored.folder / "results/details/crt.json").read_text())
    assert row["sd"]["nll"] > 0
    assert executed(experiment(restored, "-S", "seeds=[0]")) <= {"check", "report"}
    assert before == {path: path.read_bytes() for path in before}

    other = copy_project(tmp_path)  # with the same cache and without dvc.lock
    shutil.copy(restored.folder / "params.yaml", tmp_path)
    other.set({"seeds": [1]})
    other.dvc("config", "cache.dir", str(restored.folder / ".dvc/cache"))
    assert executed(other.dvc("repro")) <= {"check", "report"}
    assert json.loads((tmp_path / "results/details/crt.json").read_text())["seeds"].keys() == {"1"}


def test_editing_or_adding_code_that_is_not_selected_re_runs_nothing(restored):
    for name in ("bayias", "focal"):
        path = restored.folder / f"lt/losses/{name}.py"
        path.write_text(path.read_text() + "\n# edited\n")
    shutil.copy(restored.folder / "lt/losses/ce.py", restored.folder / "lt/losses/mine.py")
    assert executed(restored.dvc("repro")) == set()


@pytest.mark.parametrize(
    "edited, stages",
    [
        ("lt/page/plot.py", set()),
        ("lt/predict.py", set()),
        ("lt/report/table.py", {"report"}),
        ("lt/evaluate/comparison.py", EVALUATIONS | {"report"}),
        ("lt/retrain/adam.py", {"retrain@crt-0", "retrain@pc-0", "retrain@balms-0"}),
        ("lt/training/schedule.py", {"base@0", "retrain@crt-0", "retrain@pc-0", "retrain@balms-0", "distill@pc-0"}),
    ],
)
def test_an_edit_in_a_room_re_runs_what_uses_the_room(restored, edited, stages):
    path = restored.folder / edited
    path.write_text(path.read_text() + "\n# edited\n")
    assert executed(restored.dvc("repro")) == stages


def test_editing_a_method_re_runs_it_and_stops_where_nothing_changed(restored):
    path = restored.folder / "lt/methods/crt.py"
    path.write_text(path.read_text() + "\n# edited\n")
    assert executed(restored.dvc("repro")) == {"retrain@crt-0"}


def test_a_new_method_is_one_file_and_one_block(restored):
    source = (restored.folder / "lt/methods/pc.py").read_text()
    (restored.folder / "lt/methods/mine.py").write_text(source)
    restored.set({"methods.mine": {}})
    assert executed(restored.dvc("repro")) == {"check", "retrain@mine-0", "evaluate@mine-0", "report"}
    assert re.search(r"^\| mine +\|", (restored.folder / "results/table.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("override, told", [("loss=bayes", "bayias"), ("imbalance=-3", "greater than or equal to 1")])
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


def test_a_float_as_dvc_writes_it_is_a_number(restored):
    done = experiment(restored, "-S", "methods.crt.weight_decay=0.00001")
    assert "retrain@crt-0" in executed(done)
    assert "1e-05" in (restored.folder / "params.yaml").read_text()


def test_rows_of_other_runs_are_not_mixed(restored):
    row = restored.folder / "artifacts/evaluate/crt/0/measured.json"
    text = row.read_text().replace('"loss": "ce"', '"loss": "bayias"')
    row.unlink()
    row.write_text(text)
    done = restored.run("python", "-m", "stages.report", ok=False, LT_VERIFY="0")
    assert done.returncode == 1 and "crt" in done.stderr and "loss" in done.stderr
