"""RIDE through the pipeline: two experts with cosine heads and their own loss, compensated twice, and the student they teach."""

import numpy as np
import pytest

from lt.core import artifacts
from lt.core.counts import log_prior
from lt.core.subset import read_subset
from lt.network.classifier import read_classifier

TEACHER = {"gamma": 1.0, "eps": 1e-5, "temperature": 2.0, "weights": "xerm", "student": "warm", "student_loss": "base"}


@pytest.fixture(scope="module")
def ride(stages_in):
    """The stages' outputs, from one epoch each."""
    folder = stages_in(
        {"model": "ride_resnet32", "models.ride_resnet32.experts": 2, "head": "cosine", "loss": "ride", "train.epochs": 1,
         "train.schedule": "constant", "distill.epochs": 1, "distill.schedule": "constant", "methods.pc.tau": 2.0,
         "methods.crt.steps": 5, "teachers.pc": TEACHER},
        "subsample", "base --seed 0", "features --seed 0", "retrain pc --seed 0", "retrain crt --seed 0", "distill pc --seed 0",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


def logits(row):
    return artifacts.read_array(artifacts.row_dir(row, 0) / "test_logits.npy", dtype="float")


def test_every_row_has_logits_of_each_expert(ride):
    images = len(read_subset().test_labels)
    for row in ("base", "pc", "crt", "xerm_pc"):
        assert logits(row).shape == (images, 2, 10), row
        assert np.isfinite(logits(row)).all(), row


def test_experts_differ(ride):
    for row in ("base", "crt", "xerm_pc"):
        assert np.abs(logits(row)[:, 0] - logits(row)[:, 1]).max() > 0.1, row


def test_logits_are_scaled_cosines(ride):
    assert np.abs(logits("base")).max() <= 30 + 1e-4


def test_compensation_takes_the_prior_off_twice_from_each_expert(ride):
    shift = logits("pc") - logits("base")
    expected = -2 * log_prior(read_subset().counts)
    np.testing.assert_allclose(shift - shift[..., :1], np.broadcast_to(expected - expected[0], shift.shape), atol=1e-4)


def test_the_student_leaves_the_teacher(ride):
    base, base_row = read_classifier(artifacts.row_dir("base", 0))
    student, student_row = read_classifier(artifacts.row_dir("xerm_pc", 0))
    assert base_row["classifier"] == student_row["classifier"]
    weights = dict(student.named_parameters())
    moved = [name for name, value in base.named_parameters() if not value.equal(weights[name])]
    for part in ("backbone.experts.0", "backbone.experts.1", "backbone.stage1", "head.heads.0", "head.heads.1"):
        assert any(name.startswith(part) for name in moved), part


def test_the_students_log_shows_the_weight_of_the_teacher(ride):
    (line,) = artifacts.read_log(artifacts.row_dir("xerm_pc", 0) / "log.csv")
    assert np.isfinite(line["loss"]) and all(0 < line[f"w_bal_{third}"] < 1 for third in ("head", "mid", "tail"))
