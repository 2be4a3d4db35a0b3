"""The report page: its numbers, that it asks nothing of the network, and how it looks to a browser."""

import csv
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from lt.core import artifacts, command, params
from lt.core.context import made_of
from lt.core.counts import prior
from lt.core.params import PATH, Settings, read_yaml
from lt.core.subset import Subset, index_sha256, write_subset
from lt.data.split import Split
from lt.evaluate.comparison import compare
from lt.evaluate.headline import HEADLINE
from lt.page import accuracy, choice, confusion
from lt.page.sources import read_sources
from stages import classes, evaluate, page

ROWS = ["base", "balms", "lws", "dro_lt", "xerm_balms"]
COUNTS = np.array([300, 40, 150, 6])
CLASSES = ("ant", "<b>&bee", "cat", "dog")
LABELS = np.tile(np.arange(4), 25).astype(np.int64)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with artifacts and results of five rows and two seeds; `write` writes the page and returns it."""
    content = read_yaml(PATH)
    teacher = next(iter(content["teachers"].values()))
    methods = {name: {} for name in ("balms", "lws", "dro_lt")}
    content |= {"seeds": [0, 1], "methods": methods, "teachers": {"balms": teacher}, "report": {"row": "balms"}}
    settings = Settings.model_validate(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LT_VERIFY", "0")  # what is written by hand here has no manifests
    monkeypatch.setattr(params, "load", lambda: settings)
    images = np.random.default_rng(0).integers(0, 256, (len(LABELS), 8, 8, 3), dtype=np.uint8)
    test = Split(images, LABELS, CLASSES, (0.5,) * 3, (0.2,) * 3)
    monkeypatch.setattr(confusion, "open_dataset", lambda *_, **__: test)
    Path("params.yaml").write_text("dataset: digits\n")
    write_artifacts(settings)
    for row in ROWS:
        run(evaluate, monkeypatch, row)
    return Workspace(tmp_path, monkeypatch, test)


class Workspace:
    def __init__(self, folder, monkeypatch, test):
        self.folder, self.monkeypatch, self.test = folder, monkeypatch, test

    def write(self) -> str:
        run(page, self.monkeypatch)
        return Path("results/report.html").read_text(encoding="utf-8")


def run(stage, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["stage", *arguments])
    stage.main()


def write_artifacts(settings):
    train_labels = np.repeat(np.arange(4), COUNTS).astype(np.int64)
    index, none = np.arange(len(train_labels)), np.zeros(0, dtype=np.int64)
    subset = Subset(
        dataset="digits", classes=CLASSES, counts=COUNTS, drawn=COUNTS, profile="exp", imbalance=50.0, train_index=index,
        train_labels=train_labels, val_index=none, val_labels=none, test_labels=LABELS, val_fraction=0.0, seed=0,
        sha256=index_sha256(index), raw_sha256="ab" * 32, image_size=8, mean=(0.5,) * 3, std=(0.25,) * 3,
    )  # fmt: skip
    artifacts.stage_dir("data").mkdir(parents=True)
    write_subset(artifacts.stage_dir("data"), subset)
    context = made_of(settings, subset)
    for number, row in enumerate(ROWS):
        for seed in (0, 1):
            folder = artifacts.row_dir(row, seed)
            folder.mkdir(parents=True)
            logits = np.random.default_rng([seed, number]).normal(size=(100, 4)) + (1 + number / 2) * np.eye(4)[LABELS]
            artifacts.write_array(folder / "test_logits.npy", logits.astype(np.float32))
            artifacts.write_json(folder / "row.json", {"logit_prior": prior(COUNTS).tolist(), "context": context})
            steps = "epoch" if row in ("base", "xerm_balms") else "step"
            extra = {f"w_bal_{group}": 0.5 for group in ("head", "mid", "tail")} if row == "xerm_balms" else {}
            artifacts.write_log(folder / "log.csv", [{steps: i, "loss": 1 / i, "accuracy": 0.5, **extra} for i in (1, 2)])
            for name in {"balms": ("rates", "shares"), "lws": ("scales",), "dro_lt": ("eps",)}.get(row, ()):
                artifacts.write_array(folder / f"{name}.npy", np.array([0.4, 0.3, 0.2, 0.1]))
    backbone = [{"epoch": i, "loss": 0.5, "accuracy": 0.9, "eps_mean": 1.0, "eps_min": 0.5, "eps_max": 2.0} for i in (1, 2)]
    artifacts.write_log(artifacts.row_dir("dro_lt", 0) / "backbone_log.csv", backbone)


class Seen(HTMLParser):
    """What a page holds: its tags with their attributes, the cells of the table by row and metric, headings, and all text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.cells, self.headings, self.text = [], {}, [], ""
        self._row = self._cell = self._heading = None
        self.feed(text)

    def handle_starttag(self, tag, pairs):
        found = dict(pairs)
        self.tags.append((tag, found))
        self._row = found.get("data-row", self._row)
        if "data-metric" in found:
            self._cell = self.cells.setdefault(self._row, {})[found["data-metric"]] = {**found, "text": ""}
        self._heading = tag if tag in ("h1", "h2", "h3", "h4") else self._heading
        if tag == self._heading:
            self.headings.append("")

    def handle_endtag(self, tag):
        self._cell = None if tag == "td" else self._cell
        self._heading = None if tag == self._heading else self._heading

    def handle_data(self, text):
        self.text += text
        if self._cell is not None:
            self._cell["text"] += text
        if self._heading:
            self.headings[-1] += text


