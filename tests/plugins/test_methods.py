"""Stage-2 methods: one contract for all of them, and the numbers of those that only rescale."""

import copy
import dataclasses
import importlib

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.metrics import recall_score
from torch.nn import functional as F

from lt.core import keys
from lt.core.counts import prior, uniform
from lt.core.options import constant_of
from lt.core.plugins import FOLDER, load, names, path_of
from lt.losses import ce
from lt.methods import lws, ncm, pc, tau_norm
from lt.network.classifier import DecisionRule, ExpertHeads, build_head
from lt.retrain import class_means
from lt.retrain.bank import FeatureBank, shuffled_batches
from lt.retrain.contracts import Inputs, Retrained
from lt.retrain.loop import fit_head
from lt.retrain.rescaling import normalised
from lt.training.randomness import Untouched

COUNTS = np.array([240, 160, 110, 70, 45, 30, 20, 12, 8, 5])
C, D, VIEWS = len(COUNTS), 16, 3
SPEC = {"name": "linear", "options": {}, "feature_dim": D, "num_classes": C, "num_experts": 1}
# A method that trains the backbone needs images, tde a causal base head, and ride_routing experts; they are tested on their own.
SPECIAL = ["tde", "ride_routing", *(name for name in names("methods") if "open_training" in (FOLDER / "methods" / f"{name}.py").read_text())]
METHODS = [name for name in names("methods") if name not in SPECIAL]
WITH_EXPERTS = [name for name in METHODS if constant_of(path_of("methods", name), "EXPERTS", default=True)]
NEEDS_LINEAR_HEAD = [name for name in METHODS if constant_of(path_of("methods", name), "NEEDS", default={}).get("head", [[]])[0] == ["linear"]]
QUICK = {"steps": 60, "batch_size": 32}


def quick(method):
    """A method with few steps, where it takes steps."""
    return QUICK if "steps" in (load("methods", method).__kwdefaults__ or {}) else {}


