"""Tables beside the papers: budgets, verdicts, and DVC workspaces that continue, ask about what is out of date, and share."""

import contextlib
import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
import yaml

from lt.check import mistakes
from lt.core import artifacts, params
from lt.published import lock, names, recipes
from lt.published.budget import BudgetError, changes, scale
from lt.published.engine import EngineError, dvc
from lt.published.gather import verdict
from lt.published.hold import held
from lt.published.text import markdown
from lt.published.workspace import Workspace, _changes
from tests.conftest import ROOT
from tests.published.desk import TINY

RECIPES = recipes.read_all(ROOT / "recipes")
SHIPPED = params.read_yaml(ROOT / "params.yaml")
ROWS = ["base", "pc", "crt", "xerm_pc"]
ONE_SEED = {"base --seed 0", "features --seed 0", "retrain pc --seed 0", "retrain crt --seed 0", "distill pc --seed 0"}
EVALUATIONS = {f"evaluate {row}" for row in ROWS}


@pytest.mark.parametrize(
    "epochs, warmup, milestones, budget, wanted",
    [
        (200, 5, [160, 180], 0.1, (20, 1, [16, 18])),
        (200, 5, [160, 180], 0.2, (40, 1, [32, 36])),
        (200, 5, [160, 180], 1.0, (200, 5, [160, 180])),
        (200, 5, [160, 180], 0.01, (2, 1, [1])),  # both milestones come to the last epoch
        (200, 5, [160, 180], 0.001, (1, 0, [])),
        (200, 5, [2, 180], 0.1, (20, 1, [1, 18])),  # 0.2 would be from the start
        (60, 5, [], 0.5, (30, 3, [])),
        (50, 0, [], 0.29, (15, 0, [])),  # 14.5, though 0.29 * 50 is a little less in binary
        (10, 0, [5, 12], 0.5, (5, 0, [3])),  # nothing happened at 12 of 10
        (10, 0, [0, 5], 0.1, (1, 0, [0])),
    ],
)
def test_a_schedule_at_a_budget(epochs, warmup, milestones, budget, wanted):
    block = SHIPPED["train"] | {"schedule": "step", "epochs": epochs, "warmup_epochs": warmup, "milestones": milestones}
    cut = scale(SHIPPED | {"train": block, "distill": block}, budget)
    for name in ("train", "distill"):
        assert (cut[name]["epochs"], cut[name]["warmup_epochs"], cut[name]["milestones"]) == wanted


def test_a_cosine_keeps_an_epoch_that_learns():
    for epochs, left in ((200, 2), (1, 1)):
        block = SHIPPED["train"] | {"schedule": "cosine", "epochs": epochs, "warmup_epochs": 0}
        assert scale(SHIPPED | {"train": block}, 0.001)["train"]["epochs"] == left


def test_a_tenth_of_the_plain_protocol_changes_trainings_of_the_backbone_alone():
    whole = recipes.expand(RECIPES["cifar100_if100_plain"], SHIPPED)
    before = json.dumps(whole)
    assert changes(whole, scale(whole, 0.1)) == [
        "train.epochs: 200 -> 20", "train.warmup_epochs: 5 -> 1", "train.milestones: [159, 179] -> [16, 18]",
        "methods.dro_lt.epochs: 80 -> 8",
        "distill.epochs: 200 -> 20", "distill.warmup_epochs: 5 -> 1", "distill.milestones: [159, 179] -> [16, 18]",
    ]  # fmt: skip
    assert json.dumps(whole) == before and scale(whole, 1) == whole


