"""The benchmarks' table, and that the two ways they compare compute the same."""

import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import (
    __main__, apart, cache, digits, images, inaturalist, large, lists, look_ahead, pretrained, rebalanced, scale, scale_jobs, sizes,
    traffic, training, views,
)
from benchmarks.timing import Row, medians, table
from lt.augments import crop
from lt.core import keys
from lt.core.subset import read_subset
from lt.data.decode import ImageFiles
from lt.features import apply_head
from lt.input import augmented
from lt.published import recipes
from lt.retrain import bank
from lt.retrain.bank import FeatureBank
from tests.conftest import ROOT


def test_a_row_below_its_bar_is_marked():
    cases = [(2.0, 1.25), (1.0, 1.25), (1.0, 1.15, False), (2.0, 1.15, False), (2.0, None), (float("nan"), 0.6, False)]
    verdicts = [Row("a", 1, 1, "s", *case).verdict for case in cases]
    assert verdicts == ["ok", "below", "ok", "below", "told", "below"]


def test_the_table_is_aligned():
    lines = table([Row("short", 1, 2, "s", 0.5), Row("a longer pair", 1000.0, 2, "images/s", 500.0, 1.25)]).split("\n")
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert lines[3] == "| a longer pair | 1e+03 | 2     | images/s | 500   | at least 1.25 | ok   |"


def test_functions_take_turns_and_the_first_round_does_not_count():
    calls = []
    found = medians(2, lambda: calls.append("a"), lambda: calls.append("b"))
    assert calls == ["a", "b"] * 3 and len(found) == 2 and all(0 <= value < 1 for value in found)


