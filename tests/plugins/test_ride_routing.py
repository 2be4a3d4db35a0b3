"""RIDE's routing: which experts an image passes, what is learned of it, and that it survives a file."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lt.core import keys
from lt.core.counts import prior
from lt.core.schemas import Context
from lt.methods import ride_routing
from lt.network.classifier import DecisionRule, build_head, read_rule, write_rule
from lt.network.routing import Routed
from lt.retrain.contracts import Inputs

E, D, C = 3, 6, 4
COUNTS = np.array([120, 60, 30, 15])
SPEC = {"name": "cosine", "options": {"scale": 30.0}, "feature_dim": D, "num_classes": C, "num_experts": E}


def a_head(top=3, hidden=5, seed=0) -> Routed:
    return build_head(SPEC | {"routing": {"top": top, "hidden": hidden}}, seed).eval()


def some_features(size=64, seed=1):
    return torch.randn(size, E, D, generator=torch.Generator().manual_seed(seed))


def one_by_one(head: Routed, features: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Logits of one image, and how many experts it has passed: features (E, D)."""
    total = torch.zeros(C)
    for i in range(E):
        total = total + head.heads.heads[i](features[i : i + 1])[0]
        if i == E - 1:
            break
        largest = (total / (i + 1)).sort(descending=True).values[: head.top]
        seen = head.hidden[i](features[i] / features[i].norm()).clamp(min=0)
        if torch.sigmoid(head.need(torch.cat([largest, seen]))) <= 0.5:
            break
    return total / (i + 1), i + 1


@torch.no_grad()
def test_each_image_stays_with_the_experts_that_it_has_passed():
    head, features = a_head(), some_features()
    logits, passed = head(features), head.experts(head.judged(features)[1])
    assert logits.shape == (64, E, C) and set(passed.tolist()) == {1, 2, 3}
    for image in range(64):
        expected, number = one_by_one(head, features[image])
        assert passed[image] == number
        torch.testing.assert_close(logits[image], expected.expand(E, C))


def test_who_stops_does_not_come_back():
    assert Routed.experts(torch.tensor([[-1.0, 2.0], [1.0, -1.0], [1.0, 1.0], [0.0, 1.0]])).tolist() == [1, 2, 3, 1]


def test_no_more_logits_are_looked_at_than_there_are():
    assert a_head(top=30).need.in_features == C + 5


def test_a_further_expert_is_wanted_where_a_later_one_mends():
    right = torch.tensor([[1, 1, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0], [1, 0, 1]])
    means = F.one_hot(right, 2).float()  # target 1
    found = ride_routing.wanted(means, torch.ones(6, dtype=torch.int64))
    assert found.tolist() == [[0, 0], [1, 0], [1, 1], [0, 0], [0, 0], [0, 1]]


@pytest.fixture(scope="module")
def inputs():
    """Experts of which the first confuses classes 2 and 3 and the later ones do not; the last feature is noise."""
    labels = np.repeat(np.arange(C), COUNTS)
    random = np.random.default_rng(0)
    clean = 0.1 * random.normal(size=(len(labels), E, D))
    clean[np.arange(len(labels)), :, labels] += 1
    confused = labels >= 2
    clean[confused, 0, 2:4] = 0.7 + 0.1 * random.normal(size=(confused.sum(), 2))
    head = build_head(SPEC, 0)
    for part in head.heads:
        part.weight.data.copy_(torch.eye(C, D))
    clean = clean.astype(np.float32)
    clean.setflags(write=False)  # as a memory-mapped file is

    def new_head(name=None, **options):
        return build_head(SPEC, 1)

    return Inputs(clean[None], clean, labels, COUNTS, head, new_head, prior(COUNTS), 0, torch.device("cpu"))


def fitted(inputs, **options):
    return ride_routing.fit(dataclasses.replace(inputs, head=copy.deepcopy(inputs.head)), **{"steps": 300, "lr": 0.05} | options)


def test_images_that_the_first_expert_confuses_pass_a_second(inputs):
    result, features = fitted(inputs), torch.tensor(inputs.clean)
    with torch.no_grad():
        passed = result.head.experts(result.head.judged(features)[1]).numpy()
        right, first = (head(features)[:, 0].argmax(1).numpy() == inputs.labels for head in (result.head, inputs.head))
    confused = inputs.labels >= 2
    assert (passed[~confused] == 1).mean() > 0.9 and (passed[confused] > 1).mean() > 0.9
    assert first[confused].mean() < 0.8 and right.mean() > 0.95
    assert result.arrays["experts"] == pytest.approx(np.bincount(passed, minlength=E + 1)[1:] / len(passed))
    assert np.array_equal(result.logit_prior, prior(COUNTS)) and len(result.log) > 1


def test_the_first_loss_is_the_weighted_cross_entropy_of_the_need(inputs):
    """A step of rate 0 leaves the head as it was drawn; the loss is that of one batch, the mean over the experts but the last."""
    result = fitted(inputs, steps=1, lr=1e-12, batch_size=8, positive_weight=7.0, momentum=0.0, weight_decay=0.0, nesterov=False)
    generator, pool = keys.generator(0, "ride_routing"), ride_routing.ClassPool(inputs.labels, C)
    index = pool.draw_balanced(8, generator)
    means, needs = result.head.judged(torch.tensor(inputs.clean)[index])
    probability, wanted = torch.sigmoid(needs), ride_routing.wanted(means, torch.from_numpy(inputs.labels)[index])
    expected = -(7 * wanted * probability.log() + (1 - wanted) * (1 - probability).log()).mean()
    assert 0 < wanted.sum() < wanted.numel() and result.log[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_a_larger_weight_lets_more_images_pass(inputs):
    few, many = (fitted(inputs, positive_weight=weight, steps=60).arrays["experts"][0] for weight in (0.01, 100.0))
    assert many < few


def test_experts_stay_as_they_are_and_the_rule_survives_a_file(inputs, tmp_path):
    before = copy.deepcopy(inputs.head.state_dict())
    result, features = fitted(inputs, steps=5), some_features()
    for state in (result.head.heads.state_dict(), inputs.head.state_dict()):
        assert all(torch.equal(value, before[name]) for name, value in state.items())
    folder = tmp_path / "0"
    folder.mkdir()
    write_rule(folder, DecisionRule(result.head, None, False, C), result.logit_prior, None, dict.fromkeys(Context.model_fields, "-"))
    rule, row = read_rule(folder)
    assert row["head"]["routing"] == {"top": 30, "hidden": 16}
    with torch.no_grad():
        torch.testing.assert_close(rule(features), result.head(features))


def test_a_single_expert_is_refused(inputs):
    with pytest.raises(ValueError, match="models.ride_resnet32.experts above 1"):
        ride_routing.fit(dataclasses.replace(inputs, clean=inputs.clean[:, 0], views=inputs.views[:, :, 0]))