def test_what_starts_or_stops_in_a_training_moves_with_it():
    drw = scale(recipes.expand(RECIPES["cifar100_if100_ldam_drw"], SHIPPED), 0.1)
    assert drw["weightings"]["class_balanced"]["start_epoch"] == 16
    assert drw["weightings"]["longtail_da"] == SHIPPED["weightings"]["longtail_da"]  # not selected
    prior_lt = recipes.expand(RECIPES["cifar100_if100_prior_lt"], SHIPPED)
    assert scale(prior_lt, 0.1)["mixes"]["unimix"]["stop_epoch"] is None
    prior_lt["mixes"]["unimix"]["stop_epoch"] = 180
    assert scale(prior_lt, 0.1)["mixes"]["unimix"]["stop_epoch"] == 18
    assert scale(prior_lt, 0.001)["mixes"]["unimix"]["stop_epoch"] == 1


@pytest.mark.parametrize("name", [name for name in RECIPES if "_if100_" in name])
def test_every_budget_gives_valid_params(name, tmp_path):
    for budget in (0.001, 0.01, 0.5):
        path = tmp_path / f"{budget}.yaml"
        path.write_text(yaml.safe_dump(scale(recipes.expand(RECIPES[name], SHIPPED), budget)))
        mistakes.load(path)


@pytest.mark.parametrize("budget", [0, -0.1, 1.5, float("nan")])
def test_a_budget_that_is_no_share_is_told(budget):
    with pytest.raises(BudgetError, match="above 0 and at most 1"):
        scale(SHIPPED, budget)


@pytest.mark.parametrize(
    "mean, sd, published, wanted",
    [
        (0.40, None, 0.41, "inside"),  # one point, whatever binary fractions say
        (0.3932, 0.001, 0.3832, "inside"),
        (0.3933, 0.001, 0.3832, "above"),
        (0.40, None, 0.4101, "below"),
        (0.40, 0.02, 0.44, "inside"),
        (0.40, 0.02, 0.4401, "below"),
        (0.40, 0.0, 0.40, "inside"),
    ],
)
def test_the_verdict_is_by_two_sd_or_a_point(mean, sd, published, wanted):
    assert verdict(mean, sd, published) == wanted


def entry(cmd: str, deps: list[str], outs: list[str]) -> dict:
    listed = {"deps": [{"path": path} for path in deps], "outs": [{"path": path} for path in outs]}
    return {"cmd": f"python -m stages.{cmd}", **listed, "params": {"params.yaml": {"seeds": [0, 1]}}}


def test_what_a_row_rests_on_is_read_in_dvc_lock():
    made = {"subsample": entry("subsample", [], ["artifacts/data"]), "evaluate@pc": entry("evaluate pc", ["artifacts/retrain/pc"], [])}
    for seed in "01":
        base, heads = f"artifacts/base/{seed}", [f"artifacts/retrain/{name}/{seed}" for name in ("pc", "pc_too")]
        made[f"base@{seed}"] = entry(f"base --seed {seed}", ["artifacts/data"], [base])
        made[f"retrain@pc-{seed}"] = entry(f"retrain pc --seed {seed}", [base], heads[:1])
        made[f"retrain@pc_too-{seed}"] = entry(f"retrain pc_too --seed {seed}", [base], heads[1:])
    one = ["subsample", "evaluate@pc", "base@1", "retrain@pc-1"]
    assert lock.rests_on(made, "evaluate@pc", [1]) == one
    assert set(lock.rests_on(made, "evaluate@pc", [0, 1])) == {*one, "base@0", "retrain@pc-0"}
    assert lock.command(made["retrain@pc-1"]) == ["retrain", "pc", "--seed", "1"] and lock.seed(made["subsample"]) is None
    assert lock.key(made["base@0"]) != lock.key(made["base@1"])
    assert lock.key(dict(reversed(made["base@0"].items()))) == lock.key(made["base@0"])


def test_what_dvc_tells_as_changed_is_params_inputs_or_code():
    deps = {"lt/losses/ce.py": "modified", "params.yaml": {"train": "modified"}, "data/digits.json": "modified", "artifacts/x": "deleted"}
    found = _changes([{"changed deps": deps}, {"changed outs": {"artifacts/y": "deleted"}}])
    assert (found.params, found.inputs, found.code) == (["train"], ["data/digits.json"], ["lt/losses/ce.py"])
    assert _changes(["changed command"]).inputs == ["its command"]