def test_table_holds_every_row_with_the_numbers_of_its_metrics_file(workspace):
    cells = Seen(workspace.write()).cells
    assert list(cells) == ROWS
    for row in ROWS:
        content = json.loads(Path(f"results/details/{row}.json").read_text())
        assert list(cells[row]) == list(HEADLINE)
        for name, cell in cells[row].items():
            assert (float(cell["data-mean"]), float(cell["data-sd"])) == (content["mean"][name], content["sd"][name])
            scale, digits = (1, 3) if name == "nll" else (100, 1)
            assert cell["text"] == f"{scale * content['mean'][name]:.{digits}f} ± {scale * content['sd'][name]:.{digits}f}"


def test_best_of_each_column_is_marked_where_it_is_more_than_noise(workspace):
    cells = Seen(workspace.write()).cells
    details = {row: json.loads(Path(f"results/details/{row}.json").read_text()) for row in ROWS}
    marked = 0
    for name in HEADLINE:
        values = {row: float(cells[row][name]["data-mean"]) for row in ROWS}
        second, best = sorted(ROWS, key=lambda row: values[row] if name not in ("nll", "ece") else -values[row])[-2:]
        is_noise = compare(details[second], details[best], name).verdict().startswith("noise")
        expected = set() if is_noise else {row for row in ROWS if values[row] == values[best]}
        assert {row for row in ROWS if cells[row][name].get("class") == "best"} == expected
        marked += len(expected) > 0
    assert 0 < marked < len(HEADLINE)  # both are there


def test_how_many_test_images_a_class_has_is_told_with_its_interval(workspace):
    text = workspace.write()
    assert re.search(r"ant: 300 images, recall \d+ % of 25 test images, 95 % interval \d+ to \d+ %", text)
    assert "4 classes have fewer than 30 test images" in text and "training images; of 25 test images" in text
    assert accuracy.told_recall(0.5, 2) == "recall 50 % of 2 test images, 95 % interval 9 to 91 %"
    assert accuracy.told_recall(1.0, 1) == "recall 100 % of 1 test image, 95 % interval 21 to 100 %"
    assert accuracy.told_recall(0.5, 30) == "recall 50 % of 30 test images"


def test_published_numbers_stand_below_ours_where_the_settings_are_a_recipe(workspace):
    recipe = {"summary": "own", "source": {"paper": "A", "table": "B"}, "protocol": "p", "differs": ["fewer < epochs"]}
    published = {"balms": [{"balanced": 0.508, "few": 0.25, "source": "<i>a table"}, {"balanced": 0.512, "source": "a letter"}]}
    Path("recipes").mkdir()
    for loss, shown in (("ce", True), ("focal", False)):
        content = recipe | {"overrides": {"loss": loss, "report.row": "lws"}, "recipes": {"own": {"published": published}}}
        Path("recipes/own.yaml").write_text(json.dumps(content))
        text = workspace.write()
        seen = Seen(text)
        found = {(row, name) for row, cells in seen.cells.items() for name, cell in cells.items() if "published" in cell["text"]}
        assert found == ({("balms", "balanced"), ("balms", "few")} if shown else set())
        assert seen.cells["balms"]["balanced"]["text"].endswith("published 50.8 and 51.2") == shown
        assert ("stages.recipe own --show" in seen.text and "&lt;i&gt;a table; a letter" in text) == shown
        assert ("<li>fewer &lt; epochs</li>" in text) == shown


def test_one_seed_and_an_empty_group_leave_no_number(workspace):
    for path in Path("results/details").iterdir():
        content = json.loads(path.read_text())
        content |= {"mean": content["mean"] | {"many": None}, "sd": dict.fromkeys(HEADLINE)}
        artifacts.write_json(path, content, sealed=True)
    cells = Seen(workspace.write()).cells
    assert all(cells[row]["many"]["text"] == "–" for row in ROWS)
    assert all("±" not in cell["text"] for row in ROWS for cell in cells[row].values())


