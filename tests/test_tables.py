"""Tables beside the papers: budgets, verdicts, and runs that continue, refuse what is out of date, and are told as they are."""

import contextlib
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lt import params, recipes
from lt.published import names
from lt.published.budget import BudgetError, changes, scale
from lt.published.gather import verdict
from lt.tables.graph import needed, stages_of
from lt.tables.runs import Run
from lt.tables.working import RunError, locked
from tests.conftest import ROOT

RECIPES = recipes.read_all(ROOT / "recipes")
SHIPPED = params.read_yaml(ROOT / "params.yaml")
GRAPH = params.read_yaml(ROOT / "dvc.yaml")["stages"]
TEACHER = {"gamma": 1.5, "eps": 1e-5, "temperature": 1.0, "weights": "xerm", "student": "warm", "student_loss": "ce"}
TINY = {
    "summary": "two epochs of the digits",
    "source": {"paper": "none", "table": "none"},
    "protocol": "Two epochs.",
    "differs": ["digits are no photographs"],
    "overrides": {
        "dataset": "digits", "imbalance": 50, "model": "resnet8", "loss": "ce", "features": {"views": 2},
        "train": {"epochs": 2, "warmup_epochs": 0, "schedule": "step"},
        "distill": {"epochs": 2, "warmup_epochs": 0, "schedule": "step"},
        "methods": {"pc": {}, "crt": {"steps": 20}}, "teachers": {"pc": TEACHER}, "report.row": "base",
    },
    "recipes": {
        "tiny_a": {"published": {
            "base": {"balanced": 0.41, "few": 0.1, "source": "a book"}, "pc": {"balanced": 0.6, "source": "a leaflet"},
        }},
        "tiny_b": {"overrides": {"imbalance": 10}},
    },
}  # fmt: skip
ROWS = ["base", "pc", "crt", "xerm_pc"]
ONE_SEED = ["base --seed 0", "features --seed 0", "retrain pc --seed 0", "retrain crt --seed 0", "distill pc --seed 0"]
EVALUATIONS = [f"evaluate {row}" for row in ROWS]

# Stands in for every stage: notes that it ran, fails or waits where it is told to, and writes what its stage would.
STAND_IN = '''
import json, os, sys, time
from pathlib import Path
command = " ".join([Path(__file__).stem, *sys.argv[1:]])
here, project = Path.cwd(), Path.cwd().parent.parent
if command != "code":
    with open(project / "ran", "a") as file:
        file.write(command + "\\n")
if (project / "fail").is_file() and (project / "fail").read_text() == command:
    sys.exit("error: the raw data are missing")
if (project / "hold").is_file() and (project / "hold").read_text() == command:
    (project / "part").write_text(str(os.getpid()))
    (project / "part").rename(project / "held")
    time.sleep(60)
def write(path, text):
    (here / path).parent.mkdir(parents=True, exist_ok=True)
    (here / path).write_text(text)
stage, *arguments = command.replace("--seed ", "").split()
if stage == "code":
    import hashlib
    for name in ("subsample", "base", "features", "retrain", "distill", "evaluate"):
        write(f"artifacts/code/{name}", hashlib.sha256(Path("lt/engine.py").read_bytes()).hexdigest() + "  lt/engine.py\\n")
elif stage == "check":
    write("artifacts/check", "fine")
elif stage == "evaluate":
    lines = (here / "params.yaml").read_text().partition("seeds:\\n")[2].splitlines()
    seeds = [int(line[2:]) for line in lines[: next(i for i, line in enumerate(lines) if line[0] != "-")]]
    mean = {"balanced": 0.4 + 0.01 * len(seeds), "many": 0.5, "medium": None, "few": 0.25, "nll": 1.5, "ece": 0.1}
    sd = {name: 0.02 if value and len(seeds) > 1 else None for name, value in mean.items()}
    content = {"context": {"seeds": " ".join(map(str, seeds))}, "mean": mean, "sd": sd, "seeds": {str(s): {} for s in seeds}}
    for kind in ("details", "methods"):
        write(f"results/{kind}/{arguments[0]}.json", json.dumps(content))
else:
    salt = (project / "salt").read_text() if (project / "salt").is_file() else ""
    write("/".join(["artifacts", "data" if stage == "subsample" else stage, *arguments, "weights"]), command + salt)
'''