def test_a_time_that_nobody_knows_is_told():
    table = {"table": "t", "command": "c", "band": "b", "recipes": {"a": {
        "summary": "s", "source": {"paper": "p", "repository": None}, "rows": {}, "protocol": "", "differs": [], "how": {},
        "versions": {"torch": ["2", "unknown"]}, "commits": ["unknown"], "seconds": {"base": {"--seed 0": 2.0, "--seed 1": None}},
    }}}  # fmt: skip
    text = markdown(table)
    assert "base 2.0 s (2, 1 of them unknown)" in text and "torch 2, unknown" in text and "commit unknown" in text


def test_a_table_is_a_recipe_or_what_recipes_begin_with():
    assert [recipe.name for recipe in names.members("cifar100_if100_plain", RECIPES)] == ["cifar100_if100_plain"]
    wanted = [name for name in RECIPES if name.startswith("cifar100_if100_")]
    assert len(wanted) > 5 and [recipe.name for recipe in names.members("cifar100_if100", RECIPES)] == wanted
    assert names.every(RECIPES)["cifar10_if200"] == [name for name in RECIPES if name.startswith("cifar10_if200_")]
    assert names.every(dict.fromkeys(["a_b_c", "a_b", "a_d", "e_f"])) == {
        "a": ["a_b_c", "a_b", "a_d"], "a_b_c": ["a_b_c"], "a_b": ["a_b"], "a_d": ["a_d"], "e_f": ["e_f"]
    }
    with pytest.raises(recipes.RecipeError, match="nearest: cifar100_if100_plain"):
        names.members("cifar100_if100_plian", RECIPES)
    assert names.with_budget("a", 1.0) == "a" and names.with_budget("a", 0.1) == "a_budget0.1"


def test_a_second_command_runs_nothing_and_a_new_seed_only_that_seed(desk, capfd):
    assert set(desk.table("tiny_a")) == {"subsample", *ONE_SEED, *EVALUATIONS}
    text = (desk.folder / "results/tables/tiny_a.md").read_text()
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("tiny_a: ")]
    assert {line.split()[1] for line in lines} == set(desk.made()) and all(line.endswith(" s") for line in lines)
    assert desk.table("tiny_a") == []
    assert (desk.folder / "results/tables/tiny_a.md").read_text() == text
    assert set(desk.table("tiny_a", "--seeds", "0", "1")) == {*(line.replace("0", "1") for line in ONE_SEED), *EVALUATIONS}
    assert [row["seeds"] for row in desk.rows().values()] == [[0, 1]] * 4
    (desk.folder / "checked").unlink()
    desk.edit("lt/page/plot.py")
    assert desk.table("tiny_a", "--seeds", "0", "1") == []
    assert not (desk.folder / "checked").exists()  # not even check


def test_the_table_stands_after_each_seed_and_a_failure_leaves_the_other_recipes(desk, capfd):
    (desk.folder / "fail").write_text("retrain crt --seed 1")
    with pytest.raises(EngineError, match="runs/tiny_a: retrain@crt-1 failed.*\nmend it, and give the same command again"):
        desk.table("tiny", "--seeds", "0", "1", "2", "--rows", "base", "crt", "ncm")
    told = capfd.readouterr().out
    assert "retrain@crt-1 failed; the last lines of runs/tiny_a/.log/repro.txt:" in told and "the raw data are missing" in told
    found = desk.json("tiny")["recipes"]
    rows = found["tiny_a"]["rows"]
    assert rows["crt"]["seeds"] == [0] and rows["base"]["status"] == rows["crt"]["status"] == "done"
    assert "crt rests on seeds [0]" in found["tiny_a"]["differs"]
    assert [row["seeds"] for row in found["tiny_b"]["rows"].values()] == [[0, 1, 2]] * 2
    (desk.folder / "fail").unlink()
    ran = desk.table("tiny_a", "--seeds", "0", "1", "2", "--rows", "base", "crt")
    # Base and features of every seed were done, here or for the other recipe.
    assert ran[0] == "retrain crt --seed 1" and [line for line in ran if not line.startswith("evaluate")] == [ran[0], "retrain crt --seed 2"]
    assert ran.index("evaluate crt") < ran.index("retrain crt --seed 2")
    assert [desk.rows()[row]["seeds"] for row in ("base", "crt")] == [[0, 1, 2]] * 2