def test_nothing_outside_the_file_is_referred_to(workspace):
    text = workspace.write()
    seen = Seen(text)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in seen.tags}
    for tag, found in seen.tags:
        assert not {name for name in found if name.startswith("on")}
        assert found.get("src", "data:").startswith("data:") and found.get("href", "#").startswith("#"), tag
    assert "://" not in text and "url(" not in text and "@import" not in text
    names = [found["id"] for _, found in seen.tags if "id" in found]
    assert len(names) == len(set(names))
    targets = {found.get("href", "")[1:] or found.get("for") for _, found in seen.tags} - {None}
    assert len(targets) > len(ROWS) and targets <= set(names)


def test_names_are_shown_and_never_read_as_html(workspace):
    text = workspace.write()
    assert "<b>&bee" not in text and "&lt;b&gt;&amp;bee" in text


def test_every_section_is_there_and_shows_its_artifacts(workspace):
    seen = Seen(workspace.write())
    for heading in (
        "Groups of classes", "Recall by class", "Other test distributions", "Calibration", "Confusions", "BALMS: sampling rates",
        "BALMS: shares of the draws", "LWS: scales", "DRO-LT: radii", "dro_lt: radii while training",
        "xerm_balms: weight of the teacher", "Training loss: backbones", "Training loss: heads on cached features",
    ):  # fmt: skip
        assert heading in seen.headings, heading
    facts = json.loads(Path("artifacts/data/subset.json").read_text())
    for text in (facts["sha256"], facts["raw_sha256"], "dataset: digits", "numpy"):
        assert text in seen.text, text
    assert "dvc repro" not in seen.text


def test_accuracies_on_the_test_part_are_shown_where_a_training_was_tested(workspace):
    heading = "Balanced accuracy on the test part: backbones"
    assert heading not in Seen(workspace.write()).headings
    for seed in (0, 1):
        values = {1: float("nan"), 2: 0.4, 3: 0.6}
        lines = [{"epoch": i, "loss": 0.5, "accuracy": 0.9, "test_balanced": value} for i, value in values.items()]
        artifacts.write_log(artifacts.row_dir("base", seed) / "log.csv", lines)
    text = workspace.write()
    assert heading in Seen(text).headings and "nan" not in text


def test_the_same_inputs_give_the_same_bytes(workspace):
    assert workspace.write() == workspace.write()


def test_without_artifacts_the_page_says_what_to_run(workspace):
    whole = Seen(workspace.write())
    shutil.rmtree("artifacts")
    seen = Seen(workspace.write())
    assert seen.cells == whole.cells
    assert seen.text.count("dvc repro") == 3
    assert [heading for heading in seen.headings if heading.startswith("Recall against")]


def test_without_results_the_error_says_what_to_run(workspace):
    shutil.rmtree("results/details")
    with pytest.raises(artifacts.ArtifactError, match="dvc repro"):
        workspace.write()


def test_missing_and_stale_rows_are_named(workspace):
    Path("results/details/lws.json").unlink()
    path = Path("results/details/dro_lt.json")
    content = json.loads(path.read_text())
    artifacts.write_json(path, content | {"context": content["context"] | {"loss": "focal"}}, sealed=True)
    text = Seen(workspace.write()).text
    assert "without results: lws" in text
    assert "dro_lt: loss is focal, now ce" in text


def test_images_of_the_worst_pair_are_test_images_that_were_confused(workspace):
    text = workspace.write()
    wrong = set()
    for row in ("base", "balms"):
        logits = np.load(artifacts.row_dir(row, 0) / "test_logits.npy")
        wrong |= {confusion.data_uri(image) for image in workspace.test.images[logits.argmax(1) != LABELS]}
    shown = set(re.findall(r'src="(data:[^"]+)"', text))
    assert shown and shown <= wrong


def test_other_test_images_than_the_logits_are_not_shown(workspace):
    other = Split(workspace.test.images, np.roll(LABELS, 1), CLASSES, (0.5,) * 3, (0.2,) * 3)
    workspace.monkeypatch.setattr(confusion, "open_dataset", lambda *_, **__: other)
    text = workspace.write()
    assert "<img" not in text and "not those that the logits were made of" in text


def test_costs_of_the_rows_are_shown(workspace):
    for row, seconds in (("balms", 0.4), ("lws", 125.0), ("crt", 900.0)):
        command.write_cost("retrain", [row, "--seed", "1"], seconds)
    text = Seen(workspace.write()).text
    assert "2 min 5 s (lws 1)" in text and "15 min" not in text  # crt is no row here


