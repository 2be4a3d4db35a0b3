"""TDE as a row of the table and as a teacher: worked numbers, the option alpha, the base heads it refuses."""

import dataclasses

import numpy as np
import pytest
import torch

from lt.core import artifacts
from lt.core.schemas import Context
from lt.distill.xerm import TwoViews
from lt.methods import tde
from lt.network.classifier import Classifier, DecisionRule, build_head, read_rule, write_rule
from lt.retrain.contracts import Inputs

FEATURES = torch.tensor([[1.0, 2, 2, 0], [0.5, 0, 1, 3]])
WEIGHT = [[0.3, -0.1, 0.2, 0.4], [-0.2, 0.5, 0.1, 0], [0.1, 0.1, -0.3, 0.2]]
MEAN = [2.0, 1, 2, 1]
TOTAL = {1: [[4.605860, 9.211720, -3.822737], [13.379250, 0, 4.179078]],
         2: [[4.373659, 11.118642, 0.090433], [14.309258, -0.880684, 6.570130]]}
DIRECT = {1: [[-14.554518, 4.790095, -1.783944], [-0.086318, -3.107439, 5.611905]],  # alpha 2
          2: [[-24.033187, -5.016951, -5.027002], [-12.194304, -14.130486, -2.360748]]}  # alpha 3
ALPHA = {1: 2.0, 2: 3.0}
COUNTS = np.array([70, 20, 10])


def causal_head(num_heads, alpha=1.5, experts=1):
    options = {"num_heads": num_heads, "alpha": alpha}
    spec = {"name": "causal", "options": options, "feature_dim": 4, "num_classes": 3, "num_experts": experts}
    head = build_head(spec, 0)
    for part in head.heads if experts > 1 else [head]:
        part.load_state_dict({"weight": torch.tensor(WEIGHT), "feature_mean": torch.tensor(MEAN)})
    return head


def inputs(head):
    return Inputs(None, None, None, COUNTS, head, None, COUNTS / 100, 0, torch.device("cpu"))


def rule_of(result):
    return DecisionRule(result.head, result.offset, result.balanced_view, 3).eval()


def close(found, expected):
    torch.testing.assert_close(found.detach(), torch.tensor(expected), atol=2e-5, rtol=0)


@pytest.mark.parametrize("num_heads", [1, 2])
def test_worked_numbers(num_heads):
    result = tde.fit(inputs(causal_head(num_heads, ALPHA[num_heads])))
    close(rule_of(result)(FEATURES), DIRECT[num_heads])
    close(result.head(FEATURES), TOTAL[num_heads])
    assert result.log == [] and result.offset is None
    np.testing.assert_allclose(result.logit_prior, 1 / 3)


@pytest.mark.parametrize("num_heads", [1, 2])
def test_alpha_replaces_the_base_models_and_is_kept_in_the_artifact(num_heads, tmp_path):
    result = tde.fit(inputs(causal_head(num_heads, alpha=0.25)), alpha=ALPHA[num_heads])
    close(rule_of(result)(FEATURES), DIRECT[num_heads])
    write_rule(tmp_path, rule_of(result), result.logit_prior, None, dict.fromkeys(Context.model_fields, "x"))
    rule, row = read_rule(tmp_path)
    close(rule(FEATURES), DIRECT[num_heads])
    assert row["balanced_view"] and row["head"]["options"] == {"num_heads": num_heads, "alpha": ALPHA[num_heads]}


def test_alpha_zero_takes_nothing_away():
    close(rule_of(tde.fit(inputs(causal_head(1)), alpha=0.0))(FEATURES), TOTAL[1])


def test_experts_each_have_their_view():
    result = tde.fit(inputs(causal_head(1, experts=2)), alpha=2.0)
    views = rule_of(result)(torch.stack([FEATURES, FEATURES.flip(0)], dim=1))
    close(views[:, 0], DIRECT[1])
    close(views[:, 1], DIRECT[1][::-1])


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_other_heads_are_refused(name):
    head = build_head({"name": name, "options": {}, "feature_dim": 4, "num_classes": 3, "num_experts": 1}, 0)
    with pytest.raises(ValueError, match=f"tde takes .* causal head; got .* {type(head).__name__}; set head: causal"):
        tde.fit(inputs(head))


class Pixels(torch.nn.Module):
    """Images of four grey pixels are their own features."""

    def forward(self, images):
        return images[:, 0].flatten(1)


def test_the_teacher_sees_the_total_and_the_direct_effect():
    base = Classifier(Pixels(), causal_head(1, 2.0), (0.0,) * 3, (1.0,) * 3)
    result = tde.fit(dataclasses.replace(inputs(causal_head(1)), head=causal_head(1)), alpha=2.0)
    views = TwoViews(base, COUNTS / 100, rule_of(result), result.logit_prior, None, COUNTS)
    imbalanced, balanced = views(FEATURES.view(2, 1, 2, 2).expand(2, 3, 2, 2))
    close(imbalanced, TOTAL[1])
    close(balanced, DIRECT[1])


def test_a_causal_base_its_tde_row_and_its_student(stages_in, monkeypatch):
    teacher = {"gamma": 2.0, "eps": 1e-5, "temperature": 1.0, "weights": "xerm", "student": "warm", "student_loss": "ce"}
    folder = stages_in(
        {"head": "causal", "train.schedule": "constant", "distill.schedule": "constant", "methods.tde": {"alpha": None},
         "teachers.tde": teacher},
        "subsample", "base --seed 0", "features --seed 0", "retrain tde --seed 0", "distill tde --seed 0",
    )
    monkeypatch.chdir(folder)
    files = {row: artifacts.row_dir(row, 0) / "test_logits.npy" for row in ("base", "tde", "xerm_tde")}
    logits = {row: artifacts.read_array(file, dtype="float") for row, file in files.items()}
    assert all(np.isfinite(values).all() for values in logits.values())
    assert len({values.tobytes() for values in logits.values()}) == 3
    student = artifacts.read_json(artifacts.row_dir("xerm_tde", 0) / "row.json")
    np.testing.assert_allclose(student["logit_prior"], 0.1)