def test_what_two_recipes_have_in_common_is_trained_once_and_known(desk):
    desk.table("tiny_a")
    assert set(desk.table("tiny_b", "--seeds", "0")) == {"retrain ncm --seed 0", "evaluate base", "evaluate ncm"}
    made, other = desk.made("tiny_a"), desk.made("tiny_b")
    assert all(lock.key(made[stage]) == lock.key(other[stage]) for stage in ("subsample", "base@0", "features@0"))
    found = desk.json("tiny_b")["recipes"]["tiny_b"]
    assert found["seconds"]["base"] == {"--seed 0": 1.5} and found["versions"]["device"] == ["abacus"]
    shutil.rmtree(desk.folder / ".dvc/cache/cost")
    desk.table("tiny_b", "--collect")
    found = desk.json("tiny_b")["recipes"]["tiny_b"]
    assert found["seconds"]["base"] == {"--seed 0": None} and found["versions"]["device"] == found["commits"] == ["unknown"]
    shutil.rmtree(desk.folder / "runs")
    assert set(desk.table("tiny_a")) == EVALUATIONS  # numbers are in no cache


def test_a_clone_takes_trainings_from_the_remote(base_only, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    relative = os.path.relpath(store, base_only.folder)
    dvc(base_only.folder, "remote", "add", "--quiet", "--local", "--default", "store", relative)
    base_only.table("tiny_a")
    dvc(base_only.folder / "runs/tiny_a", "push", "--quiet", "--run-cache")
    clone = Desk(tmp_path_factory.mktemp("clone"), base_only.monkeypatch)
    clone.recipe(yaml.safe_load((base_only.folder / "recipes/tiny.yaml").read_text()))
    dvc(clone.folder, "remote", "add", "--quiet", "--default", "store", str(store))
    assert set(clone.table("tiny_a")) == {"evaluate base", "evaluate crt"}
    assert clone.json()["recipes"]["tiny_a"]["seconds"]["base"] == {"--seed 0": None}


def test_a_stopped_command_continues_and_what_a_killed_one_left_keeps_the_workspace(base_only):
    desk = base_only
    (desk.folder / "hold").write_text("retrain crt --seed 0")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        stopped = desk.start("tiny_a")
        wait_for(desk.folder / "held")
        stage = int((desk.folder / "held").read_text())
        stopped.send_signal(number)
        assert stopped.wait(timeout=60)
        if number == signal.SIGKILL:
            with pytest.raises(EngineError, match="in use by another command, or by a DVC that it left"):
                desk.table("tiny_a")
            os.kill(stage, signal.SIGKILL)
            wait_until_free(Workspace("tiny_a", {}))
        else:
            told = (desk.folder / "told").read_text()
            assert "stopped; give the same command again" in told and "Traceback" not in told
            assert not Path(f"/proc/{stage}").exists()
        (desk.folder / "held").unlink()
    (desk.folder / "hold").unlink()
    assert desk.table("tiny_a")[0] == "retrain crt --seed 0"


def wait_for(path: Path) -> None:
    end = time.monotonic() + 120
    while not path.is_file():
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.05)


def wait_until_free(workspace: Workspace) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(EngineError), held(workspace.folder):
            return
        time.sleep(0.1)


