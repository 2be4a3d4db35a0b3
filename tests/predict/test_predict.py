"""A row in use: its network gives the row's logits, its probabilities follow Bayes' rule, images of every kind, and mistakes."""

import csv
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import log_softmax, softmax

from lt.core import artifacts, command, params
from lt.core.counts import prior
from lt.core.subset import read_subset
from lt.data.dataset import open_dataset
from lt.evaluate.calibration import fit_temperature
from lt.evaluate.metrics import blocks
from lt.evaluate.row import evaluate
from lt.network import classifier
from lt.network.inference import predict
from lt import predictions
from lt.predict import Calibration, Network, Predictor, calibrate, describe, open_predictor, read_network, target_prior
from stages import predict as stage
from tests.conftest import ROOT

CPU = torch.device("cpu")
ROWS = [("base", 0), ("pc", 0), ("ncm", 0), ("dro_lt", 0), ("xerm_pc", 0), ("crt", 1)]


@pytest.fixture(scope="module")
def built(stages_in):
    """A folder with a row of each kind: seed 0 as it comes, seed 1 with batch-norm statistics of the features' own."""
    options = {"epochs": 1, "batch_size": 64, "head_epochs": 1, "eps_mode": "count"}
    stages_in(
        {"train.epochs": 5, "train.schedule": "constant", "distill.epochs": 1, "distill.schedule": "constant",
         "methods.dro_lt": options, "methods.ncm.space": "plain"},
        "subsample", "base --seed 0", "features --seed 0",
        *(f"retrain {method} --seed 0" for method in ("pc", "ncm", "dro_lt")), "distill pc --seed 0",
    )  # fmt: skip
    content = params.read_yaml(ROOT / "params.yaml")
    every = {key: content[key] for key in ("methods", "teachers")} | {"methods.dro_lt": options}
    stages_in(
        {"features.bn": "recalibrate_balanced", "features.batch_size": 64, "methods": {"crt": {"steps": 20}}, "teachers": {},
         "report.row": "base"},
        "base --seed 1", "features --seed 1", "retrain crt --seed 1",
    )  # fmt: skip
    return stages_in({"features.bn": "frozen", **every, "methods.crt.steps": 20})


@pytest.fixture
def folder(built, monkeypatch):
    """The folder, as the working folder."""
    monkeypatch.chdir(built)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return built


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """run(*arguments): what stages.predict prints."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["predict", *map(str, arguments)])
        stage.main()
        return capsys.readouterr().out

    return run


def cached(row, seed=0):
    return artifacts.read_array(artifacts.row_dir(row, seed) / "test_logits.npy")


def save_test_images(positions, path):
    split = open_dataset(params.load(), "test", check="none")
    files = [path / f"{position}.png" for position in positions]
    for position, file in zip(positions, files):
        Image.fromarray(split.images[position][..., 0]).save(file)
    return files


@pytest.mark.parametrize("row, seed", ROWS)
def test_the_network_gives_the_logits_that_were_evaluated(folder, row, seed):
    network = read_network(row, seed)
    found = predict(network, open_dataset(params.load(), "test", check="none"), CPU)
    np.testing.assert_allclose(found, cached(row, seed), atol=1e-4)
    embodied = artifacts.read_json(artifacts.row_dir(row, seed) / "row.json")["logit_prior"]
    assert network.logit_prior.tolist() == embodied


def test_the_kinds_of_rows_are_really_different(folder):
    assert (folder / "artifacts/retrain/dro_lt/0/backbone.safetensors").is_file()
    assert (folder / "artifacts/features/1/backbone.safetensors").is_file()
    logits = [cached(*row) for row in ROWS]
    for i, one in enumerate(logits):
        assert all(np.abs(one - other).max() > 0.1 for other in logits[:i])


def test_experts_count_as_their_mean_as_in_the_evaluation():
    spec = classifier.classifier_spec("ride_resnet32", {"experts": 2}, "linear", {}, 4, (0.5,) * 3, (0.5,) * 3)
    model = classifier.build(spec, 0).eval()
    images = torch.rand(3, 3, 8, 8)
    with torch.no_grad():
        of_experts, found = model(images), Network(model, np.full(4, 0.25))(images)
    assert of_experts.shape == (3, 2, 4)
    ((_, expected),) = blocks(of_experts.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-6)


class Fixed(torch.nn.Module):
    """Gives the images' first pixels as logits."""

    def forward(self, images):
        return images[:, 0, 0]


