"""RebalancedClassifier: scikit-learn's own checks, its tools, the stages' probabilities, priors, and what is refused."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from lt.core import artifacts
from lt.core.counts import prior, uniform
from lt.core.params import load
from lt.core.subset import read_subset
from lt.data.dataset import open_dataset
from lt.evaluate.label_shift import prior_shift
from lt.sklearn import RebalancedClassifier
from tests.data.test_embeddings import CHANGES, make, save

# Checks that are known to fail: none.
EXPECTED_FAILURES = {}


@pytest.fixture(scope="module")
def imbalanced():
    """Three overlapping classes of 8 columns, 20 to 1, and rows to judge on."""
    X, y = make_classification(
        3000, n_features=8, n_informative=5, n_classes=3, n_clusters_per_class=1, weights=[0.83, 0.13, 0.04], class_sep=0.6, random_state=1
    )
    return X[:1500], y[:1500], X[1500:], y[1500:]


@pytest.mark.parametrize("method, steps", [("balanced_softmax", None), ("pc", None), ("balms", 20), ("ncm", None)])
def test_scikit_learn_s_own_checks_pass(method, steps):
    results = check_estimator(RebalancedClassifier(method, steps=steps), expected_failed_checks=EXPECTED_FAILURES, on_skip=None)
    assert len(results) > 40 and {result["status"] for result in results} <= {"passed", "skipped"}


SHARED = {
    "pc": {"tau": 0.5}, "tau_norm": {"bias": "keep"}, "ncm": {"space": "l2n"}, "lws": {"steps": None, "weight_decay": 1e-2},
    "crt": {"steps": None, "weight_decay": 1e-2}, "balanced_softmax": {"steps": 30, "lr": 0.05}, "balms": {"steps": 30},
}


@pytest.fixture(scope="module")
def stages(stages_in, tmp_path_factory):
    """A folder with rows of embeddings."""
    path = save(tmp_path_factory.mktemp("embeddings"), **make(counts=(200, 40, 10)))["path"]
    changes = CHANGES | {"datasets.embeddings.path": path, "features.views": 1, "train.weight_decay": 1e-2}
    changes |= {f"methods.{method}": options for method, options in SHARED.items()}
    commands = (f"retrain {method} --seed 0" for method in SHARED)
    return stages_in(changes, "index embeddings", "check", "subsample", "base --seed 0", "features --seed 0", *commands)


@pytest.mark.parametrize("method", SHARED)
def test_stages_and_estimator_give_the_same_probabilities(stages, monkeypatch, method):
    monkeypatch.chdir(stages)
    train, test, subset = open_dataset(load(), "train"), open_dataset(load(), "test"), read_subset()
    folder = artifacts.stage_dir("retrain", method, 0)
    row = artifacts.read_json(folder / "row.json")
    logits = artifacts.read_array(folder / "test_logits.npy")
    found = RebalancedClassifier(method, ridge=1e-2, options=SHARED[method]).fit(train.read(subset.train_index), subset.train_labels)
    assert found.logit_prior_ == pytest.approx(row["logit_prior"])
    for name, target in (("uniform", uniform(3)), ("train", prior(subset.counts))):
        expected = softmax(logits + prior_shift(np.array(row["logit_prior"]), target), axis=1)
        np.testing.assert_allclose(found.set_prior(name).predict_proba(test.images), expected, atol=2e-5)


def test_it_finds_the_tail_in_scikit_learn_s_tools(imbalanced):
    X, y, X_test, y_test = imbalanced
    plain = balanced_accuracy_score(y_test, LogisticRegression().fit(X, y).predict(X_test))
    piped = make_pipeline(StandardScaler(), RebalancedClassifier()).fit(X, y)
    assert balanced_accuracy_score(y_test, piped.predict(X_test)) > plain + 0.05
    search = GridSearchCV(RebalancedClassifier(), {"method": ["crt", "ncm"], "ridge": [1e-3, 1e-1]}, scoring="balanced_accuracy", cv=3)
    search.fit(X, y)
    assert not np.isnan(search.cv_results_["mean_test_score"]).any()
    assert search.score(X_test, y_test) == pytest.approx(balanced_accuracy_score(y_test, search.predict(X_test)))
    assert cross_val_score(RebalancedClassifier("pc"), X, y, scoring="balanced_accuracy", cv=3).mean() > plain


def test_frames_and_names_of_classes(imbalanced):
    pd = pytest.importorskip("pandas")
    X, y, X_test, _ = imbalanced
    names = np.array(["cat", "ant", "bee"])
    plain, framed = RebalancedClassifier(), RebalancedClassifier()
    frame = pd.DataFrame(X, columns=[f"column {number}" for number in range(8)])
    framed.fit(frame, pd.Series(names[y]))
    probabilities = plain.fit(X, y).predict_proba(X_test)
    assert framed.classes_.tolist() == ["ant", "bee", "cat"] and framed.feature_names_in_.tolist() == frame.columns.tolist()
    named = pd.DataFrame(X_test, columns=frame.columns)
    np.testing.assert_allclose(framed.predict_proba(named), probabilities[:, [1, 2, 0]], atol=1e-3)
    assert set(framed.predict(named)) == set(names)
    with pytest.raises(ValueError, match="feature names"):
        framed.predict(named.rename(columns={"column 3": "other"}))


def test_a_prior_moves_the_probabilities_by_bayes_rule(imbalanced):
    X, y, X_test, _ = imbalanced
    model = RebalancedClassifier().fit(X, y)
    uniform = model.predict_proba(X_test)
    weights = np.array([3.0, 0.0, 1.0])
    moved = model.set_prior(weights).predict_proba(X_test)
    expected = uniform * weights
    np.testing.assert_allclose(moved, expected / expected.sum(axis=1, keepdims=True), atol=1e-9)
    assert model.prior == "uniform" and 1 not in model.predict(X_test)
    given = RebalancedClassifier(prior=weights).fit(X, y)
    np.testing.assert_array_equal(given.predict_proba(X_test), moved)
    balanced, natural = model.set_prior("uniform").predict(X_test), model.set_prior("train").predict(X_test)
    assert (natural == 0).sum() > (balanced == 0).sum()


def test_a_base_head_is_fitted_only_where_the_method_starts_from_it(imbalanced, monkeypatch):
    X, y, *_ = imbalanced
    asked = []
    monkeypatch.setattr("lt.sklearn.fit_head", lambda *_: asked.append(1))
    for method in ("balanced_softmax", "crt", "ncm"):
        RebalancedClassifier(method).fit(X, y)
    assert not asked
    RebalancedClassifier("pc").fit(X, y)
    assert len(asked) == 1


@pytest.mark.parametrize(
    "arguments, told",
    [
        ({"method": "balanced_softmux"}, "got 'balanced_softmux', expected one of lt/methods: .*; nearest: 'balanced_softmax'"),
        ({"options": {"stepz": 3}}, "methods.balanced_softmax.stepz: got 'stepz', expected an option of balanced_softmax: .*; nearest: 'steps'"),
        ({"steps": 0}, "methods.balanced_softmax.steps: got 0; Input should be greater than or equal to 1"),
        ({"method": "ncm", "steps": 5}, "methods.ncm.steps: got 'steps', expected an option of ncm: space"),
        ({"ridge": -1}, "methods.balanced_softmax.weight_decay: got -1.0"),
        ({"prior": "even"}, "prior: got 'even', expected 'uniform', 'train', or 3 weights"),
        ({"prior": [1, 2]}, r"prior: got \(2,\), expected"),
        ({"prior": [1, -1, 2]}, "weights of at least 0"),
        ({"method": "dro_lt"}, "method: got one that trains the network, expected one that trains heads alone"),
    ],
)
def test_what_it_cannot_do_is_told(imbalanced, arguments, told):
    X, y, *_ = imbalanced
    with pytest.raises(ValueError, match=told):
        RebalancedClassifier(**arguments).fit(X, y)


def test_a_prior_needs_a_fit():
    with pytest.raises(NotFittedError):
        RebalancedClassifier().set_prior("train")
