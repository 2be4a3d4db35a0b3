"""cRT: a new head, trained with class-balanced sampling and cross-entropy on the frozen features."""

from typing import Literal

from lt.core import keys
from lt.core.counts import embodied_prior
from lt.core.options import Count, Fraction, NonNegative, Positive
from lt.losses import ce
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
    sampling: Literal["class_balanced", "instance"] = "class_balanced",
) -> Retrained:
    """Classifier re-training: every class equally often (in random cycles), a uniform image of it, plain cross-entropy.

    The logits embody the uniform prior. lr falls to 0 as a cosine, step by step.

    steps: null for all images at once, until nothing changes, see lt.retrain.loop.fit_head
    sampling: instance draws every image equally often instead, as the base model does; the logits then embody the training prior

    returns the new head and its log    (source: Kang et al. 2020, Decoupling, section 4.1)
    """
    generator = keys.generator(inputs.seed, "crt")
    head = inputs.new_head().to(inputs.device)
    loss = ce.make(inputs.counts)
    draw, sampled = head_batches(sampling, inputs, batch_size, generator)
    log = fit_head(
        head, loss.to(inputs.device), FeatureBank(inputs, dtype_of(head)), draw, generator, steps=steps,
        class_weights=sampled / inputs.counts, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
    )
    embodied = embodied_prior(loss.logit_prior.cpu().numpy(), inputs.counts, sampled)
    return Retrained(head, logit_prior=embodied, log=log)
