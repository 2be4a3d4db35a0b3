"""cRT: a new head, trained with class-balanced sampling and cross-entropy on the frozen features."""

import numpy as np

from lt import keys
from lt.contracts import Inputs, Retrained
from lt.losses import ce
from lt.options import Count, Fraction, NonNegative, Positive
from lt.retraining import ClassPool, FeatureBank, dtype_of, fit_head


def fit(
    inputs: Inputs,
    *,
    steps: Count | None = 500,
    batch_size: Count = 128,
    lr: Positive = 0.1,
    momentum: Fraction = 0.9,
    weight_decay: NonNegative = 5e-4,
    nesterov: bool = False,
) -> Retrained:
    """Classifier re-training: every class equally often (in random cycles), a uniform image of it, plain cross-entropy.

    The logits embody the uniform prior. lr falls to 0 as a cosine, step by step.
    steps: null for all images at once, until nothing changes, see lt.retraining.fit_head

    returns the new head and its log    (source: Kang et al. 2020, Decoupling, section 4.1)
    """
    generator = keys.generator(inputs.seed, "crt")
    head = inputs.new_head().to(inputs.device)
    pool = ClassPool(inputs.labels, len(inputs.counts))
    log = fit_head(
        head, ce.make(inputs.counts).to(inputs.device), FeatureBank(inputs, dtype_of(head)),
        lambda: pool.draw_balanced(batch_size, generator), generator,
        steps=steps, class_weights=1 / inputs.counts, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
    )
    return Retrained(head, logit_prior=np.full(len(inputs.counts), 1 / len(inputs.counts)), log=log)