def gaussians(experts=1):
    """Ten overlapping Gaussian classes: long-tailed views and labels, and a balanced test set."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(C, D)) * 0.8
    labels = rng.permutation(np.repeat(np.arange(C), COUNTS))
    test_labels = np.repeat(np.arange(C), 60)
    clean, test = (centres[target] + rng.normal(size=(len(target), D)) for target in (labels, test_labels))
    views = clean + 0.2 * rng.normal(size=(VIEWS, *clean.shape))
    views, clean, test = (array.astype(np.float32) for array in (views, clean, test))
    if experts > 1:
        views, clean, test = (np.stack([array * (1 + e / 10) for e in range(experts)], axis=-2) for array in (views, clean, test))
    return views, clean, labels, test, test_labels


@pytest.fixture(scope="module")
def make_inputs():
    """make_inputs(seed=0, spec=SPEC, experts=1) -> Inputs with a base head trained by cross-entropy; test features, labels."""
    trained = {}

    def make(seed=0, head="linear", experts=1):
        views, clean, labels, test, test_labels = gaussians(experts)
        spec = {**SPEC, "name": head, "num_experts": experts}

        def new_head(name=None, **options):
            return build_head({**spec, "name": name or head, "options": options}, keys.derive(seed, "new head"))

        inputs = Inputs(views, clean, labels, COUNTS, new_head(), new_head, prior(COUNTS), seed, torch.device("cpu"))
        if (head, experts) not in trained:
            base, generator = build_head(spec, 7), keys.generator(7)
            batches = shuffled_batches(len(labels), 64, generator)
            bank = FeatureBank(inputs, torch.float32)
            recipe = {"steps": 200, "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}
            fit_head(base, ce.make(COUNTS), bank, lambda: next(batches), generator, **recipe)
            trained[head, experts] = base.state_dict()
        inputs.head.load_state_dict(trained[head, experts])
        return inputs, torch.from_numpy(test), torch.from_numpy(test_labels)

    return make


def logits_of(result, features):
    """What the retrain stage computes from a result."""
    rule = DecisionRule(result.head, result.offset, result.balanced_view, C).eval()
    with torch.no_grad():
        logits = rule(features)
    return logits if logits.ndim == 2 else logits.mean(1)


def accuracies(logits, target):
    """Accuracy over the three head classes, and over the four tail classes."""
    right = (logits.argmax(1) == target).float()
    return right[target < 3].mean().item(), right[target >= 6].mean().item()


@pytest.mark.parametrize("method, experts", [(name, 1) for name in METHODS] + [(name, 2) for name in (*WITH_EXPERTS, "ride_routing")])
def test_contract(method, experts, make_inputs):
    inputs, test, _ = make_inputs(experts=experts)
    given = {name: getattr(inputs, name).copy() for name in ("views", "clean", "labels", "counts", "logit_prior")}
    result = load("methods", method)(inputs, **quick(method))
    assert isinstance(result, Retrained)
    assert logits_of(result, test).shape == (len(test), C) and torch.isfinite(logits_of(result, test)).all()
    assert all(torch.isfinite(value).all() for value in result.head.state_dict().values())
    rebuilt = build_head(result.head.spec, 0)
    rebuilt.load_state_dict(result.head.state_dict())
    torch.testing.assert_close(rebuilt(test), result.head.eval()(test))
    assert result.logit_prior.shape == (C,) and result.logit_prior.dtype == np.float64
    assert (result.logit_prior > 0).all() and result.logit_prior.sum() == pytest.approx(1)
    assert result.offset is None or (result.offset.shape == (C,) and np.isfinite(result.offset).all())
    assert all(isinstance(array, np.ndarray) and np.isfinite(array).all() for array in result.arrays.values())
    for name, before in given.items():
        assert np.array_equal(getattr(inputs, name), before), f"{method} changed inputs.{name}"


@pytest.mark.parametrize("method", METHODS)
def test_log(method, make_inputs):
    result = load("methods", method)(make_inputs()[0], **quick(method))
    if not quick(method):
        assert result.log == []
        return
    assert result.log[-1]["step"] == QUICK["steps"] and len(result.log) == 20
    assert all(list(line) == list(result.log[0]) for line in result.log)
    assert all(isinstance(value, int | float) and np.isfinite(value) for line in result.log for value in line.values())
    assert {"step", "lr", "loss", "train_accuracy"} <= set(result.log[0])
    assert all(0 <= line["train_accuracy"] <= 1 for line in result.log)


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_bytes(method, make_inputs):
    def state(seed):
        inputs = make_inputs(seed)[0]
        untouched = Untouched(torch.device("cpu"))
        result = load("methods", method)(inputs, **quick(method))
        untouched.check(method)
        return [value.numpy().tobytes() for value in result.head.state_dict().values()], result.log, str(result.arrays)

    assert state(0) == state(0)
    if quick(method):
        assert state(0)[0] != state(1)[0]
    else:
        assert state(0) == state(1)


@pytest.mark.parametrize("method", METHODS)
def test_tail_classes_gain(method, make_inputs):
    inputs, test, target = make_inputs()
    _, base_tail = accuracies(inputs.head(test), target)
    head, tail = accuracies(logits_of(load("methods", method)(inputs, **(quick(method) and {"steps": 300})), test), target)
    assert tail > base_tail + 0.05
    assert head > 0.5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("head", ["cosine", "causal"])
def test_other_base_heads(method, head, make_inputs):
    inputs, test, target = make_inputs(head=head)
    _, base_tail = accuracies(inputs.head.eval()(test), target)
    if method in NEEDS_LINEAR_HEAD:
        with pytest.raises(ValueError, match=f"{method} rescales .* linear head; got .* {type(inputs.head).__name__}"):
            load("methods", method)(inputs)
        return
    result = load("methods", method)(inputs, **(quick(method) and {"steps": 200}))
    _, tail = accuracies(logits_of(result, test), target)
    assert tail > base_tail
    if quick(method) and head == "causal":
        assert result.head.feature_mean.abs().sum() > 0  # it was shown the batches


def test_tau_norm_numbers(make_inputs):
    weight, features = torch.tensor([[3, 4], [0, 2], [0.3, 0.4]], dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    expected = {0: [7, 2, 0.7], 0.5: [3.130495, 1.414214, 0.989949], 1: [1.4, 1.0, 1.4], 2: [0.28, 0.5, 2.8]}
    for tau, logits in expected.items():
        assert (normalised(weight, tau) @ features).tolist() == pytest.approx(logits, abs=6e-7)
    half = [[1.341641, 1.788854], [0, 1.414214], [0.424264, 0.565685]]
    assert normalised(weight, 0.5).numpy() == pytest.approx(np.array(half), abs=6e-7)
    norms = normalised(weight, 0.5).norm(dim=1)
    assert norms.tolist() == pytest.approx([2.236068, 1.414214, 0.707107], abs=6e-7)
    inputs, test, _ = make_inputs()
    before = inputs.head.weight.detach().clone()
    result = tau_norm.fit(inputs, tau=0.0)
    torch.testing.assert_close(result.head(test), test @ before.T)
    np.testing.assert_allclose(result.logit_prior, prior(COUNTS))
    np.testing.assert_allclose(tau_norm.fit(inputs, tau=1.5).logit_prior, 1 / C)


def test_tau_norm_keeps_the_bias_where_it_is_asked_to(make_inputs):
    inputs, test, _ = make_inputs()
    weight, bias = inputs.head.weight.detach().clone(), inputs.head.bias.detach().clone()
    assert bias.abs().max() > 0.1
    result = tau_norm.fit(inputs, bias="keep")
    torch.testing.assert_close(result.head(test), test @ normalised(weight, 1.0).T + bias)


@pytest.mark.parametrize("experts", [1, 2])
@pytest.mark.parametrize("bias", ["drop", "keep"])
def test_tau_is_chosen_on_the_validation_part(bias, experts, make_inputs):
    inputs, test, target = make_inputs(experts=experts)
    chosen_on = np.flatnonzero((np.arange(len(target)) % 3 > 0) & (target.numpy() > 0))  # none of class 0
    inputs = dataclasses.replace(inputs, val=test.numpy()[chosen_on], val_labels=target.numpy()[chosen_on])
    result = tau_norm.fit(dataclasses.replace(inputs, head=copy.deepcopy(inputs.head)), tau=None, bias=bias)

    def balanced(tau):
        logits = logits_of(tau_norm.fit(dataclasses.replace(inputs, head=copy.deepcopy(inputs.head)), tau=tau, bias=bias), test)
        labels, predicted = target[chosen_on].numpy(), logits.argmax(1)[chosen_on].numpy()
        return recall_score(labels, predicted, labels=np.arange(1, C), average="macro")

    wanted = {tau: balanced(tau) for tau in (np.arange(21) / 10).tolist()}
    assert {line["tau"]: line["val_balanced"] for line in result.log} == pytest.approx(wanted)
    (tau,) = [line["tau"] for line in result.log if line["chosen"]]
    assert wanted[tau] == max(wanted.values()) > wanted[0.0] and tau == max(wanted, key=wanted.get)
    fixed = tau_norm.fit(dataclasses.replace(inputs, head=copy.deepcopy(inputs.head)), tau=tau, bias=bias)
    torch.testing.assert_close(logits_of(result, test), logits_of(fixed, test))
    np.testing.assert_array_equal(result.logit_prior, fixed.logit_prior)


def test_tau_is_not_chosen_without_a_validation_part(make_inputs):
    with pytest.raises(ValueError, match="tau_norm.tau: got null.* no validation part; set subset.val_fraction"):
        tau_norm.fit(make_inputs()[0], tau=None)


def test_tau_norm_refuses_a_zero_class_vector():
    with pytest.raises(ValueError, match=r"classes \[1\] are zero"):
        normalised(torch.tensor([[1.0, 0], [0, 0]]), 1.0)


def test_lws_scales_weights_and_bias(make_inputs):
    inputs, test, _ = make_inputs()
    before = inputs.head(test).detach()
    result = lws.fit(inputs, steps=40, batch_size=32)
    scales = result.arrays["scales"]
    assert scales.shape == (C,) and np.abs(scales - 1).max() > 0.01
    torch.testing.assert_close(result.head(test).detach(), before * torch.from_numpy(scales))
    logged = [result.log[-1][f"scale_{name}"] for name in ("min", "mean", "max")]
    assert logged == pytest.approx([scales.min(), scales.mean(), scales.max()])


@pytest.mark.parametrize("space", ["cl2n", "l2n"])
def test_ncm_takes_class_means(space, make_inputs, monkeypatch):
    monkeypatch.setattr(class_means, "ROWS_AT_ONCE", 100)
    inputs, test, _ = make_inputs()
    centre = inputs.clean.mean(0) if space == "cl2n" else 0
    normalised = inputs.clean - centre
    normalised /= np.linalg.norm(normalised, axis=1, keepdims=True)
    means = np.stack([normalised[inputs.labels == c].mean(0) for c in range(C)])
    result = ncm.fit(inputs, space=space)
    np.testing.assert_allclose(result.head.means.detach(), means, atol=1e-5)
    query = F.normalize(test - torch.as_tensor(centre), dim=1).numpy()
    nearest = np.linalg.norm(query[:, None] - means, axis=2).argmin(1)
    assert (logits_of(result, test).argmax(1).numpy() == nearest).mean() > 0.995


@pytest.mark.parametrize("space", ["cosine", "plain"])
@pytest.mark.parametrize("experts", [1, 2])
def test_ncm_by_the_angle_and_by_plain_distances(space, experts, make_inputs):
    inputs, test, _ = make_inputs(experts=experts)
    clean, query = (np.asarray(array).reshape(len(array), experts, D) for array in (inputs.clean, test))
    result = ncm.fit(inputs, space=space)
    with torch.no_grad():
        found = DecisionRule(result.head, None, False, C).eval()(test).reshape(len(test), experts, C).numpy()
    for expert in range(experts):
        means = np.stack([clean[inputs.labels == c, expert].mean(0) for c in range(C)])
        nearest = cdist(query[:, expert], means, "cosine" if space == "cosine" else "euclidean").argmin(1)
        assert (found[:, expert].argmax(1) == nearest).mean() > 0.995
    assert build_head(result.head.spec, 0)(test).shape == result.head(test).shape
    others = [logits_of(ncm.fit(inputs, space=other), test).argmax(1) for other in ("cl2n", "l2n")]
    assert all((logits_of(result, test).argmax(1) != other).any() for other in others)


@pytest.mark.parametrize("method, tau", [("crt", None), ("balanced_softmax", 1.0), ("balanced_softmax", 0.25)])
def test_sampling_decides_what_a_head_sees_and_what_its_logits_embody(method, tau, make_inputs, monkeypatch):
    inputs, *_ = make_inputs()
    module, options = importlib.import_module(f"lt.methods.{method}"), {} if tau is None else {"tau": tau}
    seen = {}

    def watched(head, loss, bank, draw, generator, **recipe):
        seen["share"] = np.bincount(inputs.labels[torch.cat([draw() for _ in range(40)])], minlength=C) / (40 * 32)
        return []

    monkeypatch.setattr("lt.retrain.loop.fit_head", watched)
    found = {}
    for sampling in ("instance", "class_balanced"):
        found[sampling] = module.fit(inputs, **QUICK, **options, sampling=sampling).logit_prior
        sampled = prior(COUNTS) if sampling == "instance" else uniform(C)
        np.testing.assert_allclose(seen["share"], sampled, atol=0.02)
        exponent = (1 if sampling == "instance" else 0) - (tau or 0)
        np.testing.assert_allclose(found[sampling], prior(COUNTS) ** exponent / (prior(COUNTS) ** exponent).sum())
    assert not np.allclose(found["instance"], found["class_balanced"])


def test_balancing_twice_favours_the_tail(make_inputs):
    inputs, test, target = make_inputs()
    fits = (
        load("methods", "balanced_softmax")(inputs, steps=300, batch_size=32, sampling=sampling)
        for sampling in ("instance", "class_balanced")
    )
    once, twice = (accuracies(logits_of(fitted, test), target) for fitted in fits)
    assert twice[0] < once[0] and twice[1] > once[1]


def pc_inputs(logit_prior):
    return dataclasses.replace(NO_INPUTS, logit_prior=np.asarray(logit_prior), counts=np.array([100, 10, 1]))


NO_INPUTS = Inputs(None, None, None, None, None, None, None, 0, torch.device("cpu"))


@pytest.mark.parametrize("tau, logits", [(1.0, [2.104360, 3.406945, 4.709530]), (1.5, [2.156540, 4.610418, 7.064295])])
def test_pc_numbers(tau, logits):
    result = pc.fit(pc_inputs(prior([100, 10, 1])), tau=tau)
    shifted = np.array([2, 1, 0]) + result.offset
    assert shifted - shifted[0] == pytest.approx(np.array(logits) - logits[0], abs=2e-6)
    expected = np.array([100, 10, 1.0]) ** (1 - tau)
    np.testing.assert_allclose(result.logit_prior, expected / expected.sum())


def test_pc_never_compensates_twice():
    uniform = np.array([0.1, 0.1, 0.1]) / 0.1 / 3
    result = pc.fit(pc_inputs(uniform * (1 + 1e-15)), tau=1.0)
    assert result.offset.tolist() == [0, 0, 0]
    np.testing.assert_allclose(result.logit_prior, 1 / 3)


def test_pc_to_another_prior():
    result = pc.fit(pc_inputs([0.5, 0.3, 0.2]), target_prior=[0.2, 0.3, 0.5])
    assert result.offset == pytest.approx(np.log([0.4, 1.0, 2.5]))
    np.testing.assert_allclose(result.logit_prior, [0.2, 0.3, 0.5])


@pytest.mark.parametrize("target", [[0.5, 0.5], [0.5, 0.5, 0.0], [0.5, 0.5, 0.5], []])
def test_pc_refuses_what_is_no_prior(target):
    with pytest.raises(ValueError, match="pc.target_prior: got .* expected 3, one per class"):
        pc.fit(pc_inputs([0.5, 0.3, 0.2]), target_prior=target)


def test_experts_are_trained_as_if_each_were_alone(make_inputs):
    inputs, *_ = make_inputs(experts=2)
    together = load("methods", "crt")(inputs, **QUICK).head
    assert isinstance(together, ExpertHeads)
    for number, part in enumerate(together.heads):
        single = dataclasses.replace(
            inputs, views=inputs.views[:, :, number], new_head=lambda: inputs.new_head().heads[number]
        )
        alone = load("methods", "crt")(single, **QUICK).head
        torch.testing.assert_close(part.weight, alone.weight)


def test_methods_run_in_double_precision(make_inputs):
    inputs, test, _ = make_inputs()
    inputs = dataclasses.replace(inputs, head=inputs.head.double(), new_head=lambda name=None: build_head(SPEC, 0).double())
    for method in METHODS:
        if quick(method):
            result = load("methods", method)(inputs, **quick(method))
            assert result.head(test.double()).dtype == torch.float64
