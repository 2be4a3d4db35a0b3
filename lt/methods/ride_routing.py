"""RIDE's routing: an image passes a further expert where those before are wrong and a later one would be right."""

import numpy as np
import torch
from torch.nn import functional as F

from lt.core import keys
from lt.core.options import Count, Fraction, NonNegative, Positive
from lt.network.classifier import build_head
from lt.network.routing import Routed
from lt.retrain.bank import ClassPool, FeatureBank
from lt.retrain.contracts import Inputs, Retrained
from lt.retrain.heads import dtype_of
from lt.retrain.loop import Outcome, descend
from lt.training.sgd import SGD

STATISTICS = "frozen"
NEEDS = {"model": (["ride_resnet32"], "which has the experts to choose from")}


def fit(
    inputs: Inputs,
    *,
    steps: Count = 500,
    batch_size: Count = 128,
    lr: Positive = 0.01,
    momentum: Fraction = 0.9,
    weight_decay: NonNegative = 5e-4,
    nesterov: bool = True,
    top: Count = 30,
    hidden: Count = 16,
    positive_weight: Positive = 100.0,
) -> Retrained:
    """Experts and heads stay as they are; lt.network.routing.Routed learns on class-balanced batches for which images it takes
    the mean over which experts. With m_i the mean logits of the first i of E experts:

        t_i = [argmax m_i wrong, and argmax m_j right for a j > i]
        loss = mean_(i < E) -( positive_weight t_i log sigmoid(u_i) + (1 - t_i) log(1 - sigmoid(u_i)) )

    top: how many of the largest mean logits are looked at, all where there are fewer classes    hidden: features beside them
    positive_weight: above 1, a further expert is rather passed in vain than missed
    lr falls to 0 as a cosine, step by step. The logits embody what the base model's do.

    returns the head, its log, and the array `experts` (E,): share of the training images, as they are, that pass 1 .. E experts
    raises ValueError where the base model has one expert
    (source: Wang et al. 2021, Long-tailed Recognition by Routing Diverse Distribution-Aware Experts; lr, momentum, weight_decay,
    nesterov, top, hidden and positive_weight: released settings for CIFAR-100-LT)
    """
    if inputs.clean.ndim == 2:
        raise ValueError("ride_routing chooses among experts, got a base model with one; set models.ride_resnet32.experts above 1")
    generator = keys.generator(inputs.seed, "ride_routing")
    routing = {"top": top, "hidden": hidden}
    head = build_head(inputs.head.spec | {"routing": routing}, keys.derive(inputs.seed, "ride_routing")).to(inputs.device)
    head.heads.load_state_dict(inputs.head.state_dict())
    head.heads.requires_grad_(False)
    bank, pool = FeatureBank(inputs, dtype_of(head)), ClassPool(inputs.labels, len(inputs.counts))

    def step(optimizer: SGD) -> Outcome:
        features, target = bank.batch(pool.draw_balanced(batch_size, generator), generator)
        means, needs = head.judged(features)
        weight = torch.full_like(needs, positive_weight)
        losses = F.binary_cross_entropy_with_logits(needs, wanted(means, target), reduction="none", pos_weight=weight).mean(1)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        return Outcome(features, target, head(features).detach(), losses.detach())

    log = descend(head, step, steps=steps, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
    return Retrained(head, logit_prior=inputs.logit_prior, log=log, arrays={"experts": passed(head, inputs)})


def wanted(means: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """t (B, E - 1): 1 where the mean up to expert i is wrong, and that up to a later one right; means (B, E, C), target (B,)."""
    right = means.argmax(2) == target[:, None]
    later = right.flip(1).cummax(1).values.flip(1)
    return (~right[:, :-1] & later[:, 1:]).to(means.dtype)


@torch.no_grad()
def passed(head: Routed, inputs: Inputs, at_once: int = 8192) -> np.ndarray:
    """Share of the clean training images that pass 1 .. E experts: (E,) float64."""
    counts = torch.zeros(inputs.clean.shape[1], dtype=torch.float64)
    for start in range(0, len(inputs.clean), at_once):
        features = torch.from_numpy(np.array(inputs.clean[start : start + at_once])).to(inputs.device, dtype_of(head))
        counts += torch.bincount(head.experts(head.judged(features)[1]) - 1, minlength=len(counts)).cpu()
    return (counts / counts.sum()).numpy()
