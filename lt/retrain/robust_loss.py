"""DRO-LT's robust loss, by which examples of a class gather at a centroid that is known up to a radius, and training with it."""

from dataclasses import dataclass
from typing import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lt.core.counts import prior
from lt.network.classifier import Classifier
from lt.network.contracts import Observes
from lt.retrain.contracts import HasStages
from lt.training import distributed
from lt.training.contracts import Mixed
from lt.training.objective import Objective, cross_entropy, expert_sum

ROWS_AT_ONCE = 8192


def robust_loss(
    features: torch.Tensor,
    target: torch.Tensor,
    centroids: torch.Tensor,
    eps: torch.Tensor,
    temperature: float,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Negative log-likelihood of a class's examples, among all of the batch, given its centroid, in the worst case within eps:

        s_ci  = -( |m_c - f_i| + eps_c [y_i = c] ) / T
        l_c   = -mean over i of class c of  log( exp(s_ci) / sum_j exp(s_cj) ),    j over the whole batch
        loss  = sum_c w_c l_c / sum_c w_c,                                         c over the classes in the batch

    The softmax runs over the examples, not over the classes: the loss of an example depends on the rest of its batch. Its
    derivative by eps_c is never negative, so that an eps which is trained without a constraint only falls, and loosens the loss.

    features (B, D)    target (B,)    centroids m (C, D), eps (C,): of every class    temperature T > 0
    class_weights w (C,): all ones if None    returns a scalar
    (source: Samuel and Chechik 2021, Distributional Robustness Loss for Long-tail Learning, section 4; factor 2 on eps there)
    """
    own = F.one_hot(target, len(centroids)).T.to(features.dtype)
    # Not by matrix products, whose cancellation blurs small distances.
    distances = torch.cdist(centroids.to(features.dtype), features, compute_mode="donot_use_mm_for_euclid_dist")
    log_likelihood = F.log_softmax(-(distances + eps.to(features.dtype)[:, None] * own) / temperature, dim=1)
    sizes = own.sum(1)
    per_class = -(own * log_likelihood).sum(1) / sizes.clamp(min=1)
    weights = (sizes > 0).to(features.dtype)
    if class_weights is not None:
        weights = weights * class_weights.to(features.dtype)
    return (weights * per_class).sum() / weights.sum()


def initial_eps(mode: str, mean: float, counts: np.ndarray) -> np.ndarray:
    """The radii (C,) to begin with, `mean` on average: equal, or for mode 'count' in proportion to n_c^(-1/2)."""
    shape = prior(counts) ** -0.5 if mode == "count" else np.ones(len(counts))
    return mean * shape / shape.mean()


def class_centroids(features: torch.Tensor, target: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Mean feature of each class, summed in float64 and in a fixed order: features (N, D), target (N,) -> (C, D).

    Raises ValueError where a class has no example.
    """
    sums = torch.zeros(num_classes, features.shape[1], dtype=torch.float64, device=features.device)
    for rows, classes in zip(features.split(ROWS_AT_ONCE), target.split(ROWS_AT_ONCE)):
        sums += F.one_hot(classes, num_classes).T.double() @ rows.double()
    sizes = F.one_hot(target, num_classes).sum(0)
    if not sizes.all():
        empty = torch.nonzero(sizes == 0).flatten().tolist()
        raise ValueError(f"target: classes {empty[:10]} have no example, expected one or more of each class")
    return (sums / sizes[:, None]).to(features.dtype)


def nearest_centroid_accuracy(features: torch.Tensor, target: torch.Tensor, centroids: torch.Tensor) -> float:
    """Mean over classes of the share of examples whose own centroid has the largest cosine: (N, D), (N,), (C, D) -> 0 to 1."""
    nearest = torch.cat([
        F.linear(F.normalize(rows, dim=1), F.normalize(centroids, dim=1)).argmax(1) for rows in features.split(ROWS_AT_ONCE)
    ])
    sizes = torch.bincount(target, minlength=len(centroids))
    right = torch.bincount(target[nearest == target], minlength=len(centroids))
    return (right / sizes.clamp(min=1)).sum().item() / (sizes > 0).sum().item()


@dataclass(frozen=True)
class Robustness:
    """What the backbone minimises: options of lt/methods/dro_lt.py."""

    lambda_robust: float
    temperature: float
    eps_mode: str
    eps_init: float
    eps_factor: int
    ce_weight: str
    robust_weight: str
    centroid_source: str
    layers: int = 1


class RobustObjective(Objective):
    """Cross-entropy + lambda_robust * robust_loss, the latter summed over layers and experts; holds the radii and the centroids.

    Each layer has centroids and radii of its own. Of several layers, features hold one after the other: see OverLayers.

    feature_shape: (D,), with experts (E, D)    widths: D of each layer, with sum D; None for a single one
    bank(epoch, model, images, labels) -> features (N, D) or (N, E, D) and target (N,): what the centroids are the mean of
    """

    def __init__(self, options: Robustness, counts: np.ndarray, feature_shape: tuple[int, ...], bank: Callable,
                 widths: tuple[int, ...] | None = None):
        super().__init__()
        self.options, self.bank, self.widths = options, bank, list(widths or feature_shape[-1:])
        eps = torch.tensor(initial_eps(options.eps_mode, options.eps_init, counts), dtype=torch.float32).repeat(len(self.widths), 1)
        if options.eps_mode == "learned_free":
            self.eps = nn.Parameter(eps)
        else:
            self.register_buffer("eps", eps)
        relative = {"lt": counts / counts.max(), "none": np.ones(len(counts))}
        for term, name in (("ce", options.ce_weight), ("robust", options.robust_weight)):
            self.register_buffer(f"{term}_weights", torch.tensor(relative[name], dtype=torch.float32))
        self.register_buffer("centroids", torch.zeros(*feature_shape[:-1] or (1,), len(counts), feature_shape[-1]))
        self.register_buffer("sums", torch.zeros(3, dtype=torch.float64))  # of cross-entropy, of robust loss, of examples
        self.register_buffer("centroid_accuracy", torch.zeros((), dtype=torch.float64))

    def start_epoch(self, epoch: int, model: Classifier, images: torch.Tensor, labels: torch.Tensor) -> None:
        features, target = self.bank(epoch, model, images, labels)
        parts = per_expert(features)
        centroids = [class_centroids(part, target, self.eps.shape[-1]) for part in parts]
        last = self.widths[-1]
        accuracies = [
            nearest_centroid_accuracy(part[:, -last:], target, means[:, -last:]) for part, means in zip(parts, centroids)
        ]
        self.centroids.copy_(torch.stack(centroids))
        self.centroid_accuracy.fill_(sum(accuracies) / len(accuracies))
        self.sums.zero_()

    def forward(self, features: torch.Tensor, logits: torch.Tensor, mixed: Mixed) -> torch.Tensor:
        target, options = mixed.target_a, self.options
        weights = self.ce_weights[target]
        # The engine takes the plain mean of what is returned: so that it is the weighted mean.
        scale = distributed.rows(target) / distributed.all_reduce(weights.sum())
        truth = expert_sum(cross_entropy, logits, target) * weights * scale
        batch, batch_target = distributed.all_gather(features), distributed.all_gather(target)
        radii = options.eps_factor * self.eps
        robust = sum(
            robust_loss(layer, batch_target, means, eps, options.temperature, self.robust_weights)
            for part, centroids in zip(per_expert(batch), self.centroids)
            for layer, means, eps in zip(part.split(self.widths, 1), centroids.split(self.widths, 1), radii)
        )
        ones = torch.ones_like(truth)
        self.sums += distributed.all_reduce(torch.stack([truth.sum(), robust * len(target), ones.sum()]).detach().double())
        return truth + options.lambda_robust * robust

    def epoch_stats(self) -> dict[str, float]:
        """Means of both terms; the radii at the epoch's end; accuracy of the nearest centroid at its beginning."""
        truth, robust, examples = self.sums.tolist()
        eps = self.eps.detach()
        return {
            "ce": truth / examples, "robust": robust / examples, "centroid_accuracy": self.centroid_accuracy.item(),
            "eps_mean": eps.mean().item(), "eps_min": eps.min().item(), "eps_max": eps.max().item(),
        }


def per_expert(features: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """(B, D) -> one tensor; with experts (B, E, D) -> E tensors (B, D)."""
    return (features,) if features.ndim == 2 else features.unbind(1)


class OverLayers(nn.Module):
    """A backbone that gives the features of its last few stages side by side: (B, D_1 + D_2 + ..), with experts (B, E, ..).

    Raises ValueError where it has fewer stages, or does not tell their features.
    """

    def __init__(self, backbone: nn.Module, layers: int):
        super().__init__()
        most = len(backbone.stage_dims) if isinstance(backbone, HasStages) else 1
        if layers > most:
            expected = f"at most {most}, the stages of {type(backbone).__name__} that features are known of"
            raise ValueError(f"layers: got {layers}, expected {expected}")
        self.backbone, self.widths = backbone, backbone.stage_dims[-layers:]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat(self.backbone.stages(images)[-len(self.widths) :], dim=-1)


class OnLast(nn.Module):
    """A head that reads the last `width` of the features."""

    def __init__(self, head: nn.Module, width: int):
        super().__init__()
        self.head, self.width = head, width
        if isinstance(head, Observes):
            self.observe = lambda features, lr: head.observe(features[..., -width:], lr)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(features[..., -self.width :])


def over_layers(model: Classifier, layers: int) -> Classifier:
    """The same classifier, with the same modules, but features of its last few stages: see OverLayers."""
    backbone = OverLayers(model.backbone, layers)
    head = OnLast(model.head, backbone.widths[-1])
    return Classifier(backbone, head, model.mean.flatten().tolist(), model.std.flatten().tolist()).to(model.mean.device)
