"""Meta re-weighter: Balanced Softmax with class weights that are learned so that the head does well on a balanced batch."""

from typing import Literal

import numpy as np
import torch

from lt.core import keys
from lt.core.counts import thirds, uniform
from lt.core.options import Count, Fraction, NonNegative, OpenFraction, Positive
from lt.losses import balanced_softmax, ce
from lt.retrain.adam import Adam
from lt.retrain.bank import FeatureBank, shuffled_batches
from lt.retrain.bilevel import balanced_source, step_and_feedback
from lt.retrain.contracts import Inputs, Retrained
from lt.retrain.heads import dtype_of
from lt.retrain.loop import Outcome, descend
from lt.training.sgd import SGD

STATISTICS = "mixture"


def fit(
    inputs: Inputs,
    *,
    steps: Count = 500,
    batch_size: Count = 128,
    lr: Positive = 0.1,
    momentum: Fraction = 0.9,
    weight_decay: NonNegative = 5e-4,
    nesterov: bool = False,
    loss: Literal["balanced_softmax", "ce"] = "balanced_softmax",
    meta_lr: Positive = 0.01,
    meta_batch_size: Count = 128,
    meta_set: Literal["train", "val"] = "train",
    beta1: OpenFraction = 0.9,
    beta2: OpenFraction = 0.999,
) -> Retrained:
    """A new head and, per class, a loss weight w_c = sigmoid(psi_c), learned together: the paper's alternative to balms.

    Every image is drawn equally often; the head takes one SGD step on mean_b w_{y_b} loss_b; the gradient of the stepped head's
    cross-entropy on a class-balanced batch is taken back through that step to psi, for Adam. Weights start at 1/2, and what a
    step teaches them counts from the next step on.

    loss: what the head minimises    meta_set: what the class-balanced batches are drawn from, as in balms
    meta_lr, beta1, beta2: Adam on psi    meta_batch_size: class-balanced

    returns the head; the log has w_min, w_mean, w_max and the mean weight of the head, mid and tail thirds of the classes;
    arrays: `weights` (C,) at the end. The logits embody the uniform prior.
    (source: Ren et al. 2020, Balanced Meta-Softmax for Long-Tailed Visual Recognition, appendix B.2; rows 'BS + DT + MR')
    """
    generator = keys.generator(inputs.seed, "meta_reweighter")
    head = inputs.new_head().to(inputs.device)
    bank = FeatureBank(inputs, dtype_of(head))
    meta_pool, meta_bank = balanced_source(inputs, meta_set, bank, "meta_reweighter")
    losses = {"balanced_softmax": balanced_softmax.make, "ce": ce.make}
    inner, outer = (losses[name](inputs.counts).to(inputs.device) for name in (loss, "ce"))
    batches, labels = shuffled_batches(len(inputs.labels), batch_size, generator), torch.from_numpy(inputs.labels)
    # On the CPU, so that the sums over a class do not depend on the device.
    psi = torch.zeros(len(inputs.counts), dtype=bank.dtype)
    adam = Adam([psi], meta_lr, (beta1, beta2))

    def step(optimizer: SGD) -> Outcome:
        index, weights = next(batches), torch.sigmoid(psi)
        classes = labels[index]
        batch = bank.batch(index, generator)
        meta_batch = meta_bank.batch(meta_pool.draw_balanced(meta_batch_size, generator), generator)
        of_batch = weights[classes].to(inputs.device)
        outcome, feedback = step_and_feedback(head, optimizer, inner, batch, outer, meta_batch, of_batch)
        psi.grad = weights_gradient(feedback.cpu(), classes, weights)
        adam.step()
        return outcome

    log = descend(
        head, step, steps=steps, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
        columns=lambda: summary(torch.sigmoid(psi), inputs.counts),
    )
    return Retrained(head, logit_prior=uniform(len(inputs.counts)), log=log, arrays={"weights": torch.sigmoid(psi).numpy()})


def weights_gradient(feedback: torch.Tensor, classes: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """d L_meta / d psi_k: the sum of feedback_b (1 - w_k) over examples of class k, because d log w_k / d psi_k = 1 - w_k.

    feedback (B,): w d L_meta / d w, as step_and_feedback gives it    classes (B,)    weights w (C,)    returns (C,)
    """
    return torch.zeros_like(weights).index_add_(0, classes, feedback) * (1 - weights)


def summary(weights: torch.Tensor, counts: np.ndarray) -> dict[str, float]:
    """Columns of the log: least, mean and greatest weight; mean weight of head, mid and tail classes."""
    columns = {"w_min": weights.min().item(), "w_mean": weights.mean().item(), "w_max": weights.max().item()}
    return columns | {f"w_{name}": weights[torch.from_numpy(mask)].mean().item() for name, mask in thirds(counts).items()}