def test_which_row_when_comes_from_the_numbers(workspace):
    text = Seen(workspace.write()).text
    details = {row: json.loads(Path(f"results/details/{row}.json").read_text()) for row in ROWS}
    for metric, purpose, best in (("balanced", "All classes alike", max), ("tail", "Rare classes", max), ("ece", "as they are", min)):
        row = best(ROWS, key=lambda row: details[row]["mean"][metric])
        assert re.search(rf"{purpose}: {row}, [^.]*{100 * details[row]['mean'][metric]:.1f} %", text), metric
    assert "Least work" not in text  # nothing ran here
    for stage, row, seconds in (("retrain", "balms", 4.0), ("retrain", "lws", 30.0), ("retrain", "dro_lt", 50.0), ("distill", "balms", 60.0)):
        command.write_cost(stage, [row, "--seed", "0"], seconds)
    best = max(ROWS, key=lambda row: details[row]["mean"]["balanced"])
    level = [row for row in ROWS if row == best or choice.is_level(read_sources(params.load()), best, row, "balanced")]
    taken = {"base": 0.0, "balms": 4.0, "lws": 30.0, "dro_lt": 50.0, "xerm_balms": 64.0}
    assert f"Least work: {min(level, key=taken.get)}, " in Seen(workspace.write()).text


def test_rows_and_columns_are_explained_behind_a_fold(workspace):
    fold = re.search(r"<details><summary>What the rows and columns mean</summary>(.*?)</details>", workspace.write(), re.S)[1]
    assert re.findall("<dt>(.*?)</dt>", fold) == [*ROWS, "balanced", "NLL", "ECE", "T"]
    assert "one factor per class on the logits of the frozen base head." in fold and "balms&#x27;s balanced view" in fold
    for name in ("crt", "pc", "ncm"):
        assert name in choice.meaning(name).lower() and len(choice.meaning(name)) > 40


def test_classes_of_a_row_are_printed_and_written(workspace, capsys):
    logits = [np.load(artifacts.row_dir("balms", seed) / "test_logits.npy") for seed in (0, 1)]
    run(classes, workspace.monkeypatch, "balms", "--csv")
    lines = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [line["class"] for line in lines] == ["ant", "cat", "<b>&bee", "dog"]  # the largest first
    cells = np.mean([confusion_matrix(LABELS, one.argmax(1), labels=range(4)) for one in logits], axis=0) / 25
    for line in lines:
        true = CLASSES.index(line["class"])
        others = np.where(np.arange(4) == true, -1, cells[true])
        assert float(line["recall"]) == pytest.approx(cells[true, true], abs=1e-5) and line["test_images"] == "25"
        assert float(line["taken_for_share"]) == pytest.approx(others.max()) and cells[true, CLASSES.index(line["taken_for"])] == others.max()
    run(classes, workspace.monkeypatch, "balms")
    table = capsys.readouterr().out
    assert re.search(r"\| ant +\| +300 \| +25 \| +[\d.]+ \(\d+ to \d+\) \| +[\d.]+ \| +\S+ \([\d.]+ %\) \|", table)


def test_broken_cost_notes_are_left_out(workspace):
    Path(".cost").mkdir()
    for row, text in (("balms", "{"), ("lws", "[]"), ("dro_lt", "{}")):
        Path(f".cost/retrain_{row}_seed_0.json").write_text(text)
    assert "No stage has run on this machine" in Seen(workspace.write()).text


WRAPPER = """<!doctype html><iframe src="results/report.html" style="width:390px;height:800px;border:0"></iframe>
<script>addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const shown = (css) => getComputedStyle(page.querySelector(`.rows .${css}`)).display;
  const before = shown("r1");
  page.getElementById("show-r1").click();
  document.body.dataset.found = JSON.stringify({
    over: root.scrollWidth - root.clientWidth, before, after: shown("r1"), other: shown("r0"),
    images: [...page.images].every((image) => image.naturalWidth > 0),
    rows: page.querySelectorAll(".results tbody tr").length,
  });
})</script>"""


def browse(path: Path) -> tuple[str, list[str]]:
    """Opens a file in headless Chromium: the document after loading, and what the console says."""
    done = subprocess.run(
        [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--enable-logging=stderr", "--allow-file-access-from-files", f"--user-data-dir={path.parent / '.chromium'}",
            "--dump-dom", path.as_uri(),
        ],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome on PATH")
def test_a_browser_shows_the_page_without_requests_or_overflow(workspace):
    text = workspace.write()
    assert "default-src 'none'" in text  # so that a request would be refused, and told in the console
    (workspace.folder / "wrapper.html").write_text(WRAPPER)
    document, console = browse(workspace.folder / "wrapper.html")
    assert console == []
    found = json.loads(re.search(r"data-found='?\"?(\{.*?\})['\"]", document)[1].replace("&quot;", '"'))
    assert found == {"over": 0, "before": "inline", "after": "none", "other": "inline", "images": True, "rows": len(ROWS)}
    outside = text.replace("<h1>", '<img src="https://example.org/a.png"><h1>')
    (workspace.folder / "outside.html").write_text(outside)
    assert any("Content Security Policy" in line for line in browse(workspace.folder / "outside.html")[1])