class Desk:
    """A project whose stages are stand-ins; the command itself is real."""

    def __init__(self, folder: Path, monkeypatch):
        self.folder, self.monkeypatch = folder, monkeypatch
        for name in ("params.yaml", "dvc.yaml"):
            shutil.copy(ROOT / name, folder / name)
        shutil.copytree(ROOT / "lt", folder / "lt", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("stages", "recipes", "data"):
            (folder / name).mkdir()
        for name in ("code", "check", "subsample", "base", "features", "retrain", "distill", "evaluate"):
            (folder / "stages" / f"{name}.py").write_text(STAND_IN)
        (folder / "data" / "digits.json").write_text("{}")
        self.recipe(TINY)
        monkeypatch.chdir(folder)

    def recipe(self, content: dict) -> None:
        (self.folder / "recipes" / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def table(self, *arguments: str) -> list[str]:
        """Runs the command; returns the stages that it ran, but for check, which takes no time."""
        ran = self.folder / "ran"
        ran.unlink(missing_ok=True)
        self.monkeypatch.setattr(sys, "argv", ["table", *arguments])
        importlib.import_module("stages.table").main()
        return self.ran()

    def ran(self) -> list[str]:
        path = self.folder / "ran"
        return [line for line in path.read_text().splitlines() if line != "check"] if path.is_file() else []

    def start(self, *arguments: str) -> subprocess.Popen:
        """The command as a process of its own, to be killed; what it says on stderr is in the file told."""
        path = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
        code = f"{path}; from lt.command import run; from stages import table; run(table.main)"
        command = [sys.executable, "-c", code, *arguments]
        with open(self.folder / "told", "w") as told:
            return subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=told)

    def json(self, name: str = "tiny_a") -> dict:
        return json.loads((self.folder / f"results/tables/{name}.json").read_text())

    def rows(self) -> dict:
        return self.json()["recipes"]["tiny_a"]["rows"]

    def run_folder(self, beginning: str = "tiny_a-") -> Path:
        (found,) = self.folder.glob(f"runs/{beginning}*")
        return found


@pytest.fixture
def desk(tmp_path, monkeypatch):
    return Desk(tmp_path, monkeypatch)


def tiny(folder: Path, name: str = "tiny_a") -> dict:
    """Params of a recipe of TINY."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    return recipes.expand(recipes.find(name, folder), SHIPPED)


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
        "train.epochs: 200 -> 20", "train.warmup_epochs: 5 -> 1", "train.milestones: [160, 180] -> [16, 18]",
        "methods.dro_lt.epochs: 80 -> 8",
        "distill.epochs: 200 -> 20", "distill.warmup_epochs: 5 -> 1", "distill.milestones: [160, 180] -> [16, 18]",
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
        params.load(path)


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


def test_the_stages_are_those_that_dvc_makes_of_the_graph():
    from dvc.repo import Repo

    def inside(paths):
        return {Path(path.fs_path).relative_to(ROOT).as_posix() for path in paths}

    stages = stages_of(SHIPPED, GRAPH)
    ours = {f"python -m stages.{' '.join(stage.command)}": (set(stage.deps), set(stage.outs)) for stage in stages}
    with Repo(str(ROOT)) as repo:
        # A dependency on a key of params.yaml is an entry of its own.
        theirs = {
            stage.cmd: (inside(dep for dep in stage.deps if not getattr(dep, "params", None)), inside(stage.outs))
            for stage in repo.index.stages
        }
    for left_out in ("code", "report"):
        del theirs[f"python -m stages.{left_out}"]
    for command in theirs:
        if command == "python -m stages.check":
            continue  # it depends on all of params.yaml, in one way or the other
        assert ours[command] == (theirs[command][0] - {"params.yaml"}, theirs[command][1]), command
    assert ours.keys() == theirs.keys()


def test_only_what_a_row_needs_is_run():
    stages = stages_of(SHIPPED | {"seeds": [0, 1]}, GRAPH)
    commands = {row: [" ".join(stage.command) for stage in needed(stages, [row])] for row in ("base", "xerm_pc")}
    assert commands["base"] == ["check", "subsample", "base --seed 0", "base --seed 1", "evaluate base"]
    assert {"features --seed 1", "retrain pc --seed 1", "distill pc --seed 1"} < set(commands["xerm_pc"])
    assert not any("balms" in command or command == "evaluate base" for command in commands["xerm_pc"])


def test_the_folder_depends_on_the_base_model_and_not_on_seeds_or_rows(tmp_path):
    content = tiny(tmp_path)
    folder = Run("tiny_a", content, GRAPH).folder
    losses = content["losses"] | {"mine": {}}
    for change in ({"seeds": [3, 4]}, {"methods": {"ncm": {}}}, {"report": {"row": "pc"}}, {"losses": losses}):
        assert Run("tiny_a", content | change, GRAPH).folder == folder
    other = [{"train": content["train"] | {"precision": "bf16"}}, {"imbalance": 10}, {"sampler": "square_root"}]
    assert len({folder} | {Run("tiny_a", content | change, GRAPH).folder for change in other}) == 4


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
    assert desk.table("tiny_a") == ["subsample", *ONE_SEED, *EVALUATIONS]
    text = (desk.folder / "results/tables/tiny_a.md").read_text()
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("tiny_a [")]
    assert len(lines) == 11 and all(line.endswith(" s") for line in lines)
    assert desk.table("tiny_a") == []
    assert (desk.folder / "results/tables/tiny_a.md").read_text() == text
    assert desk.table("tiny_a", "--seeds", "0", "1") == [*(line.replace("0", "1") for line in ONE_SEED), *EVALUATIONS]
    assert [row["seeds"] for row in desk.rows().values()] == [[0, 1]] * 4
    desk.table("tiny_a", "--seeds", "0", "1")
    assert not (desk.folder / "ran").exists()  # not even check


def test_the_table_stands_after_each_seed(desk):
    (desk.folder / "fail").write_text("retrain pc --seed 1")
    with pytest.raises(RunError, match="retrain pc --seed 1 failed"):
        desk.table("tiny_a", "--seeds", "0", "1", "2")
    assert [row["seeds"] for row in desk.rows().values()] == [[0]] * 4
    assert "base rests on seeds [0]" in desk.json()["recipes"]["tiny_a"]["differs"]
    (desk.folder / "fail").unlink()
    second, third = ([line.replace("0", seed) for line in ONE_SEED] for seed in "12")
    ran = desk.table("tiny_a", "--seeds", "0", "1", "2")
    assert ran == [*second[2:], *EVALUATIONS, *third, *EVALUATIONS]  # base and features of seed 1 were done


def test_a_killed_command_continues_and_a_stage_that_it_left_keeps_the_folder(desk):
    (desk.folder / "hold").write_text("retrain crt --seed 0")
    for number, told in ((signal.SIGTERM, "give the same command again"), (signal.SIGKILL, "")):
        killed = desk.start("tiny_a")
        wait_for(desk.folder / "held")
        killed.send_signal(number)
        assert killed.wait(timeout=30) and told in (desk.folder / "told").read_text()
        if number == signal.SIGKILL:
            with pytest.raises(RunError, match="in use by another command, or by a stage"):
                desk.table("tiny_a")
            end_stage(desk.run_folder(), int((desk.folder / "held").read_text()))
        (desk.folder / "held").unlink()
    (desk.folder / "hold").unlink()
    assert desk.table("tiny_a") == ["retrain crt --seed 0", "distill pc --seed 0", *EVALUATIONS]


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.is_file():
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.05)


def end_stage(folder: Path, pid: int) -> None:
    """Ends a stage that outlived its command, and waits until it has let go of the folder."""
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(RunError), locked(folder):
            return
        time.sleep(0.05)


def test_outputs_that_are_cut_short_or_gone_are_made_again_where_they_are_needed(desk):
    desk.table("tiny_a")
    folder = desk.run_folder()
    shutil.rmtree(folder / "artifacts/features")  # large, and nothing that is to be made needs it
    assert desk.table("tiny_a") == []
    (folder / "results/details/pc.json").write_text("{")
    assert desk.table("tiny_a") == ["evaluate pc"]
    (folder / "results/details/crt.json").unlink()
    (folder / "artifacts/retrain/crt/0/weights").write_text("o")
    assert desk.table("tiny_a") == ["features --seed 0", "retrain crt --seed 0", "evaluate crt"]


def test_trainings_by_other_code_are_refused_kept_or_made_again(desk):
    desk.table("tiny_a", "--seeds", "0", "1")
    path = desk.folder / "lt/methods/crt.py"
    path.write_text(path.read_text() + "\n# edited\n")
    with pytest.raises(RunError, match=r"retrain crt --seed 1 \(.*\), changed since: lt/methods/crt.py\n"):
        desk.table("tiny_a", "--seeds", "0", "1")
    assert desk.ran() == []
    assert desk.table("tiny_a", "--seeds", "0", "1", "--stale", "keep") == []
    rows = desk.rows()
    assert rows["crt"]["other_code"] == ["retrain_crt_seed_0", "retrain_crt_seed_1"] and rows["base"]["other_code"] == []
    assert "retrain_crt_seed_1 was made by other code" in (desk.folder / "results/tables/tiny_a.md").read_text()
    assert desk.table("tiny_a", "--seeds", "0", "1", "--stale", "again") == ["retrain crt --seed 0", "retrain crt --seed 1"]
    assert desk.rows()["crt"]["other_code"] == []
    path.with_name("ncm.py").write_text("# no row is made by it\n")
    assert desk.table("tiny_a", "--seeds", "0", "1") == []


def test_what_is_made_again_reaches_others_only_where_it_comes_out_differently(desk):
    desk.table("tiny_a")
    path = desk.folder / "lt/losses/ce.py"  # of base and distill alone
    path.write_text(path.read_text() + "\n# edited\n")
    assert desk.table("tiny_a", "--stale", "again") == ["base --seed 0", "distill pc --seed 0"]
    path.write_text(path.read_text() + "\n# edited\n")
    (desk.folder / "salt").write_text("other weights")
    assert desk.table("tiny_a", "--stale", "again") == [*ONE_SEED, *EVALUATIONS]


def test_an_edit_of_shared_code_reaches_every_training_and_an_edit_during_a_run_none(desk):
    desk.table("tiny_a", "--rows", "base")
    path = desk.folder / "lt/engine.py"
    path.write_text(path.read_text() + "\n# edited\n")
    with pytest.raises(RunError, match="subsample.*changed since: lt/engine.py"):
        desk.table("tiny_a", "--rows", "base")
    assert desk.table("tiny_a", "--rows", "base", "--stale", "again") == ["subsample", "base --seed 0", "evaluate base"]
    editing = (desk.folder / "stages/base.py").read_text() + "\n(project / 'lt/engine.py').write_text('# edited meanwhile')\n"
    (desk.folder / "stages/base.py").write_text(editing)
    assert desk.table("tiny_b", "--rows", "base") == ["subsample", "base --seed 0", "evaluate base"]
    notes = {path.stem: json.loads(path.read_text())["code"] for path in desk.run_folder("tiny_b-").glob(".stages/*.json")}
    assert notes["evaluate_base"]["lt/engine.py"] == notes["subsample"]["lt/engine.py"]
    assert "edited meanwhile" in (desk.folder / "lt/engine.py").read_text()


def test_other_options_of_a_row_are_asked_about_and_a_new_row_reuses_the_base(desk):
    desk.table("tiny_a")
    methods = {"pc": {}, "crt": {"steps": 30}, "ncm": {}}
    desk.recipe(TINY | {"overrides": TINY["overrides"] | {"methods": methods}})
    with pytest.raises(RunError, match="retrain crt --seed 0.*changed since: methods.crt"):
        desk.table("tiny_a")
    desk.table("tiny_a", "--collect")
    assert {row: content["status"] for row, content in desk.rows().items()} == {
        "base": "done", "pc": "done", "crt": "out of date", "ncm": "not run", "xerm_pc": "done"
    }
    # Only code can be kept: a row of other options would not be this recipe's.
    ran = desk.table("tiny_a", "--stale", "keep")
    assert ran == ["retrain crt --seed 0", "retrain ncm --seed 0", "evaluate ncm"]
    assert {content["status"] for content in desk.rows().values()} == {"done"}


def test_other_settings_of_the_base_have_a_folder_of_their_own_and_are_told(desk, capfd):
    desk.table("tiny_a", "--rows", "base")
    old = desk.run_folder()
    path = desk.folder / "params.yaml"
    path.write_text(path.read_text().replace("precision: float32", "precision: tf32"))
    capfd.readouterr()
    assert desk.table("tiny_a", "--rows", "base") == ["subsample", "base --seed 0", "evaluate base"]
    assert f"is new: runs/{old.name} has another train," in capfd.readouterr().out
    assert len(list(desk.folder.glob("runs/tiny_a-*"))) == 2
    path.write_text(path.read_text().replace("precision: tf32", "precision: float32"))
    assert desk.table("tiny_a", "--rows", "base") == []


def test_collecting_runs_nothing_and_tells_what_is_missing(desk):
    assert desk.table("tiny", "--collect") == [] and not (desk.folder / "runs").exists()
    assert {row["status"] for recipe in desk.json("tiny")["recipes"].values() for row in recipe["rows"].values()} == {"not run"}
    desk.table("tiny_a", "--seeds", "4", "5", "--rows", "base")
    desk.table("tiny", "--collect")
    found = desk.json("tiny")
    assert found["seeds"] == [4, 5] and found["command"] == "python -m stages.table tiny --seeds 4 5"
    assert [row["status"] for row in found["recipes"]["tiny_a"]["rows"].values()] == ["done", "not run", "not run", "not run"]
    text = (desk.folder / "results/tables/tiny.md").read_text()
    assert text.count("not run") == 7 and text.index("## tiny_a") < text.index("## tiny_b")
    shutil.rmtree(desk.folder / "runs")
    with pytest.raises(ValueError, match="no row of tiny is done"):
        desk.table("tiny", "--collect")
    assert (desk.folder / "results/tables/tiny.md").read_text() == text


def test_the_table_holds_the_numbers_of_the_run_folder_beside_the_published_ones(desk):
    desk.table("tiny_a", "--seeds", "0", "1")
    details = json.loads((desk.run_folder() / "results/details/base.json").read_text())
    base = desk.rows()["base"]
    for kind in ("mean", "sd"):
        assert {name: value for name, value in base[kind].items() if name in details[kind]} == details[kind]
    assert base["published"] == {"balanced": 0.41, "few": 0.1} and base["source"] == "a book"
    assert base["difference"] == {"balanced": 0.01, "few": 0.15} and base["verdict"] == {"balanced": "inside", "few": "above"}
    assert desk.rows()["pc"]["verdict"] == {"balanced": "below"} and desk.rows()["crt"]["verdict"] == {}
    recipe = desk.json()["recipes"]["tiny_a"]
    assert recipe["differs"] == ["digits are no photographs", "mean over 2 seeds: 0 1"] and recipe["commits"] == ["unknown"]
    assert list(recipe["seconds"]["base"]) == ["--seed 0", "--seed 1"] and set(recipe["seconds"]["evaluate"]) == set(ROWS)
    lines = (desk.folder / "results/tables/tiny_a.md").read_text().splitlines()
    (shown,) = [line for line in lines if line.startswith("| base ") and "few |" not in line and "| few" not in line]
    cells = [cell.strip() for cell in shown.strip("|").split("|")]
    assert cells[:7] == ["base", "2", "1", "42.0 ± 2.0", "41.0", "+1.0", "inside"]
    assert cells[7:] == ["50.0 ± 2.0", "-", "25.0 ± 2.0", "1.500 ± 0.020", "10.0 ± 2.0"]


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
    assert desk.table("tiny_a", "--rows", "base") == ["subsample", "base --seed 0", "evaluate base"]  # nothing is shared


def test_mistakes_are_told_before_anything_runs(desk):
    for arguments, told in (
        (["tiny_c"], "nearest: tiny"),
        (["tiny_a", "--budget", "0"], "budget: got 0"),
        (["tiny_a", "--seeds", "0", "0"], "expected different"),
        (["tiny_a", "--seeds", "-1"], "0 or above"),
        (["tiny_a", "--rows", "bse"], "nearest: 'base'"),
    ):
        with pytest.raises(ValueError, match=told):
            desk.table(*arguments)
    assert not (desk.folder / "runs").exists() and not (desk.folder / "results").exists()


def test_a_stages_own_message_is_passed_on(desk):
    (desk.folder / "fail").write_text("subsample")
    failed = desk.start("tiny_a")
    assert failed.wait(timeout=60) == 1 and not (desk.folder / "results").exists()
    told = (desk.folder / "told").read_text()
    assert "the raw data are missing" in told and "subsample failed, see above" in told and "Traceback" not in told


def test_the_list_names_every_table(desk, capsys):
    desk.table("--list")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["tiny", "_a", "_b"], ["tiny_a", "one", "recipe"], ["tiny_b", "one", "recipe"]]


def test_real_stages_run_in_a_folder_of_their_own(desk):
    shutil.rmtree(desk.folder / "stages")
    shutil.copytree(ROOT / "stages", desk.folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "data/digits.json", desk.folder / "data/digits.json")
    desk.monkeypatch.setenv("OMP_NUM_THREADS", "1")
    desk.monkeypatch.setenv("DVC_ROOT", str(desk.folder / "elsewhere"))  # of another project, which must not matter
    desk.monkeypatch.setenv("LT_SAVE_EVERY_S", "0")
    desk.table("tiny_a", "--rows", "base")
    made = {path.name for path in desk.folder.iterdir()} - {"data", "dvc.yaml", "lt", "params.yaml", "recipes", "stages"}
    assert made == {"results", "runs"} and [path.name for path in (desk.folder / "results").iterdir()] == ["tables"]
    base = json.loads((desk.run_folder() / "results/details/base.json").read_text())
    rows = desk.rows()
    assert rows["base"]["mean"]["balanced"] == base["mean"]["balanced"] and set(base["seeds"]) == {"0"}
    assert rows["base"]["status"] == "done" and rows["crt"]["status"] == "not run"
    recipe = desk.json()["recipes"]["tiny_a"]
    assert recipe["versions"]["device"] == ["cpu"] and recipe["versions"]["torch"] and recipe["seconds"]["base"]["--seed 0"] > 0
    desk.monkeypatch.setattr(subprocess, "Popen", None)
    assert desk.table("tiny_a", "--collect") == []