def test_outputs_that_are_cut_short_or_gone_are_made_again_or_restored_where_they_are_needed(desk):
    desk.table("tiny_a")
    folder = desk.folder / "runs/tiny_a"
    shutil.rmtree(folder / "artifacts/features")
    (folder / "artifacts/base/0/weights").chmod(0o644)
    (folder / "artifacts/base/0/weights").unlink()
    (folder / "artifacts/base/0/weights").write_text("cut")
    assert desk.table("tiny_a") == [] and (folder / "artifacts/base/0/weights").read_text() == "base --seed 0"
    (folder / "results/details/pc.json").write_text("{")
    assert desk.table("tiny_a") == ["evaluate pc"]
    shutil.rmtree(desk.folder / ".dvc/cache/files")
    shutil.rmtree(folder / "artifacts/retrain/crt")
    # DVC takes an output that its cache does not have for one that has to be made.
    assert desk.table("tiny_a", "--rows", "crt") == ["subsample", "base --seed 0", "features --seed 0", "retrain crt --seed 0"]


def test_trainings_by_other_code_are_refused_kept_or_made_again(desk):
    desk.table("tiny_a", "--seeds", "0", "1")
    desk.edit("lt/methods/crt.py")
    with pytest.raises(EngineError, match=r"runs/tiny_a: retrain@crt-1 \(1.5 s\), changed since: lt/methods/crt.py\n"):
        desk.table("tiny_a", "--seeds", "0", "1")
    assert desk.ran() == []
    desk.table("tiny_a", "--collect")
    assert desk.rows()["crt"]["other_code"] == ["retrain@crt-0", "retrain@crt-1"] and desk.rows()["crt"]["status"] == "done"
    assert desk.table("tiny_a", "--seeds", "0", "1", "--stale", "keep") == []
    for _ in range(2):
        rows = desk.rows()
        assert rows["crt"]["other_code"] == ["retrain@crt-0", "retrain@crt-1"] and rows["base"]["other_code"] == []
        assert "retrain@crt-1 was made by other code" in (desk.folder / "results/tables/tiny_a.md").read_text()
        assert desk.json()["recipes"]["tiny_a"]["seconds"]["retrain"]["crt --seed 0"] == 1.5
        assert desk.table("tiny_a", "--seeds", "0", "1") == []  # once kept, always kept
    ran = desk.table("tiny_a", "--seeds", "0", "1", "--stale", "again")
    assert set(ran) == {"retrain crt --seed 0", "retrain crt --seed 1", "evaluate crt"}
    assert desk.rows()["crt"]["other_code"] == []
    (desk.folder / "lt/methods/ncm.py").write_text("# no row is made by it\n")
    assert desk.table("tiny_a", "--seeds", "0", "1") == []


def test_what_is_made_again_reaches_others_only_where_it_comes_out_differently(desk):
    desk.table("tiny_a")
    desk.edit("lt/losses/ce.py")  # which subsample and features do not use
    ran = desk.table("tiny_a", "--stale", "again")
    assert set(ran) - EVALUATIONS == {"base --seed 0", "retrain pc --seed 0", "retrain crt --seed 0", "distill pc --seed 0"}
    desk.edit("lt/losses/ce.py")
    (desk.folder / "salt").write_text("other weights")
    assert set(desk.table("tiny_a", "--stale", "again")) == {*ONE_SEED, *EVALUATIONS}


def test_a_kill_in_the_middle_of_making_anew_leaves_no_number_beside_other_models(base_only):
    desk = base_only
    desk.table("tiny_a")
    before = desk.json()
    desk.edit("lt/losses/ce.py")
    (desk.folder / "salt").write_text("other weights")
    (desk.folder / "fail").write_text("retrain crt --seed 0")
    with pytest.raises(EngineError, match="retrain@crt-0 failed"):
        desk.table("tiny_a", "--stale", "again")
    with pytest.raises(artifacts.ArtifactError, match="no row of tiny_a is done in runs/"):
        desk.table("tiny_a", "--collect")
    assert desk.json() == before and not list(desk.folder.glob("runs/tiny_a/results/details/*"))