def test_memory_is_what_a_call_takes():
    code = "import torch; from benchmarks.timing import peak_mib; print(peak_mib(lambda: torch.ones(40 * 2**18)))"
    # in a process that has not been told to keep freed memory, as stages are
    found = float(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    if found == found:  # NaN where it cannot be measured
        assert 38 < found < 60


def test_the_longtail_da_gradients_agree():
    images, target = sizes.images(8)
    model, images = sizes.resnet32().train().double(), images.double() / 255
    objective, batch, dev = look_ahead.objective_of(100), (images[:4], target[:4]), (images[4:], target[4:])
    closed, other = (
        gradient(model, objective, batch, dev) for gradient in (look_ahead.eps_in_closed_form, look_ahead.eps_by_double_backward)
    )
    torch.testing.assert_close(closed, other.to(closed), rtol=1e-6, atol=1e-12)


def test_online_views_are_augmented_images_and_are_not_held():
    images = sizes.images(6)[0]
    model, augment = sizes.resnet32().eval(), crop.make(32)
    online = views.OnlineViews(model, images, augment)
    inputs = sizes.inputs(online, None, np.array([4, 2]))
    features, target = FeatureBank(inputs, torch.float32).batch(torch.tensor([1, 5, 5]), torch.Generator().manual_seed(0))
    assert target.tolist() == [0, 1, 1] and features.shape == (3, 64)
    assert not torch.equal(features[1], features[2])
    rows = np.array([1, 6 * 7 + 1])
    crops = augmented.augmented(images[[1, 1]], augment, keys.derive("benchmarks", "online"), torch.from_numpy(rows))
    torch.testing.assert_close(torch.from_numpy(online[rows]), model.features(crops).detach())


def test_the_network_of_the_accuracies_has_learned():
    trained = digits.train(10)
    assert trained.counts[[0, -1]].tolist() == [124, 2] and len(trained.images) == trained.counts.sum()
    predicted = apply_head(trained.model.head, trained.test_features, torch.device("cpu")).argmax(1)
    assert predicted.shape == (500,) and (predicted == trained.test_labels).mean() > 0.4


@pytest.mark.parametrize("method", large.PRODUCTS)
def test_a_head_is_trained_from_the_file(method, tmp_path):
    each = np.array([30, 15, 5])
    np.save(tmp_path / "counts.npy", each)
    large.write_features(tmp_path / "views.npy", each.sum())
    stored = np.load(tmp_path / "views.npy", mmap_mode="r")
    assert stored.shape == (1, 50, 2048) and stored.dtype == np.float16 and 0.9 < stored.astype(np.float32).std() < 1.1
    found = large.measure(tmp_path, method, steps=2)
    assert found["product_s"] > 0 and (found["mib"] > 50 or found["mib"] != found["mib"])


def test_the_whole_recipe_is_what_its_file_says():
    options = dict(recipes.find(large.RECIPE).overrides)["methods"]["balms"]
    assert options["batch_size"] == large.BATCH and options["meta_batch_size"] == 2 * large.BATCH  # what RECIPE_PRODUCTS counts
    row = large.recipe_row(quick=True)
    assert f"{options['steps']} steps" in row.pair and row.unit == "min" and np.isfinite([row.ours, row.other]).all()


def test_features_of_several_views_are_written(tmp_path):
    large.write_features(tmp_path / "views.npy", 5000, views=3, feature_dim=4, dtype="float32")
    stored = np.load(tmp_path / "views.npy")
    assert stored.shape == (3, 5000, 4) and stored.dtype == np.float32 and stored[2].std() > 0.9


PEAK = """
import time, torch
from benchmarks import apart
from benchmarks.timing import status_kib
held = torch.ones(60 * 2**18)
with apart.Peak() as peak:
    time.sleep(2 * apart.EVERY_S)
    del held
    time.sleep(2 * apart.EVERY_S)
print(peak.kib - status_kib("RssAnon") if peak.kib == peak.kib else "nan")
"""


@pytest.mark.slow
def test_the_greatest_private_memory_is_seen():
    """In a process of its own: where a stage has run, freed memory is kept (lt/core/command.py)."""
    told = subprocess.run([sys.executable, "-c", PEAK], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not float(told) <= 40 * 1024  # NaN where it cannot be measured


def test_photographs_are_as_large_as_those_of_imagenet(tmp_path):
    files = images.write_photographs(tmp_path, 4)
    found = ImageFiles(files, 32).read(np.arange(4))
    assert np.abs(np.diff(found.astype(int), axis=0)).mean() > 5  # they differ
    for file, size in zip(files, [(375, 500), (500, 375)]):
        with Image.open(file) as opened:
            assert opened.size == size
    assert all(70e3 < file.stat().st_size < 150e3 for file in files)


def test_both_ways_augment_the_same_files(tmp_path):
    files = images.write_photographs(tmp_path, 2)
    for batches in (images.ours(files), images.plain(files)):
        (batch,) = batches
        assert batch.shape == (2, 3, 224, 224) and batch.dtype == torch.float32
        assert 0 <= batch.min() < 0.3 and 0.7 < batch.max() <= 1


@pytest.mark.slow
def test_rates_of_few_photographs(tmp_path):
    files = images.write_photographs(tmp_path, 4)
    for make in (images.augmentation, images.packing, images.epochs):
        for way in make(files, tmp_path):
            way()
    assert len(list(tmp_path.glob("pack-*"))) == 2 and len(images.files_of(tmp_path)) == 4
    row = images.rates_row("decoding", 4, None, "decoding", tmp_path, 1)
    assert row.unit == "images/s" and row.ours > 0 and row.ratio == pytest.approx(row.ours / row.other)


def test_a_cache_is_its_numbers_and_a_header():
    rows = dict(zip(cache.SETS, cache.rows(quick=True)))
    assert rows["ImageNet-LT"].other == pytest.approx(115_846 * 2048 * 2 / 2**20)
    assert all((row.ours - row.other) * 2**20 == pytest.approx(128, abs=0.01) for row in rows.values())  # of .npy


@pytest.mark.slow
def test_lists_are_read_and_checked(tmp_path):
    folder = tmp_path / "lists"
    lists.write_lists(folder, 20_000)
    lines = [(folder / f"{part}.txt").read_text().splitlines() for part in ("train", "test")]
    assert list(map(len, lines)) == [19_000, 1000]
    assert lines[1][0] == f"test/{19_000 % 8142:04d}/{19_000:032x}.jpg {19_000 % 8142}"
    assert apart.measure_apart("benchmarks.lists", folder)["s"] > 0
    with open(folder / "test.txt", "a") as file:
        file.write(f"{lines[0][5]}\n")
    with pytest.raises(ValueError, match=r"in .*train.txt \(train\) and in .*test.txt \(test\)"):
        lists.measure(folder)


def test_files_are_looked_at(tmp_path):
    row = lists.files_row(tmp_path, 1500, 1)
    assert row.ours > 0 and row.other > 0 and len(list(tmp_path.rglob("*.jpg"))) == 1500


def test_the_counts_are_those_of_inaturalist():
    each = inaturalist.counts(1)
    assert len(each) == 8142 and abs(each.sum() - 437_513) < 100 and each.max() == 1000 and each.min() >= 1


def test_jobs_of_inaturalist_run_on_small_lists(tmp_path):
    each = np.array([400, 30, 5, 2])
    inaturalist.write(tmp_path, each)
    logits = np.load(tmp_path / "logits.npy")
    assert logits.shape == (12, 4) and (logits.argmax(1) == inaturalist.tested_labels(4)).mean() > 0.8
    for job in (*inaturalist.AGAINST, "class_aware", "progressive"):
        found = inaturalist.measure(tmp_path, job)
        assert found["ours_s"] > 0 and found["other_s"] > 0 and (found["mib"] > 50 or found["mib"] != found["mib"])
    drawn = read_subset(tmp_path)
    assert drawn.counts.tolist() == each.tolist() and len(drawn.test_labels) == 12


def test_jobs_of_very_many_rows_run_on_few(tmp_path, monkeypatch):
    monkeypatch.setattr(bank, "IN_MEMORY_BYTES", bank.IN_MEMORY_BYTES)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setenv("LT_VERIFY", "")
    monkeypatch.chdir(tmp_path)
    assert {*scale.JOBS} == {*scale_jobs.JOBS}
    for jobs in scale.SERIES:
        folder = tmp_path / jobs[0]
        folder.mkdir()
        for job in jobs:
            found = scale_jobs.measure(folder, job, 20_000 if job == "lists" else 600, 12)
            assert found["cpu_s"] >= 0 and (found["mib"] > 50 or found["mib"] != found["mib"])
    assert read_subset(tmp_path / "subsample").counts.sum() > 400
    assert "balms" in (tmp_path / "evaluate/results/report.html").read_text()
    logits = np.load(tmp_path / "evaluate/logits.npy")
    assert logits.shape == (600, 12) and (logits.argmax(1) == np.arange(600) % 12).mean() > 0.8


def test_a_size_stands_beside_the_first_and_below_the_bar_of_memory():
    time_row, memory_row = scale.lines("subsample", (3000, 10), {"cpu_s": 6.0, "mib": 4096.0}, (1000, 10), 2.0)
    assert (time_row.ratio, time_row.bar, time_row.verdict) == (3.0, 6.0, "ok")
    assert (memory_row.ratio, memory_row.verdict) == (2.0, "below")
    assert scale.lines("subsample", (1000, 10), {"cpu_s": 2.0, "mib": 100.0}, (1000, 10), 2.0)[0].verdict == "told"


def test_gradients_in_a_ring_and_the_network_that_takes_a_tenth_of_a_step():
    small, large = traffic.counted("resnet32", 32, 100), traffic.counted("resnet50", 224, 1000)
    assert small.parameters == 463_504 + 6500 and small.flops == pytest.approx(training.flops_per_image(), rel=0.02)
    assert large.parameters == 25_557_032 and large.flops == pytest.approx(3 * 8.2e9, rel=0.01)
    assert traffic.ring_bytes(large) == pytest.approx(178.9e6, rel=1e-3)
    step = traffic.step_s(large, 2048)
    assert step == pytest.approx(256 * large.flops / 98.9e12)
    flat, hidden = traffic.added_s(large, step, 225.5)
    assert flat == pytest.approx(step / 10, rel=0.01) and hidden == pytest.approx(flat * 26.2 / 102.2, rel=0.01)
    flat, hidden = traffic.added_s(large, step, 10)
    assert hidden == pytest.approx(flat - 2 / 3 * step)
    assert "| 225 |" in traffic.line("resnet50", large, 2048)


def test_every_part_is_named():
    assert all(part in __main__.__doc__.split() for part in __main__.PARTS)


def test_each_part_is_printed_as_it_ends(monkeypatch, capsys):
    def rows(quick):
        return [Row("first", 1, 2, "s", 0.5, 1.0)]

    def fails(quick):
        raise OSError("no space")

    parts = {"one": SimpleNamespace(rows=rows), "two": SimpleNamespace(rows=fails)}
    monkeypatch.setattr(__main__, "PARTS", parts)
    monkeypatch.setattr("sys.argv", ["benchmarks", "--quick"])
    with pytest.raises(OSError, match="no space"):
        __main__.main()
    assert re.search(r"one, \d+ s in all\n\n\| pair .*\n.*\n\| first", capsys.readouterr().out)
    monkeypatch.setattr(__main__, "PARTS", {"one": parts["one"]})
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 1  # a row is below its bar


def test_our_epoch_is_made(monkeypatch):
    monkeypatch.setattr(training, "can_compile", lambda: False)
    images, labels = sizes.images(128)
    assert callable(training.ours(images, labels, "crop_flip", torch.device("cpu")))


@pytest.mark.parametrize("augment", training.PLAIN)
def test_the_plain_loop_sees_the_same_shapes(augment):
    images, labels = sizes.images(4)
    image, label = training.PilImages(images, labels, augment)[2]
    assert image.shape == (3, 32, 32) and image.dtype == torch.float32 and label == labels[2]
    assert image.abs().max() <= 2


def test_the_sizes_are_those_of_cifar_100_lt():
    assert abs(sizes.counts(10_847, 100).sum() - 10_847) < 50
    assert sizes.counts(10_847, 100)[[0, -1]].tolist() == pytest.approx([500, 5], rel=0.01)
    # 69 million products and as many sums, once forward and twice backward
    assert training.flops_per_image() == pytest.approx(3 * 2 * 69.1e6, rel=0.02)


def test_a_fit_of_the_estimator_is_timed_beside_logistic_regression():
    time_row, accuracy_row = rebalanced.rows(quick=True)
    assert 0 < time_row.ours and time_row.bar == 2 and not time_row.at_least
    assert 0.3 < accuracy_row.ours <= 1 and accuracy_row.verdict in ("ok", "below")


@pytest.mark.slow
def test_the_classifiers_that_are_compared_see_the_tail():
    pytest.importorskip("imblearn")
    found = rebalanced.accuracies(rebalanced.made(1000, 2000, 20, seed=0), rebalanced.classifiers())
    plain, ours = found["LogisticRegression"], found['RebalancedClassifier("balanced_softmax")']
    assert len(found) == 8 and ours[0] > plain[0] and ours[1] > plain[1] + 0.1


def test_all_heads_on_a_network_that_stays_as_it_is(tmp_path, monkeypatch):
    pytest.importorskip("timm")
    model = {"name": "test_efficientnet", "weights": None, "trainable": "head", "image_size": 32}
    data, seconds = pretrained.features("digits", 20.0, model, tmp_path)
    assert seconds > 0 and data["train"].shape == (len(data["train_labels"]), 256) and data["test"].shape == (500, 256)
    again, cached = pretrained.features("digits", 20.0, model, tmp_path)
    assert cached is None and all(np.array_equal(again[part], data[part]) for part in pretrained.PARTS)
    assert pretrained.features("digits", 10.0, model, tmp_path)[1] is not None
    monkeypatch.setattr(pretrained, "RIDGES", (1e-3, 1e3))
    assert pretrained.best_ridge(data["train"], data["train_labels"]) == 1e-3
    makers = pretrained.heads(1e-3, len(data["train"]), with_sklearn=True)
    assert len(makers) == 10
    plain, ours = (pretrained.measured(makers[name](), data)[0] for name in ("plain linear head", "balanced_softmax"))
    assert ours["balanced"] > plain["balanced"] > 0.3
    assert pretrained.line("a", {"balanced": 0.5, "many": float("nan")}, 1.25) == "| a | 50.0 | - | 1.2 |"
