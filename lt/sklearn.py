"""The heads of this project as a scikit-learn classifier, on columns of any origin: embeddings, tables.

    from lt.sklearn import RebalancedClassifier

    RebalancedClassifier("balanced_softmax").fit(X, y).predict_proba(X_new)
"""

from typing import Any, Callable

import numpy as np
import torch
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from lt.base.frozen import fit_head, standardise
from lt.check.mistakes import option_mistakes
from lt.core.counts import prior, uniform
from lt.core.options import LARGEST, SEEDS
from lt.core.plugins import load, with_defaults
from lt.evaluate.label_shift import prior_shift
from lt.losses import ce
from lt.network.classifier import Classifier, DecisionRule, build, classifier_spec
from lt.retrain.contracts import Inputs, Training
from lt.retrain.inputs import head_maker

ROWS_AT_ONCE = 8192


class RebalancedClassifier(ClassifierMixin, BaseEstimator):
    """A linear classifier for classes of very different sizes: the columns standardised, and a head re-balanced by a method.

    The same computation as the stages make of `dataset: embeddings` with `train.epochs: 0` and one view, so the same logits. Columns are
    held as float32. Deterministic for a whole-number random_state.

    method: a file of lt/methods that trains heads alone: balanced_softmax, crt, balms, pc, tau_norm, ncm, lws, meta_reweighter,
        longtail_da
    steps: of the method's gradient descent. None: all rows at once, until nothing changes, where the method can (balanced_softmax, crt,
        lws), else the number that is its default
    ridge: penalty ridge / 2 * |W|^2 of heads that are fitted until nothing changes, the method's and the base head's, which pc, tau_norm
        and lws start from; LogisticRegression's C is 1 / (N ridge)
    options: further options of the method, name -> value, as under `methods` in params.yaml; they take precedence
    prior: how often each class comes where predictions are made: 'uniform'; 'train', as often as in y; or (C,) weights in the order of
        classes_. set_prior changes it later, without a new fit
    random_state: an int, a RandomState, or None    device: where the fit computes, as torch names it

    Attributes: classes_ (C,); counts_ (C,), rows of each; logit_prior_ (C,), what the head's raw logits embody; prior_ (C,), sums to 1;
    log_, the method's log, one dict per line; model_, the torch module, columns (B, D) float64 -> raw logits (B, C)

    fit raises ValueError for what scikit-learn refuses, one class alone, options that the method does not take, and methods
    that train a network
    """

    def __init__(
        self, method="balanced_softmax", *, steps=None, ridge=2e-3, options=None, prior="uniform", random_state=0, device="cpu"
    ):
        self.method = method
        self.steps = steps
        self.ridge = ridge
        self.options = options
        self.prior = prior
        self.random_state = random_state
        self.device = device

    def fit(self, X, y) -> "RebalancedClassifier":
        """Fits the head to rows X (N, D) with labels y (N,) of any kind."""
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        options = self._method_options()
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y: got 1 class, {self.classes_[0]!r}, expected two or more")
        self.counts_ = np.bincount(labels)
        self.prior_ = self._weights(self.prior)
        model, inputs = put_together(np.require(X, requirements="CW"), labels, self.counts_, self.ridge, self._seed(), self.device)
        found = load("methods", self.method)(inputs, **options)
        model.head = DecisionRule(found.head, found.offset, found.balanced_view, len(self.classes_))
        # float64, so that a row's logits do not depend on the rows beside it
        self.model_ = model.cpu().double().eval().requires_grad_(False)
        self.logit_prior_, self.log_ = found.logit_prior, found.log
        return self

    def set_prior(self, prior) -> "RebalancedClassifier":
        """Predictions from now on are for classes that come at these frequencies, by Bayes' rule; prior as the argument of that name."""
        check_is_fitted(self)
        self.prior_ = self._weights(prior)
        return self

    def decision_function(self, X) -> np.ndarray:
        """Logits under prior_, (N, C); of two classes the log-odds of the second one, (N,)."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_log_proba(self, X) -> np.ndarray:
        """Logarithms of predict_proba, (N, C)."""
        return log_softmax(self._logits(X), axis=1)

    def predict_proba(self, X) -> np.ndarray:
        """Class probabilities under prior_, (N, C), columns in the order of classes_."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X) -> np.ndarray:
        """The most probable class of each row, (N,)."""
        best = self._logits(X).argmax(axis=1)
        return self.classes_[best]

    def _logits(self, X) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float32)
        batches = (X[start : start + ROWS_AT_ONCE].astype(np.float64) for start in range(0, len(X), ROWS_AT_ONCE))
        raw = np.concatenate([self.model_(torch.from_numpy(batch)).numpy() for batch in batches])
        return raw + prior_shift(self.logit_prior_, self.prior_)

    def _method_options(self) -> dict[str, Any]:
        """The method's options: its defaults, steps, ridge where it is fitted until nothing changes, and `options`."""
        defaults, given = with_defaults("methods", self.method, {}), self.options or {}
        if self.steps is not None or not option_mistakes("methods", self.method, {"steps": None}):
            given = {"steps": self.steps} | given
        if given.get("steps", 0) is None:
            given = {"weight_decay": float(self.ridge)} | given
        if mistakes := option_mistakes("methods", self.method, given):
            raise ValueError("\n".join(mistakes))
        return defaults | given

    def _seed(self) -> int:
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(SEEDS, dtype=np.uint32))

    def _weights(self, prior_of: Any) -> np.ndarray:
        """A class prior (C,) that sums to 1; ValueError where it is none."""
        num_classes = len(self.classes_)
        if isinstance(prior_of, str):
            named = {"uniform": uniform(num_classes), "train": prior(self.counts_)}
            if prior_of not in named:
                raise ValueError(f"prior: got {prior_of!r}, expected 'uniform', 'train', or {num_classes} weights")
            return named[prior_of]
        weights = np.asarray(prior_of, dtype=np.float64)
        if weights.shape != (num_classes,) or not ((weights >= 0) & (weights < LARGEST)).all() or not weights.sum() > 0:
            raise ValueError(
                f"prior: got {weights.shape}, expected 'uniform', 'train', or {num_classes} weights of at least 0, not all of them 0, "
                "in the order of classes_"
            )
        return weights / weights.sum()


