"""Looking at the test part while a base model is trained: what is logged, and that the training does not notice."""

import dataclasses

import numpy as np
import pytest
import torch

from lt.base.trained import train_base
from lt.core import artifacts
from lt.core.params import Settings
from lt.core.subset import Subset
from lt.data.split import Split
from lt.input.part import TrainingPart, training_part
from lt.mixes import unimix
from lt.network import inference
from lt.training import checkpoint, engine, setup
from tests.training.test_engine import Stateful, make_run

COUNTS = (20, 10, 5)
NONE = np.zeros(0, dtype=np.int64)


def split(seed: int, per_class: tuple[int, ...]) -> Split:
    """Noise with a brightness for each class."""
    labels = np.repeat(np.arange(3), per_class)
    noise = np.random.default_rng(seed).integers(0, 120, (len(labels), 8, 8, 3))
    return Split((noise + 60 * labels[:, None, None, None]).astype(np.uint8), labels, ("a", "b", "c"), (0.5,) * 3, (0.25,) * 3)


TEST = split(1, (4, 6, 8))


def part() -> TrainingPart:
    train = split(0, COUNTS)
    subset = Subset(
        dataset="made", classes=train.classes, counts=np.array(COUNTS), train_index=np.arange(35), train_labels=train.labels,
        val_index=NONE, val_labels=NONE, test_labels=TEST.labels, profile="none", imbalance=4.0, drawn=np.array(COUNTS),
        val_fraction=0.0, seed=0, sha256="", raw_sha256="", image_size=8, mean=train.mean, std=train.std,
    )  # fmt: skip
    return training_part(train, subset, torch.device("cpu"))


def configured(settings: Settings, **changes) -> Settings:
    content = settings.model_dump()
    content["train"] |= {"epochs": 5, "batch_size": 16, "warmup_epochs": 0, "compile": "off", **changes}
    return Settings.model_validate(content | {"augment": "crop_flip", "head": "causal"})


@pytest.fixture
def trained(settings, monkeypatch, tmp_path):
    """trained(test_every): the base model after five epochs."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return lambda every, test=TEST: train_base(configured(settings, test_every=every), part(), 0, test)


def test_every_second_epoch_and_the_last_one_are_tested(trained):
    log = trained(2).log
    for name in ("test_top1", "test_balanced"):
        assert [np.isnan(line[name]) for line in log] == [True, False, True, False, False]
    assert all(list(line) == list(log[0]) for line in log)


def test_the_last_epoch_is_the_model_that_is_kept(trained):
    found = trained(5)
    right = inference.predict(found.model, TEST, torch.device("cpu")).argmax(1) == TEST.labels
    assert found.log[-1]["test_top1"] == pytest.approx(right.mean())
    assert found.log[-1]["test_balanced"] == pytest.approx(np.mean([right[TEST.labels == c].mean() for c in range(3)]))


def test_the_training_does_not_notice(trained):
    plain, tested = trained(0), trained(1)
    assert checkpoint.digest(plain.model) == checkpoint.digest(tested.model)
    without = [{name: value for name, value in line.items() if not name.startswith("test_")} for line in tested.log]
    assert without == plain.log and "test_top1" not in plain.log[0]
    state = tested.model.state_dict()
    assert any(name.endswith("running_mean") for name in state) and any(name.startswith("head.") for name in state)


@pytest.mark.parametrize("stop_epoch", [None, 2])
def test_the_recorded_prior_follows_the_labels_of_the_last_epoch(trained, settings, stop_epoch):
    changed = settings.model_dump()
    changed["mix"], changed["mixes"]["unimix"] = "unimix", {"tau": -1.0, "alpha": 0.8, "stop_epoch": stop_epoch}
    changed = configured(Settings.model_validate(changed))
    found = train_base(changed, part(), 0).logit_prior
    natural = np.array(COUNTS) / 35
    if stop_epoch:
        assert found == pytest.approx(natural)
    else:
        labels = unimix.make(np.array(COUNTS), tau=-1.0).label_distribution(natural, np.ones(3), 16, 4)
        assert found == pytest.approx(labels / labels.sum()) and found[2] > 1.3 * natural[2]


def test_an_objective_finds_the_model_as_the_epoch_has_left_it():
    plain = make_run(objective=Stateful())
    tested = make_run(objective=Stateful(), test=lambda model, epoch: {"mode": float(model.eval().training)})
    engine.train(plain), engine.train(tested)
    assert checkpoint.digest(plain.model) == checkpoint.digest(tested.model) and tested.log[0]["mode"] == 0.0


def test_a_stopped_run_keeps_its_columns(trained, monkeypatch, tmp_path):
    whole = trained(2)
    monkeypatch.setattr(checkpoint, "SAVE_EVERY_S", -1.0)
    train_step, done = engine._train_step, []

    def stopping(*arguments):
        done.append(arguments)
        if len(done) == 11:
            raise MemoryError("killed")
        return train_step(*arguments)

    monkeypatch.setattr(engine, "_train_step", stopping)
    with pytest.raises(MemoryError):
        trained(2)
    again = trained(2)
    assert len(done) == 16, "three steps in each of five epochs, one of them twice"
    assert checkpoint.digest(again.model) == checkpoint.digest(whole.model)
    for name, log in (("whole", whole.log), ("again", again.log)):
        artifacts.write_log(tmp_path / f"{name}.csv", log)
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()
    assert np.isnan(artifacts.read_log(tmp_path / "again.csv")[0]["test_top1"])


def test_nothing_is_tested_without_a_test_part(settings):
    every = configured(settings, test_every=1).train
    assert setup.tester(every, None, torch.device("cpu")) is None
    assert setup.tester(configured(settings, test_every=0).train, TEST, torch.device("cpu")) is None


def test_a_class_without_a_test_image_does_not_count(settings):
    test = dataclasses.replace(TEST, images=TEST.images[:10], labels=TEST.labels[:10])
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(3))
    with torch.no_grad():
        model(torch.zeros(1, 3, 8, 8))
        model[1].weight.zero_(), model[1].bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    measured = setup.tester(configured(settings, test_every=1).train, test, torch.device("cpu"))(model, 0)
    assert measured == {"test_top1": pytest.approx(0.4), "test_balanced": pytest.approx(0.5)}
