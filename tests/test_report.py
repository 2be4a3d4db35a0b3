"""The stages that turn test logits into files and a table: evaluate, report, compare."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lt import artifacts, params
from lt.counts import prior
from lt.params import PATH, Settings, read_yaml
from lt.subset import Subset, index_sha256, write_subset
from lt.table import HEADLINE, TableError, check_same, context_of, headline, markdown
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
    for row, strength in zip(ROWS, (1.0, 2.0, 3.0)):
        for seed in range(3):
            random = np.random.default_rng([seed, ROWS.index(row)])
            logits = random.normal(size=(240, 4)) + strength * np.eye(4)[labels]
            write_row(row, seed, logits.astype(np.float32))
    return Workspace(content, subset, monkeypatch)


def write_row(row, seed, logits):
    folder = artifacts.row_dir(row, seed)
    folder.mkdir(parents=True, exist_ok=True)
    artifacts.write_array(folder / "test_logits.npy", logits)
    artifacts.write_json(folder / "row.json", {"logit_prior": prior(COUNTS).tolist()})


class Workspace:
    def __init__(self, content, subset, monkeypatch):
        self.content, self.subset, self.monkeypatch = content, subset, monkeypatch

    @property
    def settings(self):
        return Settings.model_validate(self.content)

    def run(self, stage, *arguments):
        self.monkeypatch.setattr(params, "load", lambda: self.settings)
        self.monkeypatch.setattr(sys, "argv", ["stage", *arguments])
        stage.main()

    def run_all(self):
        for row in ROWS:
            self.run(evaluate, row)
        self.run(report)


def read(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def numbers(row, mean, sd=None):
    """Content of a metrics file with the same mean and sd for every metric."""
    context = {key: "x" for key in CONTEXT} | {"seeds": "0 1 2"}
    return headline(row, context, dict.fromkeys(HEADLINE, mean), dict.fromkeys(HEADLINE, sd)), context


def test_metrics_files_have_the_same_frozen_keys(workspace):
    workspace.run_all()
    for path in [*(f"results/methods/{row}.json" for row in ROWS), "results/metrics.json"]:
        content = read(path)
        assert list(content) == sorted([*HEADLINE, "sd", "row", "loss", "context"])
        assert list(content["sd"]) == sorted(HEADLINE)
        assert [item.split("=")[0] for item in content["context"]] == CONTEXT


def test_headline_is_mean_and_sd_of_the_seeds_in_the_details(workspace):
    workspace.run(evaluate, "crt")
    content, details = read("results/methods/crt.json"), read("results/details/crt.json")
    for name in HEADLINE:
        values = [details["seeds"][seed]["metrics"][name] for seed in "012"]
        assert content[name] == pytest.approx(np.mean(values), abs=2e-6)
        assert content["sd"][name] == pytest.approx(np.std(values, ddof=1), abs=2e-6)
    assert details["train_counts"] == COUNTS.tolist() and details["test_counts"] == [60] * 4
    assert details["context"]["subset"] == workspace.subset.sha256[:12]


def test_one_seed_has_null_for_sd(workspace):
    workspace.content["seeds"] = [1]
    workspace.run(evaluate, "base")
    content = read("results/methods/base.json")
    assert set(content["sd"].values()) == {None} and content["top1"] is not None


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
    crt = read("results/methods/crt.json")
    assert f"{100 * crt['balanced']:.1f} ± {100 * crt['sd']['balanced']:.1f}" in lines[3]
    assert workspace.subset.sha256[:12] in table and "seeds 0 1 2" in table and "last epoch" in table


def test_table_cells():
    content, context = numbers("base", 0.87654, 0.0123)
    content["few"] = content["sd"]["few"] = None
    line = markdown({"base": content}, context).splitlines()[-1]
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "base", *["87.7 ± 1.2"] * 4, "-", *["87.7 ± 1.2"] * 3, "0.877 ± 0.012", "87.7 ± 1.2",
    ]  # fmt: skip
    single, context = numbers("base", 0.5)
    table = markdown({"base": single}, context | {"seeds": "4"})
    assert "| 50.0 |" in " ".join(table.split()) and "seed 4 only, so no sd" in table


@pytest.mark.parametrize("key, value", [("loss", "bayias"), ("head", "cosine"), ("imbalance", 10.0), ("seeds", [0, 1])])
def test_rows_made_under_other_settings_are_not_mixed(workspace, key, value):
    workspace.run_all()
    workspace.content[key] = value
    workspace.run(evaluate, "base")
    before = Path("results/table.md").read_text(encoding="utf-8")
    with pytest.raises(TableError, match=rf"crt: {key} is .*\n.*xerm_pc: {key} is .*\n.*evaluate@crt evaluate_xerm@pc") as error:
        workspace.run(report)
    assert "base" not in str(error.value)
    assert Path("results/table.md").read_text(encoding="utf-8") == before


def test_rows_on_another_subset_are_not_mixed(workspace):
    workspace.run_all()
    path = artifacts.RESULTS / "methods" / "crt.json"
    content = read(path)
    content["context"] = [item if not item.startswith("subset=") else "subset=0123456789ab" for item in content["context"]]
    artifacts.write_json(path, content)
    with pytest.raises(TableError, match=r"crt: subset is 0123456789ab, now .*\n.*dvc repro evaluate@crt \("):
        workspace.run(report)


def test_files_with_other_keys_are_named():
    content, context = numbers("base", 0.5)
    check_same({"base": content}, context)
    without_sd = {key: value for key, value in content.items() if key != "sd"}
    for broken in (content | {"few_shot": 1.0}, without_sd, content | {"row": "crt"}):
        with pytest.raises(TableError, match="base: the file has other keys"):
            check_same({"base": broken}, context)


def test_where_every_row_is_stale_the_command_is_short(workspace):
    workspace.run_all()
    workspace.content["loss"] = "bayias"
    with pytest.raises(TableError, match=r"base: loss is ce, now bayias\n(.*\n){2}make them anew: dvc repro \("):
        workspace.run(report)


def test_missing_rows_are_named_together(workspace):
    workspace.run(evaluate, "crt")
    with pytest.raises(artifacts.ArtifactError, match="rows base, xerm_pc have no metrics.*evaluate_base evaluate_xerm@pc"):
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


def test_wrong_logits_are_refused_and_nothing_is_written(workspace):
    write_row("crt", 1, np.zeros((240, 5), dtype=np.float32))
    with pytest.raises(ValueError, match=r"row crt, seed 1: got shape \(240, 5\), expected \(240, 4\)"):
        workspace.run(evaluate, "crt")
    write_row("crt", 1, np.full((240, 4), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="row crt, seed 1: 240 of 240 rows hold NaN"):
        workspace.run(evaluate, "crt")
    write_row("crt", 1, np.zeros((240, 4), dtype=np.float32))
    artifacts.write_json(artifacts.row_dir("crt", 1) / "row.json", {"logit_prior": [0.5, 0.5]})
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
        write_row("base", seed, 4.0 * np.eye(4, dtype=np.float32)[workspace.subset.test_labels])
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
