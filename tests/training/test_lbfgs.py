"""Heads fitted to convergence: as scikit-learn fits them, by classes, in chunks, and features standardised behind a backbone."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lt.heads import causal, linear
from lt.models.identity import Identity
from lt.network.classifier import Standardised
from lt.training import lbfgs
from lt.training.objective import TrainingError

LABELS = np.repeat(np.arange(3), [60, 30, 10])
FEATURES = np.random.RandomState(1).normal(size=(3, 5))[LABELS] + np.random.RandomState(2).normal(size=(100, 5))


def cross_entropy(features, logits, target):
    return F.cross_entropy(logits, target, reduction="none")


def fitted(weight_decay=0.01, head=None, **options):
    torch.manual_seed(0)
    head = (head or linear.make(5, 3)).double()
    return head, lbfgs.converge(head, cross_entropy, FEATURES, torch.from_numpy(LABELS), weight_decay, **options)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_it_is_logistic_regression(monkeypatch, class_weight):
    from sklearn.linear_model import LogisticRegression

    monkeypatch.setattr(lbfgs, "ROWS_AT_ONCE", 33)
    monkeypatch.setattr(lbfgs, "TOLERANCE", 1e-14)
    monkeypatch.setattr(lbfgs, "GRADIENT", 1e-9)
    weights = None if class_weight is None else 1 / np.bincount(LABELS)
    head, log = fitted(class_weights=weights)
    theirs = LogisticRegression(C=1 / (100 * 0.01), class_weight=class_weight, tol=1e-8, max_iter=1000).fit(FEATURES, LABELS)
    logits = head(torch.from_numpy(FEATURES)).log_softmax(1).detach().numpy()
    assert np.abs(logits - theirs.predict_log_proba(FEATURES)).max() < 1e-4
    assert log[0]["step"] == 1 and log[-1]["loss"] < log[0]["loss"] and log[-1]["train_accuracy"] == theirs.score(FEATURES, LABELS)
    assert len(log) <= 21 and all(parameter.grad is None for parameter in head.parameters()) and not head.training


def test_the_prior_of_the_training_part_is_kept_whatever_the_penalty():
    """At the minimum the mean probability of a class is its frequency, as its bias is not penalised."""
    head, _ = fitted(weight_decay=10.0)
    assert head(torch.from_numpy(FEATURES)).softmax(1).mean(0).tolist() == pytest.approx([0.6, 0.3, 0.1], abs=1e-3)


def test_what_is_frozen_stays_and_a_running_mean_is_filled():
    head = causal.make(5, 3)
    head, _ = fitted(head=head)
    assert F.cosine_similarity(head.feature_mean, torch.from_numpy(FEATURES.mean(0)), dim=0).item() == pytest.approx(1)
    head = linear.make(5, 3)
    head.weight.requires_grad_(False)
    before = head.weight.detach().double().clone()
    fitted(head=head)
    assert torch.equal(head.weight, before) and head.bias.abs().max() > 0.1


def test_a_loss_that_is_not_finite_is_told():
    with pytest.raises(TrainingError, match="the loss is nan in pass 1"):
        lbfgs.converge(nn.Linear(5, 3), lambda f, z, t: z[:, 0] * torch.nan, FEATURES, torch.from_numpy(LABELS), 0.0)


def test_standardised_features():
    features = np.stack([np.arange(4), np.full(4, 7.1), [1e4, 3e4, 1e4, 3e4]], axis=1).astype(np.float32)
    backbone = Standardised(Identity(3))
    assert torch.equal(backbone(torch.from_numpy(features)), torch.from_numpy(features))
    backbone.fit(features)
    found = backbone(torch.from_numpy(features)).numpy()
    assert found[:, 0] == pytest.approx((np.arange(4) - 1.5) / np.sqrt(1.25), rel=1e-6)
    assert np.abs(found[:, 1]).max() < 1e-5 and found[:, 2].tolist() == [-1, 1, -1, 1]