def predictor_of(logit_prior, calibration, target):
    return Predictor(Network(Fixed(), np.array(logit_prior)), calibration, np.array(target), {})


def probabilities(made, logits):
    return made(torch.tensor(logits)[None, None, None]).softmax(1)[0].tolist()


def test_priors_are_exchanged_by_bayes_rule():
    plain = Calibration(1.0, np.array([0.7, 0.3]), None)
    # Odds 1 under (0.8, 0.2) are 1/4 under the uniform prior; the prior of the calibration does not matter at temperature 1.
    assert probabilities(predictor_of([0.8, 0.2], plain, [0.5, 0.5]), [0.0, 0.0]) == pytest.approx([0.2, 0.8])
    assert probabilities(predictor_of([0.8, 0.2], plain, [0.8, 0.2]), [0.0, 0.0]) == pytest.approx([0.5, 0.5])
    assert probabilities(predictor_of([0.8, 0.2], plain, [3.0, 0.0]), [0.0, 9.0]) == [1.0, 0.0]


def test_temperature_acts_under_the_prior_it_was_fitted_at():
    logits = [np.log(16.0), 0.0]  # odds 16 under (0.8, 0.2), 4 under the uniform prior, 2 after temperature 2
    calibration = Calibration(2.0, np.array([0.5, 0.5]), "images")
    assert probabilities(predictor_of([0.8, 0.2], calibration, [0.5, 0.5]), logits) == pytest.approx([2 / 3, 1 / 3])
    assert probabilities(predictor_of([0.8, 0.2], calibration, [0.2, 0.8]), logits) == pytest.approx([1 / 3, 2 / 3])


def test_files_get_the_probabilities_of_their_cached_logits(run, tmp_path):
    positions = [0, 3, 77, 250, 499]
    files = save_test_images(positions, tmp_path)
    found = json.loads(run("--row", "pc", "--json", "--top", 99, *files))
    subset = read_subset()
    uniform = np.full(10, 0.1)  # what pc embodies, and the test part
    temperature = fit_temperature(cached("pc"), subset.test_labels)
    assert found["temperature"] == pytest.approx(temperature, rel=1e-3)
    assert found["temperature_fitted_on"] == "500 test images"
    assert found["prior"] == uniform.tolist() and found["seed"] == 0 and found["subset_sha256"] == subset.sha256
    expected = softmax(cached("pc")[positions] / found["temperature"], axis=1)
    for item, file, row in zip(found["images"], files, expected, strict=True):
        assert item["path"] == str(file)
        assert [best["class"] for best in item["top"]] == [str(c) for c in np.argsort(-row)]
        assert [best["probability"] for best in item["top"]] == pytest.approx(sorted(row, reverse=True), abs=1e-5)


@pytest.mark.parametrize("row", ["base", "pc", "xerm_pc"])
def test_the_page_and_predict_have_one_temperature(row, run, tmp_path):
    (file,) = save_test_images([0], tmp_path)
    found, subset = json.loads(run("--row", row, "--json", file)), read_subset()
    logit_prior = np.array(found["logit_prior"])
    told = evaluate(cached(row), subset.test_labels, subset.counts, logit_prior, 15)["temperature_at_test_prior"]
    assert found["temperature"] == pytest.approx(told, rel=1e-6)
    shifted = fit_temperature(cached(row) + np.log(0.1 / logit_prior), subset.test_labels)
    assert told == pytest.approx(shifted, rel=1e-3)
    if row == "base":
        assert abs(told - fit_temperature(cached(row), subset.test_labels)) > 0.01  # of the logits as they are


def test_a_prior_of_ones_own_moves_the_probabilities(run, tmp_path):
    (file,) = save_test_images([40], tmp_path)
    by_prior = {}
    (tmp_path / "even.json").write_text(json.dumps([1, 0] * 5))
    for name in ("uniform", "train", tmp_path / "even.json"):
        found = json.loads(run("--row", "base", "--json", "--top", 10, "--prior", name, file))
        assert found["prior_name"] == str(name)
        by_prior[str(name)] = {best["class"]: best["probability"] for best in found["images"][0]["top"]}
    uniform, train, even = by_prior.values()
    weighted = {name: value * count for (name, value), count in zip(sorted(uniform.items()), read_subset().counts)}
    assert train == pytest.approx({name: value / sum(weighted.values()) for name, value in weighted.items()}, abs=1e-6)
    assert all((even[str(c)] == 0) == (c % 2 == 1) for c in range(10))


