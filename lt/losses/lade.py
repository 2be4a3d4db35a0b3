"""LADE: balanced softmax with a regulariser that ties the logits to the label-free likelihood ratio."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from lt.core.counts import log_prior
from lt.core.options import NonNegative
from lt.training.distributed import all_gather
from lt.training.loss import Loss


def make(counts: np.ndarray, *, alpha: NonNegative = 0.1, remine_lambda: NonNegative = 0.01) -> Loss:
    """CE(z + log prior, y) - alpha sum_c prior_c ( M_c - S_c - remine_lambda S_c^2 ), with the batch's class statistics

        M_c = mean of z_c over the examples of class c,   S_c = log mean over the batch of exp(z_c - log prior_c - log C).

    The second term belongs to the batch, not to an example, and is added to each one's loss, so that the batch mean is the
    published loss. A class absent from the batch has M_c = 0 and keeps its S_c, as in the released code. The logits embody the
    uniform prior.

    counts (C,) training images per class, all positive    returns f(logits (B, C), target (B,)) -> (B,)
    raises ValueError on a class without a training image
    Source: Hong et al. 2021, Disentangling Label Distribution for Long-tailed Visual Recognition.
    """
    return LADE(counts, alpha, remine_lambda)


class LADE(Loss):
    batch_coupled = True

    def __init__(self, counts: np.ndarray, alpha: float, remine_lambda: float):
        super().__init__(counts, logit_prior=np.ones(len(counts)))
        self.keep("log_prior", log_prior(counts))
        self.alpha, self.remine_lambda = alpha, remine_lambda

    def per_example(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        log_prior = self.log_prior.to(logits.dtype)
        batch = all_gather(logits)  # of all processes
        member = F.one_hot(all_gather(target), self.num_classes).to(logits.dtype)
        class_mean = (member * batch).sum(dim=0) / member.sum(dim=0).clamp_min(1)
        ratio = batch - log_prior - math.log(self.num_classes)
        log_mean = ratio.logsumexp(dim=0) - math.log(len(batch))
        bound = class_mean - log_mean - self.remine_lambda * log_mean**2
        return F.cross_entropy(logits + log_prior, target, reduction="none") - self.alpha * (log_prior.exp() * bound).sum()