def test_an_edit_of_shared_code_reaches_the_trainings_that_use_it_and_an_edit_during_a_run_none(desk):
    desk.table("tiny_a", "--rows", "base")
    desk.edit("lt/training/engine.py")
    with pytest.raises(EngineError, match="base@0.*changed since: lt/training"):
        desk.table("tiny_a", "--rows", "base")
    assert desk.ran() == []
    assert desk.table("tiny_a", "--rows", "base", "--stale", "again") == ["base --seed 0", "evaluate base"]
    editing = (desk.folder / "stages/base.py").read_text() + "\n(project / 'lt/training/engine.py').write_text('# edited meanwhile')\n"
    (desk.folder / "stages/base.py").write_text(editing)
    desk.edit("lt/losses/ce.py")
    desk.table("tiny_b", "--rows", "base")
    assert "edited meanwhile" in (desk.folder / "lt/training/engine.py").read_text()
    assert "edited meanwhile" not in (desk.folder / "runs/tiny_b/lt/training/engine.py").read_text()


def test_other_options_of_a_row_are_asked_about_and_a_new_row_reuses_the_base(desk):
    desk.table("tiny_a")
    methods = {"pc": {}, "crt": {"steps": 30}, "ncm": {}}
    desk.recipe(TINY | {"overrides": TINY["overrides"] | {"methods": methods}})
    desk.table("tiny_a", "--collect")
    assert {row: content["status"] for row, content in desk.rows().items()} == {
        "base": "done", "pc": "done", "crt": "out of date", "ncm": "not run", "xerm_pc": "done"
    }
    with pytest.raises(EngineError, match="retrain@crt-0.*changed since: methods.crt"):
        desk.table("tiny_a")
    # Only code can be kept: a row of other options would not be this recipe's.
    ran = desk.table("tiny_a", "--stale", "keep")
    assert set(ran) == {"retrain crt --seed 0", "retrain ncm --seed 0", "evaluate crt", "evaluate ncm"}
    assert {content["status"] for content in desk.rows().values()} == {"done"}


def test_other_settings_of_the_base_are_asked_about_and_going_back_trains_nothing(desk):
    desk.table("tiny_a", "--rows", "base")
    path = desk.folder / "params.yaml"
    path.write_text(path.read_text().replace("precision: float32", "precision: tf32"))
    with pytest.raises(EngineError, match="base@0.*changed since: train"):
        desk.table("tiny_a", "--rows", "base")
    assert desk.table("tiny_a", "--rows", "base", "--stale", "again") == ["base --seed 0", "evaluate base"]
    path.write_text(path.read_text().replace("precision: tf32", "precision: float32"))
    assert desk.table("tiny_a", "--rows", "base", "--stale", "again") == ["evaluate base"]


def test_collecting_runs_nothing_and_tells_what_is_missing(desk):
    assert desk.table("tiny", "--collect") == [] and not (desk.folder / "runs").exists()
    assert {row["status"] for recipe in desk.json("tiny")["recipes"].values() for row in recipe["rows"].values()} == {"not run"}
    (desk.folder / "runs/tiny_a-0123abcd/.stages").mkdir(parents=True)  # of an earlier form of this command
    desk.table("tiny_a", "--seeds", "4", "5", "--rows", "base")
    desk.table("tiny", "--collect")
    found = desk.json("tiny")
    assert found["seeds"] == [4, 5] and found["command"] == "python -m stages.table tiny --seeds 4 5"
    assert [row["status"] for row in found["recipes"]["tiny_a"]["rows"].values()] == ["done", "not run", "not run", "not run"]
    text = (desk.folder / "results/tables/tiny.md").read_text()
    assert text.count("not run") == 5 and text.index("## tiny_a") < text.index("## tiny_b")
    shutil.rmtree(desk.folder / "runs")
    with pytest.raises(ValueError, match="no row of tiny is done"):
        desk.table("tiny", "--collect")
    assert (desk.folder / "results/tables/tiny.md").read_text() == text