def test_text_tells_row_seed_prior_temperature_and_the_classes(run, tmp_path):
    (file,) = save_test_images([7], tmp_path)
    first, second, line = run("--row", "xerm_pc", "--top", 3, file).splitlines()
    assert first == "xerm_pc, seed 0 (the first of params.yaml), prior uniform"
    assert second.startswith("calibrated: temperature ") and "fitted on 500 test images" in second
    assert line.startswith(f"{file}: ") and line.count(" %") == 3
    assert "first of params" not in run("--row", "crt", "--seed", 1, file)


def test_one_image_in_several_forms_is_one_prediction(run, tmp_path):
    (file,) = save_test_images([7], tmp_path)
    grey = Image.open(file).resize((64, 64), Image.Resampling.NEAREST)
    forms = {"grey": grey, "rgb": grey.convert("RGB"), "rgba": grey.convert("RGBA"), "palette": grey.convert("P")}
    for name, image in forms.items():
        image.save(tmp_path / f"{name}.png")
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    grey.rotate(180).save(tmp_path / "turned.png", exif=turned)
    paths = [tmp_path / f"{name}.png" for name in (*forms, "turned")]
    lines = [line.split(": ")[1] for line in run("--row", "base", *paths).splitlines()[2:]]
    assert len(lines) == 5 and len(set(lines)) == 1
    grey.rotate(180).save(tmp_path / "other.png")
    assert run("--row", "base", tmp_path / "other.png").splitlines()[2].split(": ")[1] != lines[0]


def test_broken_images_are_told_together_and_the_others_predicted(folder, monkeypatch, capsys, tmp_path):
    first, last = save_test_images([0, 1], tmp_path)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(first.read_bytes()[:60])
    bad = [tmp_path / name for name in ("text.png", "cut.png", "none.png")]
    monkeypatch.delenv("LT_DEBUG", raising=False)
    monkeypatch.setattr("sys.argv", ["predict", "--row", "base", *map(str, (first, *bad, last))])
    with pytest.raises(SystemExit) as ended:
        command.run(stage.main)
    assert "3 of 5 images cannot be read" in ended.value.code and all(f"  {path}: " in ended.value.code for path in bad)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in printed[2:]] == [str(first), str(last)]
    monkeypatch.setattr("sys.argv", ["predict", "--row", "base", "--json", str(bad[0]), str(bad[2])])
    with pytest.raises(ValueError, match="2 of 2"):
        stage.main()
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == [] and [item["path"] for item in told["broken"]] == [str(bad[0]), str(bad[2])]


@pytest.fixture
def validation(folder):
    """The subset, with a validation part of images that were not trained on, and the data set's training part."""
    subset, train = read_subset(), open_dataset(params.load(), "train")
    kept_out = np.setdiff1d(np.arange(len(train.labels)), subset.train_index)[::2]
    return replace(subset, val_index=kept_out, val_labels=train.labels[kept_out]), train


def test_the_temperature_comes_from_the_validation_part_where_there_is_one(validation):
    subset, train = validation
    settings, network = params.load(), read_network("base", 0)
    found = calibrate(settings, subset, "base", 0, network, CPU)
    assert found.fitted_on == f"{len(subset.val_labels)} validation images"
    assert found.prior.tolist() == prior(subset.drawn).tolist()
    # base embodies the prior that validation images come with: the logits stay as they are
    with torch.no_grad():
        logits = network(torch.from_numpy(train.images[subset.val_index]).permute(0, 3, 1, 2).float() / 255).numpy()
    assert found.temperature == pytest.approx(fit_temperature(logits, subset.val_labels), rel=1e-3)
    without = calibrate(settings, read_subset(), "base", 0, network, CPU)
    assert found.temperature != pytest.approx(without.temperature, rel=1e-3)


def test_a_validation_part_that_was_trained_with_calibrates_nothing(validation):
    settings, subset = params.load(), validation[0]
    settings.methods["pc"] = {"meta_set": "val"}
    for row in ("pc", "xerm_pc"):
        found = calibrate(settings, subset, row, 0, read_network(row, 0), CPU)
        assert found.fitted_on == "500 test images (the row was trained with the validation images)"
        assert found.temperature == calibrate(settings, read_subset(), row, 0, read_network(row, 0), CPU).temperature
    assert "validation" in calibrate(settings, subset, "ncm", 0, read_network("ncm", 0), CPU).fitted_on


