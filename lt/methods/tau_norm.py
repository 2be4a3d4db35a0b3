"""tau-normalisation: class vectors are divided by a power of their length; nothing is trained."""

import copy
from typing import Literal

import numpy as np

from lt.core.options import NonNegative
from lt.evaluate.metrics import per_class, predict
from lt.features import apply_head
from lt.retrain.contracts import Inputs, Retrained
from lt.retrain.rescaling import normalise

STATISTICS = "frozen"
NEEDS = {"head": (["linear"], "whose class vectors it rescales")}
GRID = np.arange(21) / 10  # 0 to 2, as released


def fit(inputs: Inputs, *, tau: NonNegative | None = 1.0, bias: Literal["drop", "keep"] = "drop") -> Retrained:
    """w_c <- w_c / |w_c|^tau: long class vectors are what head classes win by.

    tau: 0 keeps the base head's vectors, 1 makes them of unit length; null takes the one of 0, 0.1, .. 2 that has the highest
        balanced accuracy on the validation part, of equals the least. The log tells them all.
    bias: drop as in the paper's equation and its release, because a bias is not divided, and learns the class frequencies as
        well: beside shorter vectors it would count for more. keep as in BagofTricks-LT, whose CIFAR numbers are made so.

    The rule has no probabilistic derivation; its `logit_prior` is an approximation: base prior^(1 - tau), uniform for tau >= 1.

    raises ValueError where the base head is not linear, a class vector is zero, or tau is null without a validation part
    (source: Kang et al. 2020, Decoupling, equation 4)
    """
    log = []
    if tau is None:
        log = tried(inputs, bias == "keep")
        tau = max(log, key=lambda line: line["val_balanced"])["tau"]
        log = [line | {"chosen": float(line["tau"] == tau)} for line in log]
    normalise(inputs.head, tau, "tau_norm", bias == "keep")
    embodied = np.asarray(inputs.logit_prior, dtype=np.float64) ** max(1 - tau, 0.0)
    return Retrained(inputs.head, logit_prior=embodied / embodied.sum(), log=log)


def tried(inputs: Inputs, keep_bias: bool) -> list[dict[str, float]]:
    """Balanced accuracy on the validation part with each tau of the grid; classes without an image there are left out."""
    if inputs.val is None:
        raise ValueError("tau_norm.tau: got null, but there is no validation part; set subset.val_fraction, or a number")

    log = []
    for tau in GRID.tolist():
        head = copy.deepcopy(inputs.head)
        normalise(head, tau, "tau_norm", keep_bias)
        predicted = predict(apply_head(head, inputs.val, inputs.device))
        recall = per_class(inputs.val_labels, predicted, len(inputs.counts))["recall"]
        log.append({"tau": tau, "val_balanced": float(np.nanmean(recall))})
    return log
