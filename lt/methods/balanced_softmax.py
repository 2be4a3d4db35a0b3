"""Decoupled Balanced Softmax: a new head, trained with the balanced softmax loss on the frozen features."""

from typing import Literal

from lt.core.options import Count, Fraction, NonNegative, Positive
from lt.losses import balanced_softmax
from lt.retrain.contracts import Inputs, Retrained
from lt.retrain.loop import fit_new_head


def fit(
    inputs: Inputs,
    *,
    steps: Count | None = 500,
    batch_size: Count = 128,
    lr: Positive = 0.1,
    momentum: Fraction = 0.9,
    weight_decay: NonNegative = 5e-4,
    nesterov: bool = False,
    tau: NonNegative = 1.0,
    sampling: Literal["instance", "class_balanced"] = "instance",
) -> Retrained:
    """Balanced softmax with natural sampling: every image equally often, the prior inside the loss.

    steps: null for all images at once, until nothing changes, see lt.retrain.loop.fit_head
    tau: exponent of the class counts in the loss; the logits embody prior^(1 - tau), the uniform prior for tau = 1
    sampling: class_balanced draws every class equally often as well, the paper's ablation 'BS + DT + CBS': compensated twice, the
        logits embody prior^-tau, and the tail is favoured

    returns the new head and its log    (source: Ren et al. 2020, BALMS: the 'BS + DT' rows)
    """
    return fit_new_head(
        inputs, "balanced_softmax", balanced_softmax.make(inputs.counts, tau=tau), sampling, batch_size,
        steps=steps, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
    )
