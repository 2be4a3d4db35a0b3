"""The exported file: alone it gives the row's logits, for every kind of head and model; an unfaithful one is never written."""

import json
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from lt.core import artifacts, params
from lt.network import classifier
from lt.network.classifier import DecisionRule
from lt.predict import Calibration, Network, Predictor, open_predictor
from stages import export
from stages import predict as stage

CPU = torch.device("cpu")
SIZE = 8
ALONE = """
import json, sys, torch
sys.modules["lt"] = sys.modules["stages"] = None  # an import of the project fails
extra = {"model.json": ""}
model = torch.export.load("model.pt2", extra_files=extra).module()
images = torch.tensor(json.loads(sys.stdin.read()), dtype=torch.uint8)
print(json.dumps({"logits": model(images).tolist(), "extra": json.loads(extra["model.json"])}))
"""


@pytest.fixture(scope="module")
def built(stages_in):
    return stages_in(
        {"train.epochs": 1, "train.schedule": "constant"},
        "subsample", "base --seed 0", "features --seed 0", "retrain pc --seed 0",
    )  # fmt: skip


@pytest.fixture
def folder(built, monkeypatch):
    """A folder with the rows base and pc, as the working folder."""
    monkeypatch.chdir(built)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return built


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["export", *map(str, arguments)])
    export.main()


class Small(torch.nn.Module):
    """A stand-in for a backbone, quicker to export than those of the rows."""

    feature_dim, num_experts = 64, 1

    def __init__(self):
        super().__init__()
        self.conv, self.bn = torch.nn.Conv2d(3, 64, 3, padding=1), torch.nn.BatchNorm2d(64)

    def forward(self, images):
        return torch.relu(self.bn(self.conv(images))).mean((2, 3))


class Experts(torch.nn.Module):
    """A stand-in for a model of experts: two networks side by side."""

    feature_dim, num_experts = 64, 2

    def __init__(self):
        super().__init__()
        self.parts = torch.nn.ModuleList(Small() for _ in range(2))

    def forward(self, images):
        return torch.stack([part(images) for part in self.parts], dim=1)


