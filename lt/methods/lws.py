"""LWS, learnable weight scaling: one factor per class on the logits of the frozen base head."""

from lt.core import keys
from lt.core.counts import uniform
from lt.core.options import Count, Fraction, NonNegative, Positive
from lt.losses import ce
from lt.retrain.bank import ClassPool, FeatureBank
from lt.retrain.contracts import Inputs, Retrained
from lt.retrain.heads import dtype_of
from lt.retrain.loop import fit_head
from lt.retrain.rescaling import Scaled

STATISTICS = "balanced"
NEEDS = {"head": (["linear"], "whose class vectors it rescales")}


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
    """logits = s * (W f + b), where only s (C,) is trained, from ones, with class-balanced sampling and cross-entropy.

    The scale multiplies the bias as well. The result is a plain linear head with the scales folded in; weight decay pulls
    the scales towards zero, as in the published protocol, but where steps is null: see lt.retrain.loop.fit_head.

    returns the head, its log with the spread of the scales, and the array `scales` (C,)
    raises ValueError where the base head is not linear    (source: Kang et al. 2020, Decoupling, section 4.3)
    """
    generator = keys.generator(inputs.seed, "lws")
    scaled = Scaled(inputs.head.to(inputs.device), len(inputs.counts), "lws")
    pool = ClassPool(inputs.labels, len(inputs.counts))
    log = fit_head(
        scaled, ce.make(inputs.counts).to(inputs.device), FeatureBank(inputs, dtype_of(scaled)),
        lambda: pool.draw_balanced(batch_size, generator), generator,
        steps=steps, class_weights=1 / inputs.counts, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, columns=scaled.columns,
    )
    scales = scaled.scales.detach().cpu().numpy()
    return Retrained(scaled.folded(), logit_prior=uniform(len(inputs.counts)), log=log, arrays={"scales": scales})
