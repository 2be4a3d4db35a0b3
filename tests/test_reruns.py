"""The pipeline through DVC: what a change re-runs, that two runs give the same bytes, and that going back trains nothing."""

import json
import re
import shutil

import pytest

from tests.conftest import copy_project, executed, experiment, lock
from tests.test_pipeline import EVALUATIONS

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


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


def test_a_float_as_dvc_writes_it_is_a_number(restored):
    done = experiment(restored, "-S", "methods.crt.weight_decay=0.00001")
    assert "retrain@crt-0" in executed(done)
    assert "1e-05" in (restored.folder / "params.yaml").read_text()