class LateInputs(Inputs):
    """Inputs whose `head` is given as a function, which is called when a method asks for the base head: most train their own."""

    @property
    def head(self) -> nn.Module:
        if not isinstance(vars(self)["head"], nn.Module):
            vars(self)["head"] = vars(self)["head"]()
        return vars(self)["head"]

    @head.setter
    def head(self, head: nn.Module | Callable[[], nn.Module]) -> None:
        vars(self)["head"] = head


def put_together(
    raw: np.ndarray, labels: np.ndarray, counts: np.ndarray, ridge: float, seed: int, device: str
) -> tuple[Classifier, Inputs]:
    """The base model of raw columns (N, D) float32 and labels (N,), as stage 1 without a training makes it, and what a method gets."""
    where = torch.device(device)
    head_options = with_defaults("heads", "linear", {})
    spec = classifier_spec("identity", {"width": raw.shape[1]}, "linear", head_options, len(counts), (0.0,), (1.0,))
    model = build(spec | {"standardised": True}, seed).eval()
    features = standardise(model, raw)
    loss = ce.make(counts)

    def base_head() -> nn.Module:
        fit_head(model.head.to(where), loss.to(where), features.to(where), torch.from_numpy(labels).to(where), ridge)
        return model.head

    def no_network() -> Training:
        raise ValueError("method: got one that trains the network, expected one that trains heads alone; there are columns, and no images")

    clean = features.numpy()
    inputs = LateInputs(
        clean[None], clean, labels, counts, base_head, head_maker(model.head.spec, seed, where), loss.logit_prior.cpu().numpy(), seed,
        where, no_network,
    )
    return model, inputs
