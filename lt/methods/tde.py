"""TDE, total direct effect: the balanced view of a causal base head, whose features' common direction no longer votes."""

from lt.core.counts import uniform
from lt.core.options import Real
from lt.heads.causal import CausalHead
from lt.retrain.contracts import Inputs, Retrained
from lt.retrain.heads import parts_of

NEEDS = {"head": (["causal"], "which takes an effect away that this head measures")}

STATISTICS = "frozen"


def fit(inputs: Inputs, *, alpha: Real | None = None) -> Retrained:
    """Logits of the base head without what the running feature mean explains; see lt/heads/causal.py. Nothing is trained.

    alpha: how much of it is taken away, null for what the base model has; only this view reads it, so that it can be varied
        without training. Choose it on a validation part; alpha * (mean cosine of features and their mean) near 1 is a start.
    The view has no probabilistic derivation; its `logit_prior` is an approximation: uniform.

    raises ValueError where the base head is not causal
    (source: Tang et al. 2020, Long-Tailed Classification by Keeping the Good and Removing the Bad Momentum Causal Effect)
    """
    parts = parts_of(inputs.head)
    if not all(isinstance(part, CausalHead) for part in parts):
        raise ValueError(
            f"tde takes the direct effect of a causal head; got a base model with {type(parts[0]).__name__}; set head: causal, "
            "or leave tde out of methods and teachers"
        )
    if alpha is not None:
        for part in parts:
            part.alpha = alpha
        spec = inputs.head.spec
        inputs.head.spec = {**spec, "options": {**spec["options"], "alpha": alpha}}
    return Retrained(inputs.head, logit_prior=uniform(len(inputs.counts)), balanced_view=True)