def test_the_table_holds_the_numbers_of_the_run_folder_beside_the_published_ones(desk):
    desk.table("tiny_a", "--seeds", "0", "1")
    details = json.loads((desk.folder / "runs/tiny_a/results/details/base.json").read_text())
    base = desk.rows()["base"]
    for kind in ("mean", "sd"):
        assert {name: value for name, value in base[kind].items() if name in details[kind]} == details[kind]
    assert base["published"] == {"balanced": 0.41, "few": 0.1} and base["source"] == "a book"
    assert base["difference"] == {"balanced": 0.01, "few": 0.15} and base["verdict"] == {"balanced": "inside", "few": "above"}
    assert desk.rows()["pc"]["verdict"] == {"balanced": "below"} and desk.rows()["crt"]["verdict"] == {}
    (also,) = desk.rows()["pc"]["also"]
    assert also["published"] == {"balanced": 0.425, "few": 0.25} and also["source"] == "a letter"
    assert also["verdict"] == {"balanced": "inside", "few": "inside"} and desk.rows()["base"]["also"] == []
    recipe = desk.json()["recipes"]["tiny_a"]
    assert recipe["differs"] == ["digits are no photographs", "mean over 2 seeds: 0 1"] and recipe["commits"] == ["unknown"]
    assert list(recipe["seconds"]["base"]) == ["--seed 0", "--seed 1"] and set(recipe["seconds"]["evaluate"]) == set(ROWS)
    lines = (desk.folder / "results/tables/tiny_a.md").read_text().splitlines()
    (shown,) = [line for line in lines if line.startswith("| base ") and "few |" not in line and "| few" not in line]
    cells = [cell.strip() for cell in shown.strip("|").split("|")]
    assert cells[:7] == ["base", "2", "1", "42.0 ± 2.0", "41.0", "+1.0", "inside"]
    assert cells[7:] == ["60.0 ± 2.0", "50.0 ± 2.0", "-", "25.0 ± 2.0", "1.500 ± 0.020", "10.0 ± 2.0"]
    assert "Published: base: a book; pc: a leaflet; pc [2]: a letter." in lines
    (second,) = [line for line in lines if line.startswith("| pc [2] | balanced")]
    assert [cell.strip() for cell in second.strip("|").split("|")][3:] == ["42.5", "-0.5", "inside"]


def test_nothing_of_the_machine_is_in_the_table(desk):
    desk.table("tiny_a", "--rows", "base")
    for path in (desk.folder / "results/tables").iterdir():
        text = path.read_text()
        assert str(desk.folder) not in text and str(ROOT) not in text and socket.gethostname() not in text


def test_a_reduced_budget_has_a_name_of_its_own_and_no_verdict(desk):
    desk.table("tiny_a", "--budget", "0.5", "--rows", "base")
    assert not (desk.folder / "results/tables/tiny_a.json").exists()
    found = desk.json("tiny_a_budget0.5")
    base = found["recipes"]["tiny_a"]["rows"]["base"]
    assert base["budget"] == 0.5 and base["verdict"] == {} and base["difference"] == {"balanced": 0.0, "few": 0.15}
    assert "a budget of 0.5: train.epochs: 2 -> 1, distill.epochs: 2 -> 1" in found["recipes"]["tiny_a"]["differs"]
    assert found["command"] == "python -m stages.table tiny_a --seeds 0 --budget 0.5 --rows base"
    assert "reduced budget" in (desk.folder / "results/tables/tiny_a_budget0.5.md").read_text()
    # The data are drawn once for both.
    assert desk.table("tiny_a", "--rows", "base") == ["base --seed 0", "evaluate base"]


