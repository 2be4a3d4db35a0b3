"""xERM: worked numbers, gradient, laws, and the two views of bases that embody other priors."""

import numpy as np
import pytest
import torch
from torch import nn

from lt.core.counts import uniform
from lt.core.params import Teacher
from lt.distill.xerm import TwoViews, Xerm, balanced_weight, mixture, teacher_loss
from lt.network.classifier import Classifier, DecisionRule
from lt.training.contracts import Mixed

IMBALANCED = torch.tensor([[2.0, 0.5, -1.0], [1.0, 0.2, 0.4]], dtype=torch.float64)
STUDENT = torch.tensor([[1.5, 0.7, -0.5], [0.3, -0.2, 0.9]], dtype=torch.float64)
PRIOR = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
TARGET = torch.tensor([0, 2])
BALANCED = IMBALANCED - PRIOR.log() + np.log(1 / 3)
COUNTS = np.array([70, 20, 10])


def options(**changes):
    return Teacher(**({"gamma": 1.5, "eps": 1e-5, "temperature": 1.0, "weights": "xerm", "student": "warm", "student_loss": "ce"} | changes))


def xerm(views, **changes):
    return Xerm(lambda images: views, options(**changes), None, COUNTS)


def losses(objective, student=STUDENT):
    return objective(None, student, Mixed(torch.zeros(len(TARGET), 3, 2, 2), TARGET, TARGET, torch.ones(2)))


def near(values):
    return pytest.approx(np.asarray(values), abs=1.1e-6)


def test_worked_views_and_their_losses():
    assert BALANCED.numpy() == near([[1.258063, 1.010826, 0.203973], [0.258063, 0.710826, 1.603973]])
    assert BALANCED.softmax(1).numpy() == near([[0.469602, 0.366738, 0.163661], [0.155901, 0.245178, 0.598921]])
    assert IMBALANCED.argmax(1).tolist() == [0, 0] and BALANCED.argmax(1).tolist() == [0, 2]
    losses_of = [nn.functional.cross_entropy(view, TARGET, reduction="none").numpy() for view in (IMBALANCED, BALANCED, STUDENT)]
    assert np.stack(losses_of) == near([[0.241311, 1.292217], [0.755871, 0.512625], [0.460373, 0.632166]])
    assert teacher_loss(STUDENT, BALANCED, 1.0).numpy() == near([1.081084, 0.995402])
    weight = balanced_weight(IMBALANCED, BALANCED, TARGET, 1.5, 1e-5)[:, None]
    target = weight * BALANCED.softmax(1) + (1 - weight) * nn.functional.one_hot(TARGET, 3)
    assert target.numpy() == near([[0.550661, 0.310690, 0.138649], [0.031166, 0.049013, 0.919821]])


def test_compensation_twice():
    twice = IMBALANCED - 2 * PRIOR.log() + np.log(1 / 3)
    assert twice.numpy() == near([[1.614738, 2.620264, 2.506558], [0.614738, 2.320264, 3.906558]])


@pytest.mark.parametrize(
    "gamma, eps, weight, loss",
    [
        (1.0, 1e-5, [0.757999, 0.284026], 0.833103),
        (1.5, 1e-5, [0.847172, 0.199909], 0.845501),
        (2.0, 1e-5, [0.907492, 0.135973], 0.852610),
        (2.0, 0.0, [0.907507, 0.135974], 0.852615),
    ],
)
def test_worked_numbers(gamma, eps, weight, loss):
    found = balanced_weight(IMBALANCED, BALANCED, TARGET, gamma, eps)
    assert found.tolist() == pytest.approx(weight, abs=2e-6)
    assert losses(xerm((IMBALANCED, BALANCED), gamma=gamma, eps=eps)).mean().item() == pytest.approx(loss, abs=2e-6)


def test_gradient_is_that_of_one_mixed_target():
    student = STUDENT.clone().requires_grad_()
    losses(xerm((IMBALANCED, BALANCED)), student).mean().backward()
    expected = [[0.040194, -0.013571, -0.026623], [0.130247, 0.063944, -0.194191]]
    assert torch.allclose(student.grad, torch.tensor(expected, dtype=torch.float64), atol=2e-6)


def test_eps_sends_well_fit_examples_to_the_ground_truth():
    logits = torch.tensor([[np.log(np.exp(-1e-3) / (1 - np.exp(-1e-3))), 0.0]], dtype=torch.float64)  # cross-entropy 1e-3
    weights = [balanced_weight(logits, logits, torch.tensor([0]), gamma, 1e-5).item() for gamma in (2.0, 1.5)]
    assert weights == pytest.approx([0.083333, 0.431736], abs=2e-4)


def test_uniform_prior_is_half_truth_half_self_distillation():
    weight = balanced_weight(IMBALANCED, IMBALANCED, TARGET, 1.5, 0.0)
    assert weight.tolist() == pytest.approx([0.5, 0.5])
    same = losses(xerm((IMBALANCED, IMBALANCED), eps=0.0))
    assert torch.allclose(same, losses(xerm((IMBALANCED, IMBALANCED), weights="half")))


