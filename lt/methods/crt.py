"""cRT: a new head, trained with class-balanced sampling and cross-entropy on the frozen features."""

from typing import Literal

from lt.core.options import Count, Fraction, NonNegative, Positive
from lt.losses import ce
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
    sampling: Literal["class_balanced", "instance"] = "class_balanced",
) -> Retrained:
    """Classifier re-training: every class equally often (in random cycles), a uniform image of it, plain cross-entropy.

    The logits embody the uniform prior. lr falls to 0 as a cosine, step by step.

    steps: null for all images at once, until nothing changes, see lt.retrain.loop.fit_head
    sampling: instance draws every image equally often instead, as the base model does; the logits then embody the training prior

    returns the new head and its log    (source: Kang et al. 2020, Decoupling, section 4.1)
    """
    return fit_new_head(
        inputs, "crt", ce.make(inputs.counts), sampling, batch_size,
        steps=steps, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
    )
