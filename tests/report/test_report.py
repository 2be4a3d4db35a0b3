"""The stages that turn test logits into files and a table: evaluate, report, compare."""

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lt.core import artifacts, params
from lt.core.context import made_of
from lt.core.counts import prior
from lt.core.params import PATH, Settings, read_yaml
from lt.core.subset import Subset, index_sha256, write_subset
from lt.evaluate.headline import HEADLINE
from lt.report.table import TableError, check_same, context_of, markdown
from stages import compare, evaluate, report

ROWS = ["base", "crt", "xerm_pc"]
COUNTS = np.array([300, 150, 40, 6])
CONTEXT = [
    "augment", "data", "dataset", "head", "imbalance", "loss", "mix", "model", "sampler", "seeds", "subset", "weighting",
]  # fmt: skip


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with a subset and test logits of three rows and three seeds; stages run in it with `run`."""
    content = read_yaml(PATH)
    content |= {"seeds": [0, 1, 2], "methods": {"crt": {}}, "report": {"row": "crt"}}
    content["teachers"] = {"pc": next(iter(content["teachers"].values()))}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LT_VERIFY", "0")  # what is written by hand here has no manifests
    labels = np.tile(np.arange(4), 60).astype(np.int64)
    train_labels = np.repeat(np.arange(4), COUNTS).astype(np.int64)
    index, none = np.arange(len(train_labels)), np.zeros(0, dtype=np.int64)
    subset = Subset(
        dataset=content["dataset"], classes=("ant", "bee", "cat", "dog"), counts=COUNTS, drawn=COUNTS, profile="exp",
        imbalance=50.0, train_index=index, train_labels=train_labels, val_index=none, val_labels=none, test_labels=labels,
        val_fraction=0.0, seed=0, sha256=index_sha256(index), raw_sha256="ab" * 32,
        image_size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25),
    )  # fmt: skip
    data = artifacts.stage_dir("data")
    data.mkdir(parents=True)
    write_subset(data, subset)
    workspace = Workspace(content, subset, monkeypatch)
    for row in ROWS:
        workspace.write_rows(row)
    return workspace


class Workspace:
    def __init__(self, content, subset, monkeypatch):
        self.content, self.subset, self.monkeypatch = content, subset, monkeypatch

    @property
    def settings(self):
        return Settings.model_validate(self.content)

    def write_rows(self, row):
        """Artifacts of a row as the present settings would make them, the same logits in any case."""
        for seed in range(3):
            random = np.random.default_rng([seed, ROWS.index(row)])
            noise = random.normal(size=(240, 4))
            self.write_row(row, seed, (noise + (1.0 + ROWS.index(row)) * np.eye(4)[self.subset.test_labels]).astype(np.float32))

    def write_row(self, row, seed, logits):
        folder = artifacts.row_dir(row, seed)
        folder.mkdir(parents=True, exist_ok=True)
        artifacts.write_array(folder / "test_logits.npy", logits)
        context = made_of(self.settings, self.subset)
        artifacts.write_json(folder / "row.json", {"logit_prior": prior(COUNTS).tolist(), "context": context})

    def draw(self, imbalance):
        """The subset, as if it were drawn anew."""
        self.subset = dataclasses.replace(self.subset, imbalance=imbalance)
        write_subset(artifacts.stage_dir("data"), self.subset)

    def run(self, stage, *arguments):
        self.monkeypatch.setattr(params, "load", lambda: self.settings)
        self.monkeypatch.setattr(sys, "argv", ["stage", *arguments])
        stage.main()

    def run_all(self):
        for row in ROWS:
            self.run(evaluate, row)
        self.run(report)


def write_log(row, seed, lines):
    artifacts.write_log(artifacts.row_dir(row, seed) / "log.csv", lines)


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def numbers(row, mean, sd=None):
    """Details of a row with the same mean and sd for every metric, and their context."""
    context = {key: "x" for key in CONTEXT} | {"seeds": "0 1 2"}
    means, deviations = dict.fromkeys(HEADLINE, mean), dict.fromkeys(HEADLINE, sd)
    return {"row": row, "context": context, "mean": means, "sd": deviations, "val_size": 0}, context


def test_metrics_files_have_the_same_frozen_keys(workspace):
    workspace.run_all()
    for path in [*(f"results/methods/{row}.json" for row in ROWS), "results/metrics.json"]:
        assert list(read(path)) == sorted([*HEADLINE, "balanced_sd", "row", "loss"])
    for row in ROWS:
        assert sorted(read(f"results/details/{row}.json")["context"]) == CONTEXT


def test_headline_is_mean_and_sd_of_the_seeds_in_the_details(workspace):
    workspace.run(evaluate, "crt")
    content, details = read("results/methods/crt.json"), read("results/details/crt.json")
    for name in HEADLINE:
        values = [details["seeds"][seed]["metrics"][name] for seed in "012"]
        assert content[name] == pytest.approx(np.mean(values), abs=2e-6)
        assert details["sd"][name] == pytest.approx(np.std(values, ddof=1), abs=2e-6)
    assert content["balanced_sd"] == details["sd"]["balanced"]
    assert details["val_size"] == 0
    assert details["train_counts"] == COUNTS.tolist() and details["test_counts"] == [60] * 4
    assert details["context"]["subset"] == workspace.subset.sha256[:12]


def test_one_seed_has_null_for_sd(workspace):
    workspace.content["seeds"] = [1]
    workspace.run(evaluate, "base")
    content = read("results/methods/base.json")
    assert content["balanced_sd"] is None and content["top1"] is not None
    assert set(read("results/details/base.json")["sd"].values()) == {None}


def test_evaluating_again_writes_the_same_bytes(workspace):
    workspace.run(evaluate, "base")
    first = [Path(f"results/{kind}/base.json").read_bytes() for kind in ("methods", "details")]
    workspace.run(evaluate, "base")
    assert first == [Path(f"results/{kind}/base.json").read_bytes() for kind in ("methods", "details")]


def test_report_copies_its_row_and_prints_the_table(workspace, capsys):
    workspace.run_all()
    assert read("results/metrics.json") == read("results/methods/crt.json")
    table = Path("results/table.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert [line.split()[1] for line in lines] == ["row", "-------", *ROWS]
    crt = read("results/details/crt.json")
    for name in ("balanced", "tail"):
        assert f"{100 * crt['mean'][name]:.1f} ± {100 * crt['sd'][name]:.1f}" in lines[3]
    assert workspace.subset.sha256[:12] in table and "seeds 0 1 2" in table and "last epoch" in table


def test_table_cells():
    content, context = numbers("base", 0.87654, 0.0123)
    content["mean"]["few"] = content["sd"]["few"] = None
    line = markdown({"base": content}, context).splitlines()[-1]
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "base", *["87.7 ± 1.2"] * 5, "-", *["87.7 ± 1.2"] * 3, "0.877 ± 0.012", "87.7 ± 1.2",
    ]  # fmt: skip
    single, context = numbers("base", 0.5)
    table = markdown({"base": single}, context | {"seeds": "4"})
    assert "| 50.0 |" in " ".join(table.split()) and "seed 4 only, so no sd" in table


@pytest.mark.parametrize("key, value", [("loss", "bayias"), ("head", "cosine"), ("imbalance", 10.0), ("seeds", [0, 1])])
def test_rows_made_under_other_settings_are_not_mixed(workspace, key, value):
    workspace.run_all()
    workspace.content[key] = value
    workspace.draw(workspace.content["imbalance"])
    workspace.write_rows("base")
    workspace.run(evaluate, "base")
    before = Path("results/table.md").read_text(encoding="utf-8")
    with pytest.raises(TableError, match=rf"crt: {key} is .*\n.*xerm_pc: {key} is .*\n.*evaluate@crt evaluate_xerm@pc") as error:
        workspace.run(report)
    assert "base" not in str(error.value)
    assert Path("results/table.md").read_text(encoding="utf-8") == before


def test_a_row_is_labelled_by_what_made_it_and_not_by_todays_params(workspace):
    workspace.run_all()
    workspace.content["loss"] = "bayias"
    workspace.run(evaluate, "base")
    assert read("results/details/base.json")["context"]["loss"] == read("results/methods/base.json")["loss"] == "ce"
    with pytest.raises(TableError, match="base: loss is ce, now bayias"):
        workspace.run(report)


def test_a_row_of_differing_seeds_or_of_another_subset_is_refused(workspace):
    workspace.content["loss"] = "bayias"
    workspace.write_row("crt", 1, np.zeros((240, 4), dtype=np.float32))
    with pytest.raises(artifacts.ArtifactError, match="retrain/crt/1 was made with loss bayias, expected ce"):
        workspace.run(evaluate, "crt")
    workspace.subset = dataclasses.replace(workspace.subset, sha256="0" * 64)
    workspace.write_rows("base")
    with pytest.raises(artifacts.ArtifactError, match="base/0 was made with subset 000000000000, expected"):
        workspace.run(evaluate, "base")


def test_rows_on_another_subset_are_not_mixed(workspace):
    workspace.run_all()
    path = artifacts.RESULTS / "details" / "crt.json"
    content = read(path)
    content["context"]["subset"] = "0123456789ab"
    artifacts.write_json(path, content, sealed=True)
    with pytest.raises(TableError, match=r"crt: subset is 0123456789ab, now .*\n.*dvc repro evaluate@crt \("):
        workspace.run(report)


def test_files_that_lack_what_others_have_are_named():
    (base, context), (crt, _) = numbers("base", 0.5), numbers("crt", 0.6)
    check_same({"base": base, "crt": crt}, context)
    more = base | {"mean": base["mean"] | {"oracle_top1": 0.7}}
    without_few = {name: value for name, value in base["mean"].items() if name != "few"}
    for rows, told in (
        ({"base": more, "crt": crt}, "crt: the file lacks oracle_top1"),
        ({"base": base, "crt": crt | {"per_class": {}}}, "base: the file lacks per_class"),
        ({"base": base | {"mean": without_few}}, "base: the file lacks few"),
        ({"base": crt}, "base: the file is that of row crt"),
    ):
        with pytest.raises(TableError, match=told):
            check_same(rows, context)


def test_oracles_are_there_in_every_row_where_a_training_was_tested(workspace):
    workspace.content["distill"] |= {"test_every": 1}
    nan = float("nan")
    for seed in range(3):
        tested = [{"epoch": 1, "test_top1": 0.7, "test_balanced": nan}, {"epoch": 2, "test_top1": 0.5, "test_balanced": 0.6}]
        write_log("xerm_pc", seed, tested)
        write_log("base", seed, [{"epoch": 1, "loss": 1.0}])
        write_log("crt", seed, [])
    workspace.run_all()
    rows = {row: read(f"results/methods/{row}.json") for row in ROWS}
    assert [(rows[row]["oracle_top1"], rows[row]["oracle_balanced"]) for row in ROWS] == [(None, None), (None, None), (0.7, 0.6)]
    details = read("results/details/xerm_pc.json")
    assert details["seeds"]["1"]["metrics"]["oracle_top1"] == 0.7 and details["sd"]["oracle_top1"] == pytest.approx(0.0)
    table = Path("results/table.md").read_text(encoding="utf-8")
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert lines[0].endswith("| oracle_top1 % | oracle_balanced % |") and "chosen on the test set" in table
    assert [cell.strip() for cell in lines[2].split("|")[-3:-1]] == ["-", "-"] and "70.0 ± 0.0" in lines[4]


def test_rows_that_params_no_longer_names_are_told_and_removed_when_asked(workspace, capsys):
    workspace.run_all()
    assert "does not name" not in capsys.readouterr().out
    workspace.content["teachers"] = {}
    workspace.run(report)
    assert "does not name: xerm_pc; remove them: python -m stages.report --prune" in capsys.readouterr().out
    table = Path("results/table.md").read_text(encoding="utf-8")
    assert "xerm_pc" not in table and Path("results/details/xerm_pc.json").is_file()
    workspace.run(report, "--prune")
    assert "results/methods/xerm_pc.json, results/details/xerm_pc.json" in capsys.readouterr().out
    kept = sorted(path.name for kind in ("methods", "details") for path in Path("results", kind).iterdir())
    assert kept == ["base.json", "base.json", "crt.json", "crt.json"]
    assert Path("results/table.md").read_text(encoding="utf-8") == table
    workspace.run(report, "--prune")
    assert "removed: nothing" in capsys.readouterr().out


def test_size_of_the_validation_part_is_told(workspace):
    kept_out = np.arange(5)
    subset = dataclasses.replace(workspace.subset, val_index=kept_out, val_labels=np.zeros(5, dtype=np.int64), val_fraction=0.01)
    write_subset(artifacts.stage_dir("data"), subset)
    workspace.run_all()
    assert read("results/details/crt.json")["val_size"] == 5
    assert "5 images were kept out of training" in Path("results/table.md").read_text(encoding="utf-8")


def test_extra_data_are_told_in_every_row_and_in_the_table(workspace):
    workspace.run_all()
    assert "Extra data" not in Path("results/table.md").read_text(encoding="utf-8")
    workspace.content["weighting"] = "longtail_da"
    workspace.content["weightings"]["longtail_da"]["dev_source"] = "train_pool_extra"
    for row in ROWS:
        workspace.write_rows(row)
    workspace.run_all()
    told = "labelled images that the subset left out, in weighting longtail_da"
    assert {read(f"results/details/{row}.json")["context"]["extra_data"] for row in ROWS} == {told}
    assert f"**Extra data**: the base model, and so every row, was trained with {told}" in Path("results/table.md").read_text(encoding="utf-8")


def test_points_for_plots_are_those_of_the_details(workspace):
    workspace.run_all()
    rows, classes, bins = (read_csv(f"results/plots/{name}.csv") for name in ("rows", "classes", "reliability"))
    details = {row: read(f"results/details/{row}.json") for row in ROWS}
    assert [line["row"] for line in rows] == ROWS
    assert [float(line["tail"]) for line in rows] == pytest.approx([details[row]["mean"]["tail"] for row in ROWS], rel=1e-5)
    assert [line["class"] for line in classes] == ["ant", "bee", "cat", "dog"]
    assert [line["train_images"] for line in classes] == ["300", "150", "40", "6"]
    assert [line["test_images"] for line in classes] == ["60"] * 4
    assert all(0 <= float(line["recall_low"]) < float(line["recall"]) < float(line["recall_high"]) <= 1 for line in classes)
    crt = [seed["per_class"]["recall"] for seed in details["crt"]["seeds"].values()]
    assert [float(line["recall"]) for line in classes] == pytest.approx(np.mean(crt, axis=0), rel=1e-5)
    count, confidence, accuracy = np.array([[float(line[name]) for name in ("images", "confidence", "accuracy")] for line in bins]).T
    assert count.sum() == 3 * 240
    assert (count * accuracy).sum() / count.sum() == pytest.approx(details["crt"]["mean"]["top1"], abs=1e-4)
    pooled = (count * np.abs(accuracy - confidence)).sum() / count.sum()
    assert 0 < pooled <= details["crt"]["mean"]["ece"] + 1e-4, "gaps of different signs can cancel between seeds"


def test_where_every_row_is_stale_the_command_is_short(workspace):
    workspace.run_all()
    workspace.content["loss"] = "bayias"
    with pytest.raises(TableError, match=r"base: loss is ce, now bayias\n(.*\n){2}make them anew: dvc repro \("):
        workspace.run(report)


def test_missing_rows_are_named_together(workspace):
    workspace.run(evaluate, "crt")
    with pytest.raises(artifacts.ArtifactError, match="rows base, xerm_pc have no details.*evaluate_base evaluate_xerm@pc"):
        workspace.run(report)


def test_data_as_they_are_show_their_own_imbalance(workspace):
    workspace.content["subset"] |= {"profile": "none"}
    assert context_of(workspace.settings, workspace.subset)["imbalance"] == "50 (none)"
    workspace.content |= {"imbalance": 7.0}
    assert context_of(workspace.settings, workspace.subset)["imbalance"] == "50 (none)"
    workspace.content["subset"] |= {"profile": "step"}
    assert context_of(workspace.settings, workspace.subset)["imbalance"] == "7 (step)"


def test_unknown_row_and_missing_seeds(workspace):
    with pytest.raises(ValueError, match="got 'crtt', expected a row of the table: base, crt, xerm_pc; nearest: 'crt'"):
        workspace.run(evaluate, "crtt")
    workspace.content["seeds"] = [0, 7, 8]
    with pytest.raises(artifacts.ArtifactError, match=r"row crt has no test logits for seeds \[7, 8\]"):
        workspace.run(evaluate, "crt")


def test_a_kill_between_the_files_of_a_row_gives_no_wrong_table(workspace, monkeypatch):
    """The table is made from the details alone, which come first."""
    workspace.run_all()
    before, move = read("results/methods/crt.json"), artifacts.os.replace
    for seed in range(3):
        workspace.write_row("crt", seed, np.eye(4, dtype=np.float32)[workspace.subset.test_labels])

    def killed(source, target):
        move(source, target)
        if str(target) == "results/details/crt.json":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(artifacts.os, "replace", killed)
        workspace.run(evaluate, "crt")
    assert read("results/methods/crt.json") == before and read("results/details/crt.json")["mean"]["top1"] == 1
    workspace.run(report)
    table = Path("results/table.md").read_text(encoding="utf-8")
    workspace.run(evaluate, "crt")
    workspace.run(report)
    assert Path("results/table.md").read_text(encoding="utf-8") == table
    assert read("results/methods/crt.json") != before


def test_wrong_logits_are_refused_and_nothing_is_written(workspace):
    workspace.write_row("crt", 1, np.zeros((240, 5), dtype=np.float32))
    with pytest.raises(ValueError, match=r"row crt, seed 1: got shape \(240, 5\), expected \(240, 4\)"):
        workspace.run(evaluate, "crt")
    workspace.write_row("crt", 1, np.full((240, 4), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="row crt, seed 1: 240 of 240 rows hold NaN"):
        workspace.run(evaluate, "crt")
    workspace.write_row("crt", 1, np.zeros((240, 4), dtype=np.float32))
    path = artifacts.row_dir("crt", 1) / "row.json"
    artifacts.write_json(path, artifacts.read_json(path) | {"logit_prior": [0.5, 0.5]})
    with pytest.raises(artifacts.ArtifactError, match="logit_prior of shape"):
        workspace.run(evaluate, "crt")
    assert not artifacts.RESULTS.exists()


def test_a_prior_of_ones_own_is_printed_and_not_written(workspace, tmp_path, capsys):
    (tmp_path / "prior.json").write_text('{"ant": 1, "bee": 1, "cat": 1, "dog": 1}')
    workspace.run(evaluate, "crt", "--prior", "prior.json")
    printed = capsys.readouterr().out
    assert not artifacts.RESULTS.exists()
    workspace.run(evaluate, "crt")
    balanced = read("results/details/crt.json")["seeds"]["2"]["metrics"]["balanced"]
    assert f"crt, seed 2, prior unknown: {100 * balanced:.1f} %" in printed and "prior known" in printed


def test_evaluation_needs_no_torch():
    code = "import sys, stages.evaluate, stages.report, stages.compare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_compare_prints_intervals_and_a_verdict(workspace, capsys):
    workspace.run_all()
    capsys.readouterr()
    workspace.run(compare, "base", "xerm_pc")
    printed = capsys.readouterr().out
    base, xerm = (read(f"results/methods/{row}.json")["balanced"] for row in ("base", "xerm_pc"))
    assert f"base {100 * base:.1f}, xerm_pc {100 * xerm:.1f}" in printed
    assert f"xerm_pc minus base: +{100 * (xerm - base):.1f} points" in printed
    assert "over training seeds" in printed and "over test images" in printed and "verdict: more than noise" in printed
    workspace.run(compare, "base", "xerm_pc", "--metric", "nll")
    printed = capsys.readouterr().out
    assert "points" not in printed and "%  " not in printed and "over test images" not in printed


def test_compare_reads_commits_and_experiments(workspace, capsys, tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        done = subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    workspace.run(evaluate, "base")
    git("init", "-q", "-b", "main")
    git("add", "results")
    git("commit", "-qm", "first")
    workspace.content["loss"] = "bayias"
    for seed in range(3):
        workspace.write_row("base", seed, 4.0 * np.eye(4, dtype=np.float32)[workspace.subset.test_labels])
    workspace.run(evaluate, "base")
    experiment = git("commit-tree", "-p", "HEAD", "-m", "dvc: commit experiment", git_tree(git))
    git("update-ref", "refs/exps/ab/cdef/bayias", experiment)
    git("checkout", "-q", "-f", "main")

    workspace.run(compare, "main:base", "bayias:base")
    printed = capsys.readouterr().out
    assert "bayias:base 100.0" in printed and "they also differ in loss: ce, bayias" in printed
    workspace.run(compare, "HEAD:base", "base")
    assert "no difference" in capsys.readouterr().out
    with pytest.raises(ValueError, match="'baias' is neither a git revision nor a DVC experiment"):
        workspace.run(compare, "main:base", "baias:base")
    with pytest.raises(artifacts.ArtifactError, match="results/details/crt.json is not in main"):
        workspace.run(compare, "main:base", "main:crt")


def git_tree(git):
    """Hash of a tree with the results as they are now, leaving the index at HEAD."""
    git("add", "results")
    tree = git("write-tree")
    git("reset", "-q")
    return tree