def test_a_constant_per_example_changes_nothing():
    shift = torch.tensor([[3.0], [-7.0]], dtype=torch.float64)
    assert torch.allclose(
        losses(xerm((IMBALANCED + shift, BALANCED - shift)), STUDENT + 2 * shift), losses(xerm((IMBALANCED, BALANCED))), atol=1e-6
    )


def test_the_weight_exceeds_a_half_where_the_class_exceeds_the_harmonic_mean_of_the_prior():
    balanced_loss, imbalanced_loss = (nn.functional.cross_entropy(view, TARGET, reduction="none") for view in (BALANCED, IMBALANCED))
    gap = balanced_loss - imbalanced_loss
    law = (PRIOR[TARGET] * (IMBALANCED.softmax(1) / PRIOR).sum(1)).log()
    assert torch.allclose(gap, law)
    assert gap.tolist() == pytest.approx([0.514560, -0.779592], abs=2e-6)


@pytest.mark.parametrize("name, share", [("restart", [0, 0]), ("distill", [1, 1]), ("half", [0.5, 0.5]), ("swapped", [0.75, 0.25])])
def test_controls(name, share):
    assert mixture(name, torch.tensor([0.25, 0.75])).tolist() == share


def test_temperature_and_experts_follow_the_multi_expert_form():
    students = torch.tensor([[[6.0, 1, -3], [4, 2, -1]], [[2, 1, 3], [1, 0, 2]]], dtype=torch.float64)
    teachers = torch.tensor([[[5.0, 0, -2], [4, 1, 0]], [[3, 1, 0], [2, 2, 1]]], dtype=torch.float64)
    balanced = teachers - 2 * PRIOR.log() + np.log(1 / 3)
    weight = balanced_weight(teachers.mean(1), balanced.mean(1), TARGET, 1.0, 1e-5)
    assert weight.tolist() == pytest.approx([0.941061, 0.200694], abs=2e-6)
    views = [nn.functional.cross_entropy(view.mean(1), TARGET, reduction="none").numpy() for view in (teachers, balanced)]
    assert np.stack(views) == near([[0.022155, 2.407606], [0.353904, 0.604517]])
    for temperature, taught in ((1.0, [3.138704, 2.477177]), (2.0, [10.915655, 9.129095])):
        found = sum(teacher_loss(students[:, e], balanced[:, e], temperature) for e in range(2))
        assert found.tolist() == pytest.approx(taught, abs=2e-6)

    def ldam(logits, target):
        margin = 30 * torch.tensor([0.307394, 0.420448, 0.5], dtype=torch.float64)
        return nn.functional.cross_entropy(logits - margin * nn.functional.one_hot(target, 3), target, reduction="none")

    for temperature, loss in ((1.0, 13.505758), (2.0, 17.832550)):
        objective = Xerm(lambda images: (teachers, balanced), options(gamma=1.0, temperature=temperature), ldam, COUNTS)
        assert losses(objective, students).mean().item() == pytest.approx(loss, abs=2e-4)


def test_extreme_logits_stay_finite():
    student = torch.tensor([[300.0, -300.0, 0.0], [-300.0, 300.0, 0.0]], requires_grad=True)
    found = losses(xerm((50 * IMBALANCED.float(), -50 * BALANCED.float())), student)
    found.sum().backward()
    assert found.isfinite().all() and student.grad.isfinite().all()


def views_of(base_prior, offset):
    base = Classifier(nn.Flatten(), nn.Linear(3, 3), (0.0,) * 3, (1.0,) * 3)
    rule = DecisionRule(base.head, offset, False, 3)
    return base, TwoViews(base, np.asarray(base_prior), rule, uniform(3), None, COUNTS)


def test_views_of_a_plain_base():
    base, views = views_of(PRIOR.numpy(), -PRIOR.log().numpy())
    images = torch.rand(4, 3, 1, 1)
    imbalanced, balanced = views(images)
    assert torch.allclose(imbalanced, base(images), atol=1e-6)
    assert torch.allclose(balanced, base(images) - PRIOR.log().float(), atol=1e-6)


def test_views_of_a_base_that_has_compensated_already():
    base, views = views_of(uniform(3), None)
    images = torch.rand(4, 3, 1, 1)
    imbalanced, balanced = views(images)
    assert torch.allclose(imbalanced.softmax(1), (base(images) + PRIOR.log().float()).softmax(1), atol=1e-6)
    assert torch.equal(balanced, base(images))


def test_the_health_log_averages_by_third():
    objective = xerm((IMBALANCED, BALANCED))
    losses(objective)
    stats = objective.epoch_stats()
    assert stats == pytest.approx({"w_bal_head": 0.847172, "w_bal_mid": 0.0, "w_bal_tail": 0.199909}, abs=2e-6)
    objective.start_epoch(1, None, None, None)
    assert set(objective.epoch_stats().values()) == {0.0}