def predictor_of(model, head, balanced_view=False, target=(1, 1, 1, 1)):
    """A predictor with fresh weights; batch-norm and running means away from their first values."""
    torch.manual_seed(0)
    backbone = model()
    spec = {"name": head, "options": {}, "feature_dim": 64, "num_classes": 4, "num_experts": backbone.num_experts}
    made = classifier.Classifier(backbone, classifier.build_head(spec, 0), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    generator = torch.Generator().manual_seed(1)
    for name, buffer in made.named_buffers():
        if name.endswith(("running_mean", "feature_mean", "centre")):
            buffer.normal_(0, 0.1, generator=generator)
    made.head = DecisionRule(made.head, np.array([0.0, 1.0, -2.0, 0.5]), balanced_view, 4)
    calibration = Calibration(1.7, np.full(4, 0.25), "images")
    facts = {"row": "made", "seed": 0, "image_size": SIZE, "crop": None, "classes": list("abcd"), "prior_name": "uniform"}
    return Predictor(Network(made, np.array([0.4, 0.3, 0.2, 0.1])), calibration, np.array(target), facts).eval()


def images_of(number):
    return torch.randint(256, (number, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)


@pytest.mark.slow
def test_the_file_runs_without_the_project(folder, monkeypatch, tmp_path, capsys):
    (tmp_path / "prior.json").write_text(json.dumps([5, 1, 1, 1, 1, 1, 1, 1, 1, 0]))
    run(monkeypatch, "--row", "pc", "--prior", tmp_path / "prior.json", "--output", tmp_path / "new" / "model.pt2")
    printed = capsys.readouterr().out
    assert "on 500 test images" in printed and "seed 0 (the first of params.yaml)" in printed
    predictor = open_predictor(params.load(), "pc", 0, str(tmp_path / "prior.json"), CPU)
    images = images_of(5)
    with torch.no_grad():
        expected = predictor(images.float() / 255)
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", ALONE], input=json.dumps(images.tolist()), cwd=tmp_path / "new",
        capture_output=True, text=True, env={"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    logits = torch.tensor(found["logits"])
    assert torch.equal(logits.isneginf(), expected.isneginf()) and logits.isneginf().sum() == 5
    torch.testing.assert_close(logits[:, :9], expected[:, :9], atol=1e-4, rtol=0)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["model.json", "model.pt2"]
    assert found["extra"] == json.loads((tmp_path / "new" / "model.json").read_text()) == predictor.facts
    assert found["extra"]["classes"] == list("0123456789") and found["extra"]["image_size"] == 8


def photos(folder):
    """Ten image files that are each odd in a way."""
    random = np.random.default_rng(0)

    def rgb(width, height):
        # Smooth, as photographs are, with some noise.
        y, x = np.mgrid[0:height, 0:width] / max(width, height)
        waves = np.stack([np.sin(9 * x + 3 * c) * np.cos(7 * y * (c + 1)) for c in range(3)], 2)
        return Image.fromarray(np.clip(128 + 90 * waves + random.normal(0, 15, waves.shape), 0, 255).astype(np.uint8))

    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    rgb(60, 40).convert("L").save(folder / "grey.jpg")
    rgb(50, 70).convert("CMYK").save(folder / "cmyk.jpg")
    rgb(90, 30).save(folder / "turned.jpg", exif=exif)
    rgb(1, 1).save(folder / "pixel.png")
    rgb(3, 5).save(folder / "tiny.bmp")
    rgb(1500, 1100).save(folder / "huge.jpg")
    rgb(300, 20).save(folder / "wide.png")
    rgb(17, 211).save(folder / "tall.webp", lossless=True)
    Image.fromarray(random.integers(0, 65536, (31, 27)).astype(np.uint16)).save(folder / "deep.png")
    see_through = rgb(40, 44).convert("RGBA")
    see_through.putalpha(Image.fromarray(random.integers(0, 256, (44, 40), dtype=np.uint8)))
    see_through.save(folder / "see_through.png")
    return sorted(folder.glob("*.*"))


def test_the_printed_usage_gives_what_predict_gives_for_odd_photos(folder, monkeypatch, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    files = photos(tmp_path / "photos")
    assert len(files) == 10
    run(monkeypatch, "--row", "base", "--output", tmp_path / "model.pt2")
    names = {}
    exec(capsys.readouterr().out.split("\n\n")[1], names)
    monkeypatch.setattr("sys.argv", ["predict", "--row", "base", "--json", "--top", "10", *map(str, files)])
    stage.main()
    told = json.loads(capsys.readouterr().out)
    assert told["broken"] == [] and len(told["preprocessing"]) == 4 and told["preprocessing"] == names["model_facts"]["preprocessing"]
    for file, image in zip(files, told["images"], strict=True):
        found = dict(zip(names["classes"], names["classify"](file).tolist()))
        assert found == pytest.approx({top["class"]: top["probability"] for top in image["top"]}, abs=1e-4), file.name
    assert len({image["top"][0]["probability"] for image in told["images"]}) == 10


@pytest.mark.parametrize(
    "model, head, balanced_view",
    [
        (Small, "cosine", False), (Small, "nearest_mean", False), (Small, "causal", False),
        (Experts, "linear", False), (Experts, "causal", True),
    ],
)  # fmt: skip
def test_every_kind_of_head_and_experts(model, head, balanced_view, tmp_path):
    predictor = predictor_of(model, head, balanced_view)
    assert export.write(predictor, images_of(10), tmp_path / "model.pt2") <= 1e-4
    program = torch.export.load(tmp_path / "model.pt2").module()
    for number in (1, 3, 33):
        with torch.no_grad():
            torch.testing.assert_close(program(images_of(number)), predictor(images_of(number).float() / 255), atol=1e-4, rtol=0)


def test_an_unfaithful_program_is_never_written_and_the_old_files_stay(monkeypatch, tmp_path):
    output = tmp_path / "model.pt2"
    output.write_text("old"), output.with_suffix(".json").write_text("old")
    other = export.program_of(predictor_of(Small, "linear", target=(1, 1, 1, 1.01)))
    monkeypatch.setattr(export, "program_of", lambda predictor: other)
    with pytest.raises(RuntimeError, match="is not written: its logits differ"):
        export.write(predictor_of(Small, "linear"), images_of(10), output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.pt2"]
    assert output.read_text() == output.with_suffix(".json").read_text() == "old"


def test_what_a_kill_has_left_is_removed(tmp_path):
    (tmp_path / ".model.pt2.killed.part").mkdir()
    (tmp_path / ".other.pt2.killed.part").mkdir()
    export.write(predictor_of(Small, "linear"), images_of(10), tmp_path / "model.pt2")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.pt2.killed.part", "model.json", "model.pt2"]


def test_a_full_disk_is_told_in_words_and_the_old_files_stay(tmp_path, monkeypatch):
    output, limit = tmp_path / "model.pt2", resource.getrlimit(resource.RLIMIT_FSIZE)
    output.write_text("old"), output.with_suffix(".json").write_text("old")
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
    try:
        with pytest.raises(artifacts.ArtifactError, match="could not write model.pt2 into .*free some space"):
            export.write(predictor_of(Small, "linear"), images_of(10), output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.pt2"] and output.read_text() == "old"


def test_artifacts_of_several_runs_are_refused(folder, monkeypatch, tmp_path):
    path = artifacts.row_dir("pc", 0) / "test_logits.npy"
    logits = artifacts.read_array(path)
    wrong = logits.copy()
    wrong[123, 4] += 0.1 * np.abs(logits).max()
    artifacts.write_array(path, wrong)
    monkeypatch.setenv("LT_VERIFY", "0")  # the manifest would tell it first
    try:
        with pytest.raises(artifacts.ArtifactError, match=r"differ from those in .*test_logits.npy .*run dvc repro"):
            run(monkeypatch, "--row", "pc", "--output", tmp_path / "model.pt2")
        assert not list(tmp_path.iterdir())
    finally:
        artifacts.write_array(path, logits)


def test_random_images_stand_in_where_the_raw_data_are_missing(folder, monkeypatch, capsys, tmp_path):
    def missing(*_, **__):
        raise ValueError("raw data are missing\nand more")

    monkeypatch.setattr(export, "open_dataset", missing)
    run(monkeypatch, "--row", "base", "--output", tmp_path / "model.pt2")
    assert "on random images, without the test images: raw data are missing\n" in capsys.readouterr().out


def test_names_without_the_ending_are_refused(folder, monkeypatch):
    with pytest.raises(ValueError, match=r"output: got model.onnx, expected a name that ends in .pt2"):
        run(monkeypatch, "--row", "base", "--output", "model.onnx")


def test_difference_is_relative_to_the_largest_logit_and_sees_nan_and_infinity():
    expected = torch.tensor([[-20.0, 3.0, -torch.inf]])
    assert export.difference_of(expected.clone(), expected) == 0
    assert export.difference_of(torch.tensor([[-20.0, 4.0, -torch.inf]]), expected) == pytest.approx(0.05)
    assert export.difference_of(torch.tensor([[0.3]]), torch.tensor([[0.2]])) == pytest.approx(0.1)
    for bad in (torch.nan, 0.0):
        assert export.difference_of(torch.tensor([[-20.0, 3.0, bad]]), expected) == torch.inf
