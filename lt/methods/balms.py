"""BALMS: Balanced Softmax, with class sampling rates that are learned so that the head does well on a balanced batch."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from lt.core import keys
from lt.core.counts import prior, thirds, uniform
from lt.core.options import Count, Fraction, NonNegative, OpenFraction, Positive
from lt.losses import balanced_softmax, ce
from lt.retrain.adam import Adam
from lt.retrain.bank import ClassPool, FeatureBank
from lt.retrain.bilevel import balanced_source, step_and_feedback
from lt.retrain.contracts import Inputs, Retrained
from lt.retrain.heads import dtype_of
from lt.retrain.loop import Outcome, descend
from lt.training.sgd import SGD

STATISTICS = "mixture"
NOISE_AT_ONCE = 2**20  # numbers: an instance-level draw takes a few MiB, however many images there are


class Draw(NamedTuple):
    """A batch that was drawn, and how its draw depends on the rates.

    classes (B,)    soft (B,): softmax probability of what was drawn, under the same noise
    shares (B, C): softmax probability of each class, under the same noise
    """

    classes: torch.Tensor
    soft: torch.Tensor
    shares: torch.Tensor


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
    gumbel: Literal["class", "instance"] = "class",
    init_pow: NonNegative = 0.0,
    meta_lr: Positive = 0.01,
    meta_batch_size: Count = 128,
    meta_set: Literal["train", "val"] = "train",
    beta1: OpenFraction = 0.9,
    beta2: OpenFraction = 0.999,
) -> Retrained:
    """A new head and, per class, a sampling rate p_c = sigmoid(psi_c), learned together: one step of each in turn.

    A batch is drawn with example weights p_y; the head takes one SGD step on its loss; the gradient of the stepped head's
    cross-entropy on a class-balanced batch is taken back through that step and the draw (Gumbel-softmax, straight-through) to
    psi, for Adam. All in closed form: see lt.retrain.bilevel.step_and_feedback and rates_gradient.

    loss: what the head minimises; ce is the paper's ablation
    gumbel: class draws a class by log(n_c p_c) and then a uniform image of it; instance draws among all N images, as published.
        Both draw from the same distribution; the straight-through gradients differ, and instance costs N / C times as much.
    init_pow: rates start in proportion to frequency^-init_pow (0: all at 1/2; published: 0.1 ImageNet-LT, 0.3 Places-LT)
    meta_lr, beta1, beta2: Adam on psi    meta_batch_size: class-balanced
    meta_set: what the class-balanced batches are drawn from: the training part's views, as published and as released for CIFAR;
        or the validation part as it is, as released for ImageNet-LT and Places-LT: the data set's own, or subset.val_fraction

    returns the head; the log has p_* (rates) and share_* (expected share of the draws that fall into head, mid and tail
    thirds of the classes); arrays: `rates` (C,) and `shares` (C,) at the end. The logits embody the uniform prior.
    (source: Ren et al. 2020, Balanced Meta-Softmax for Long-Tailed Visual Recognition, algorithm 1)
    """
    generator = keys.generator(inputs.seed, "balms")
    head = inputs.new_head().to(inputs.device)
    bank = FeatureBank(inputs, dtype_of(head))
    pool = ClassPool(inputs.labels, len(inputs.counts))
    meta_pool, meta_bank = balanced_source(inputs, meta_set, bank, "balms")
    sampler = MetaSampler(pool, initial_psi(inputs.counts, init_pow).to(bank.dtype), gumbel, meta_lr, (beta1, beta2))
    losses = {"balanced_softmax": balanced_softmax.make, "ce": ce.make}
    inner, outer = (losses[name](inputs.counts).to(inputs.device) for name in (loss, "ce"))

    def step(optimizer: SGD) -> Outcome:
        index, draw = sampler.draw(batch_size, generator)
        batch = bank.batch(index, generator)
        meta_batch = meta_bank.batch(meta_pool.draw_balanced(meta_batch_size, generator), generator)
        outcome, feedback = step_and_feedback(head, optimizer, inner, batch, outer, meta_batch)
        sampler.learn(draw, feedback.cpu())
        return outcome

    log = descend(
        head, step, steps=steps, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
        columns=lambda: sampler.summary(inputs.counts),
    )
    arrays = {"rates": sampler.rates().numpy(), "shares": sampler.shares(inputs.counts)}
    return Retrained(head, logit_prior=uniform(len(inputs.counts)), log=log, arrays=arrays)


class MetaSampler:
    """Draws batches by class rates sigmoid(psi), and learns psi. Lives on the CPU, so that draws do not depend on the device."""

    def __init__(self, pool: ClassPool, psi: torch.Tensor, gumbel: str, meta_lr: float, betas: tuple[float, float]):
        self.pool, self.psi, self.gumbel = pool, psi, gumbel
        self.optimizer = Adam([psi], meta_lr, betas)

    def draw(self, batch_size: int, generator: torch.Generator) -> tuple[torch.Tensor, Draw]:
        """Positions (B,) of a batch, and its Draw."""
        counts, log_rates = self.pool.counts, F.logsigmoid(self.psi)
        if self.gumbel == "class":
            draw = draw_classes(counts, log_rates, exponential((batch_size, len(counts)), generator, self.psi.dtype))
            return self.pool.draw(draw.classes, generator), draw
        total = int(counts.sum())
        rows = max(1, NOISE_AT_ONCE // total)
        sizes = [min(rows, batch_size - start) for start in range(0, batch_size, rows)]
        parts = [draw_instances(counts, log_rates, exponential((size, total), generator, self.psi.dtype)) for size in sizes]
        winners, draws = zip(*parts)
        return self.pool.by_class[torch.cat(winners)], Draw(*(torch.cat(part) for part in zip(*draws)))

    def learn(self, draw: Draw, feedback: torch.Tensor) -> None:
        """One Adam step on psi; feedback (B,) as step_and_feedback gives it."""
        self.psi.grad = rates_gradient(draw, feedback, self.rates())
        self.optimizer.step()

    def rates(self) -> torch.Tensor:
        """p_c = sigmoid(psi_c), (C,)."""
        return torch.sigmoid(self.psi)

    def shares(self, counts: np.ndarray) -> np.ndarray:
        """Expected share of each class in a batch, n_c p_c / sum_k n_k p_k, (C,) float64."""
        return prior(counts * self.rates().numpy().astype(np.float64))

    def summary(self, counts: np.ndarray) -> dict[str, float]:
        """Columns of the log: mean, least and greatest rate; shares of head, mid and tail classes."""
        rates, shares = self.rates(), self.shares(counts)
        columns = {"p_mean": rates.mean().item(), "p_min": rates.min().item(), "p_max": rates.max().item()}
        return columns | {f"share_{name}": float(shares[mask].sum()) for name, mask in thirds(counts).items()}


def initial_psi(counts: np.ndarray, init_pow: float) -> torch.Tensor:
    """logit of p = s / (min s + max s) with s = frequency^-init_pow: counts (C,) -> (C,) float64; zeros for init_pow = 0."""
    scores = torch.from_numpy(prior(counts)) ** -init_pow
    return torch.logit(scores / (scores.min() + scores.max()))


def exponential(shape: tuple[int, int], generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
    """Exp(1) noise, never 0. Its negative logarithm is Gumbel noise: argmax(log m + Gumbel) is argmax(m / Exp(1))."""
    return torch.rand(shape, generator=generator, dtype=dtype).log_().neg_()


def draw_classes(counts: torch.Tensor, log_rates: torch.Tensor, noise: torch.Tensor) -> Draw:
    """Class-level Gumbel-max: class logits log(n_c p_c).

    counts, log_rates (C,)    noise (B, C) ~ Exp(1)    here `soft` is the drawn class's share
    """
    # Rates enter as a ratio to the largest: all of them may underflow, but not that.
    race = counts * (log_rates - log_rates.max()).exp() / noise
    shares = race / race.sum(1, keepdim=True)
    classes = shares.argmax(1)
    return Draw(classes, shares.gather(1, classes[:, None])[:, 0], shares)


def draw_instances(counts: torch.Tensor, log_rates: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, Draw]:
    """Instance-level Gumbel-max: every example j of class y_j has the logit log p_{y_j}.

    counts, log_rates (C,)    noise (B, N) ~ Exp(1), examples ordered by class
    returns the drawn positions (B,) in that order, and the Draw, whose `soft` is the drawn example's probability
    """
    race = (log_rates - log_rates.max()).exp().repeat_interleave(counts) / noise
    winners = race.argmax(1)
    ends = counts.cumsum(0)
    sums = torch.from_numpy(np.add.reduceat(race.numpy(), (ends - counts).numpy(), axis=1))
    total = sums.sum(1, keepdim=True)
    soft = race.gather(1, winners[:, None]) / total
    return winners, Draw(torch.searchsorted(ends, winners, right=True), soft[:, 0], sums / total)


def rates_gradient(draw: Draw, feedback: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
    """d L_meta / d psi through the straight-through draw.

    Weight a_b of example b has value 1 and the gradient of soft_b, the softmax probability of what was drawn:
        d soft_b / d psi_k = soft_b ([y_b = k] - shares_bk) (1 - p_k),
    because d log p_k / d psi_k = 1 - p_k. The same holds for class-level and for instance-level draws.

    feedback (B,): d L_meta / d a_b    rates (C,): p at the time of the draw    returns (C,)
    """
    pull = feedback * draw.soft
    return (torch.zeros_like(rates).index_add_(0, draw.classes, pull) - pull @ draw.shares) * (1 - rates)