def test_a_validation_part_of_the_data_sets_own_brings_its_own_frequencies(validation, monkeypatch):
    subset, train = validation
    kept = subset.val_labels != 9
    monkeypatch.setattr("lt.predict.open_dataset", lambda _, part: train if part == "val" else None)
    own = replace(subset, val_index=subset.val_index[kept], val_labels=subset.val_labels[kept], val_part="val")
    found = calibrate(params.load(), own, "base", 0, read_network("base", 0), CPU)
    expected = np.bincount(own.val_labels, minlength=10) + np.array([0] * 9 + [0.5])
    assert found.prior == pytest.approx(expected / expected.sum())
    assert found.fitted_on == f"{kept.sum()} validation images"


def test_without_the_raw_data_the_cached_test_logits_calibrate(validation, monkeypatch):
    def missing(*_):
        raise ValueError("raw data: 2 files are missing\n  one\n  two")

    monkeypatch.setattr("lt.predict.open_dataset", missing)
    found = calibrate(params.load(), validation[0], "base", 0, read_network("base", 0), CPU)
    assert found.fitted_on == "500 test images (no validation images: raw data: 2 files are missing)"


def test_the_fitted_temperature_is_the_best_one_under_the_prior_of_the_test_part(folder):
    settings, subset = params.load(), read_subset()
    found = open_predictor(settings, "base", 0, "uniform", CPU)
    shift = -np.log(found.network.logit_prior)

    def nll(temperature):
        return -log_softmax((cached("base") + shift) / temperature, axis=1)[np.arange(500), subset.test_labels].mean()

    best = found.facts["temperature"]
    assert nll(best) < min(nll(best * 1.02), nll(best / 1.02))


