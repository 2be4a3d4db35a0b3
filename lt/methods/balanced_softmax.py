"""Decoupled Balanced Softmax: a new head, trained with the balanced softmax loss on the frozen features."""

from typing import Literal

from lt.core import keys
from lt.core.counts import embodied_prior
from lt.core.options import Count, Fraction, NonNegative, Positive
from lt.losses import balanced_softmax
from lt.retrain.bank import FeatureBank
from lt.retrain.contracts import Inputs, Retrained
from lt.retrain.heads import dtype_of, head_batches
from lt.retrain.loop import fit_head


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
    generator = keys.generator(inputs.seed, "balanced_softmax")
    head = inputs.new_head().to(inputs.device)
    loss = balanced_softmax.make(inputs.counts, tau=tau)
    draw, sampled = head_batches(sampling, inputs, batch_size, generator)
    log = fit_head(
        head, loss.to(inputs.device), FeatureBank(inputs, dtype_of(head)), draw, generator, steps=steps,
        class_weights=sampled / inputs.counts, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
    )
    embodied = embodied_prior(loss.logit_prior.cpu().numpy(), inputs.counts, sampled)
    return Retrained(head, logit_prior=embodied, log=log)