def test_mistakes_are_told_before_anything_runs(desk):
    for arguments, told in (
        (["tiny_c"], "nearest: tiny"),
        (["tiny_a", "--budget", "0"], "budget: got 0"),
        (["tiny_a", "--seeds", "0", "0"], "expected different"),
        (["tiny_a", "--seeds", "-1"], "0 or above"),
        (["tiny_a", "--seeds", "4294967296"], "below 4294967296"),
        (["tiny_a", "--rows", "bse"], "nearest: 'base'"),
    ):
        with pytest.raises(ValueError, match=told):
            desk.table(*arguments)
    assert not (desk.folder / "runs").exists() and not (desk.folder / "results").exists()


def test_a_stages_own_message_is_passed_on_and_a_project_without_dvc_is_told(desk):
    (desk.folder / "fail").write_text("subsample")
    failed = desk.start("tiny_a")
    assert failed.wait(timeout=120) == 1 and not (desk.folder / "results").exists()
    told = (desk.folder / "told").read_text()
    assert "the raw data are missing" in told and "subsample failed" in told and "Traceback" not in told
    shutil.rmtree(desk.folder / ".dvc")
    with pytest.raises(EngineError, match="`dvc init` makes one"):
        desk.table("tiny_a")


def test_the_list_names_every_table(desk, capsys):
    desk.table("--list")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["tiny", "_a", "_b"], ["tiny_a", "one", "recipe"], ["tiny_b", "one", "recipe"]]


def test_real_stages_run_in_workspaces_and_go_on_from_the_state_of_a_stopped_run(desk, capfd):
    shutil.rmtree(desk.folder / "stages")
    shutil.copytree(ROOT / "stages", desk.folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "data/digits.json", desk.folder / "data/digits.json")
    desk.recipe(TINY | {"overrides": TINY["overrides"] | {"train": {"epochs": 40, "warmup_epochs": 0, "schedule": "step"}}})
    desk.monkeypatch.setenv("OMP_NUM_THREADS", "1")
    desk.monkeypatch.setenv("DVC_ROOT", str(desk.folder / "elsewhere"))  # of another project, which must not matter
    desk.monkeypatch.setenv("LT_SAVE_EVERY_S", "0")
    stopped = desk.start("tiny_a", "--rows", "base")
    states = desk.folder / "runs/tiny_a/.resume"
    end = time.monotonic() + 120
    while not list(states.glob("*.pt")):
        assert stopped.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    stopped.terminate()
    assert stopped.wait(timeout=60) and list(states.glob("*.pt"))
    desk.table("tiny", "--rows", "base")
    assert not list(states.glob("*.pt"))
    told = capfd.readouterr().out
    assert "tiny_a: base@0 " in told and "tiny_b: base@0 restored" in told
    made = {path.name for path in desk.folder.iterdir()} - {"data", "dvc.yaml", "lt", "params.yaml", "recipes", "stages", "told"}
    assert made == {"results", "runs", ".dvc", ".dvcignore"} and [path.name for path in (desk.folder / "results").iterdir()] == ["tables"]
    base = json.loads((desk.folder / "runs/tiny_a/results/details/base.json").read_text())
    recipe = desk.json("tiny")["recipes"]["tiny_a"]
    rows = recipe["rows"]
    assert rows["base"]["mean"]["balanced"] == base["mean"]["balanced"] and set(base["seeds"]) == {"0"}
    assert rows["base"]["status"] == "done" and rows["crt"]["status"] == "not run"
    assert recipe["versions"]["device"] == ["cpu"] and recipe["versions"]["torch"] and recipe["seconds"]["base"]["--seed 0"] > 0
    assert desk.json("tiny")["recipes"]["tiny_b"]["seconds"]["base"] == recipe["seconds"]["base"]
    desk.monkeypatch.setattr("lt.published.workspace.repro", None)
    assert desk.table("tiny", "--collect") == []