@pytest.mark.parametrize("logits", [None, "all right", "all wrong"])
def test_nothing_is_called_calibrated_that_is_not(folder, monkeypatch, tmp_path, logits):
    settings, subset = params.load(), read_subset()
    network = read_network("pc", 0)
    monkeypatch.setattr(artifacts, "ROOT", tmp_path)
    if logits:
        sign = 1 if logits == "all right" else -1
        artifacts.row_dir("pc", 0).mkdir(parents=True)
        one_hot = np.eye(10, dtype=np.float32)[subset.test_labels]
        artifacts.write_array(artifacts.row_dir("pc", 0) / "test_logits.npy", sign * one_hot)
    found = calibrate(settings, subset, "pc", 0, network, CPU)
    assert (found.temperature, found.fitted_on) == (1.0, None)
    facts = {"row": "pc", "seed": 0, "prior_name": "uniform", "temperature": 1.0, "temperature_fitted_on": None}
    assert "\nuncalibrated" in describe(facts, False)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--row", "xerm_pd"], r"row: got 'xerm_pd', expected a row of the table: base, .*; nearest: 'xerm_pc'"),
        (["--row", "balms"], r"artifacts/retrain/balms/0 is missing; .*dvc repro.*python -m stages.retrain balms --seed 0"),
        (["--row", "xerm_balms"], r"python -m stages.distill balms --seed 0"),
        (["--row", "base", "--seed", "7"], r"artifacts/base/7 is missing \(made: seed 0, 1\); .*stages.base --seed 7"),
        (["--row", "base", "--prior", "unifrom"], r"prior: got 'unifrom', expected uniform, train, or a JSON file"),
        (["--row", "base", "--top", "0"], r"top: got 0, expected at least 1"),
    ],
)
def test_mistakes_are_told_with_the_way_out(run, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(*arguments, "image.png")


@pytest.mark.parametrize("part, command", [("base/0", "stages.base --seed 0"), ("features/0", "stages.features --seed 0")])
def test_a_method_without_what_it_stands_on_is_refused(folder, part, command):
    away = folder / "artifacts" / part
    away.rename(folder / "away")
    try:
        with pytest.raises(artifacts.ArtifactError, match=command):
            read_network("pc", 0)
    finally:
        (folder / "away").rename(away)


def test_artifacts_of_another_data_set_are_refused(folder):
    settings = params.load().model_copy(update={"dataset": "cifar10"})
    with pytest.raises(ValueError, match="artifacts/data is of digits, params.yaml names dataset cifar10"):
        open_predictor(settings, "base", 0, "uniform", CPU)


def test_priors_by_name(folder):
    subset = read_subset()
    assert target_prior("uniform", subset).tolist() == [0.1] * 10
    assert target_prior("train", subset) == pytest.approx(subset.counts / subset.counts.sum())


@pytest.fixture
def photographs(folder, tmp_path):
    """A folder of five test images in folders of their own, a broken one and a text, and the readable ones' paths as they are walked."""
    (tmp_path / "b" / "deep").mkdir(parents=True)
    first, *rest = save_test_images([0, 3, 77, 250, 499], tmp_path)
    for number, file in enumerate(rest):
        file.rename(tmp_path / ("b" if number % 2 else "b/deep") / f"{number}.PNG")
    (tmp_path / "b" / "broken.jpg").write_text("no image")
    (tmp_path / "b" / "notes.md").write_text("no image")
    return tmp_path, [first, *(tmp_path / "b" / name for name in ("1.PNG", "3.PNG")), *(tmp_path / "b" / "deep" / name for name in ("0.PNG", "2.PNG"))]


def lines_of(path):
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            return [{key: value or None for key, value in line.items()} for line in csv.DictReader(file)]
    return [{key: value if value is None else str(value) for key, value in line.items()} for line in
            pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_folder_becomes_a_table(run, photographs, monkeypatch, tmp_path, ending):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    folder, readable = photographs
    monkeypatch.setattr(predictions, "IMAGES_AT_ONCE", 2)
    output = tmp_path / "made" / f"predictions.{ending}"
    told = {item["path"]: item["top"] for item in json.loads(run("--row", "pc", "--json", "--top", 2, *readable))["images"]}
    with pytest.raises(ValueError, match=r"^1 of 6 images cannot be read; .*\n  .*broken.jpg: UnidentifiedImageError") as error:
        run("--row", "pc", "--top", 2, folder, "--output", output)
    lines = lines_of(output)
    assert list(lines[0]) == ["path", "class", "probability", "class_2", "probability_2", "error"]
    assert [line["path"] for line in lines] == [str(path) for path in sorted([*readable, folder / "b" / "broken.jpg"])]
    assert str(error.value).endswith([line["error"] for line in lines if "broken" in line["path"]][0])
    for line in lines:
        if line["error"]:
            assert line["class"] is line["probability_2"] is None
            continue
        first, second = told[line["path"]]
        assert (line["class"], line["class_2"]) == (first["class"], second["class"])
        assert [float(line["probability"]), float(line["probability_2"])] == pytest.approx([first["probability"], second["probability"]], abs=1e-6)
    assert os.listdir(output.parent) == [output.name]


def test_a_list_names_images(run, photographs, tmp_path):
    _, readable = photographs
    (tmp_path / "list.txt").write_text("\n".join([str(readable[2]), "", f" {readable[0]} "]) + "\n")
    printed = run("--row", "base", "--output", tmp_path / "found.csv", "--top", 99, tmp_path / "list.txt", readable[1])
    lines = lines_of(tmp_path / "found.csv")
    assert [line["path"] for line in lines] == [str(readable[number]) for number in (2, 0, 1)] and "probability_10" in lines[0]
    assert f"{tmp_path / 'found.csv'}: 3 images, a line each" in printed


def test_a_table_is_whole_or_as_it_was(run, photographs, monkeypatch, tmp_path):
    folder, readable = photographs
    monkeypatch.setattr(predictions, "IMAGES_AT_ONCE", 2)
    output = tmp_path / "predictions.csv"
    output.write_text("old")
    once, calls = predictions.most_probable, []

    def stopped(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return once(*arguments)

    monkeypatch.setattr(predictions, "most_probable", stopped)
    with pytest.raises(KeyboardInterrupt):
        run("--row", "base", "--output", output, folder)
    assert len(calls) == 2 and output.read_text() == "old" and not list(tmp_path.glob(".*"))


def test_reading_stays_a_few_batches_ahead(photographs, monkeypatch):
    _, readable = photographs
    read = []
    monkeypatch.setattr(predictions, "IMAGES_AT_ONCE", 1)
    monkeypatch.setattr(predictions, "attempt", lambda path, size, crop: read.append(path) or "no image")
    batches = predictions.decoded_batches(readable * 20, 8)
    assert [next(batches)[0] for _ in range(3)] == [[path] for path in readable[:3]]
    batches.close()
    assert len(read) <= 3 + predictions.AHEAD + 1
    assert [path for batch, _ in predictions.decoded_batches(readable, 8) for path in batch] == readable


@pytest.mark.parametrize(
    "names, told",
    [
        (["--output", "predictions.xlsx", "image.png"], "output: got predictions.xlsx, expected a name that ends in .csv or .parquet"),
        (["empty"], "empty: got no image in it, expected files that end in .jpg"),
        (["none.txt"], "none.txt: the list of images cannot be read"),
    ],
)
def test_what_names_no_images_is_told(run, folder, names, told):
    (folder / "empty").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=told):
        run("--row", "base", *names)
