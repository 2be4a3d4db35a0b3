"""A classifier is a backbone and a head; a decision rule is a head with an offset on its logits. How they are built, saved, read."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lt.core import artifacts, keys
from lt.core.plugins import load
from lt.core.schemas import ClassifierRow, RuleRow
from lt.network.contracts import HasExperts, HasNormalisation, Observes
from lt.network.routing import Routed


class ExpertHeads(nn.Module):
    """One head per expert: features (B, E, D) -> logits (B, E, C)."""

    def __init__(self, heads: list[nn.Module]):
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.stack([head(features[:, e]) for e, head in enumerate(self.heads)], dim=1)

    def observe(self, features: torch.Tensor, lr: float) -> None:
        """Hands each expert's features to its head's running state, where it keeps one."""
        for e, head in enumerate(self.heads):
            if isinstance(head, Observes):
                head.observe(features[:, e], lr)

    def balanced(self, features: torch.Tensor) -> torch.Tensor:
        """The heads' second, balanced view, stacked like the first."""
        return torch.stack([head.balanced(features[:, e]) for e, head in enumerate(self.heads)], dim=1)


class Standardised(nn.Module):
    """A backbone whose features get mean 0 and standard deviation 1, each, over those that `fit` has seen.

    So a ridge penalty weighs all of them alike, whatever their scales, and a head behind it stays what it is.
    """

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.feature_dim, self.num_experts = backbone.feature_dim, experts_of(backbone)
        if isinstance(backbone, HasNormalisation):
            self.normalisation = backbone.normalisation
        shape = (self.feature_dim,) if self.num_experts == 1 else (self.num_experts, self.feature_dim)
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (self.backbone(images) - self.centre) / self.scale

    def fit(self, features: np.ndarray) -> None:
        """Takes centre and scale from the backbone's features (N, D) or (N, E, D); one that is the same in all rows has scale 1."""
        centre, scale = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
        varies = scale > 1e-6 * np.maximum(np.abs(centre), scale.max())  # more than the rounding of float32
        self.centre.copy_(torch.from_numpy(centre))
        self.scale.copy_(torch.from_numpy(np.where(varies, scale, 1.0)))


class Classifier(nn.Module):
    """images (B, 3, H, W) in [0, 1] -> logits (B, C), or (B, E, C) with experts; normalises the images itself.

    mean, std: of the data set; a backbone that was trained with others has them in its `normalisation`, and these count
    Embeddings (B, D) may stand for images, with a mean and a std of one number.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        # Channels-last convolutions are 1.1 to 1.4 times as fast on a CPU, and what tensor cores want.
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.head = head
        mean, std = backbone.normalisation if isinstance(backbone, HasNormalisation) else (mean, std)
        shape = (1, 3, 1, 1) if len(mean) == 3 else (1, 1)
        self.register_buffer("mean", torch.tensor(mean).view(shape))
        self.register_buffer("std", torch.tensor(std).view(shape))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """images (B, 3, H, W) in [0, 1] -> features (B, D) or (B, E, D)."""
        return self.backbone((images - self.mean) / self.std)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))


class DecisionRule(nn.Module):
    """features -> logits: a head, or its balanced view, plus a constant offset per class."""

    def __init__(self, head: nn.Module, offset: np.ndarray | None, balanced_view: bool, num_classes: int):
        super().__init__()
        self.head = head
        self.balanced_view = balanced_view
        offset = np.zeros(num_classes) if offset is None else offset
        self.register_buffer("offset", torch.as_tensor(offset, dtype=torch.float32))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (self.head.balanced(features) if self.balanced_view else self.head(features)) + self.offset


def experts_of(backbone: nn.Module) -> int:
    """E, the number of a backbone's experts."""
    return backbone.num_experts if isinstance(backbone, HasExperts) else 1


def classifier_spec(model: str, model_options: dict, head: str, head_options: dict, num_classes: int, mean, std) -> dict[str, Any]:
    """What is needed to build a classifier again, as plain JSON values."""
    return {
        "model": {"name": model, "options": model_options},
        "head": {"name": head, "options": head_options},
        "num_classes": num_classes,
        "mean": list(mean),
        "std": list(std),
    }


def without_weights(spec: dict[str, Any]) -> dict[str, Any]:
    """The specification of a classifier whose weights are going to be replaced: those it began with are not looked for."""
    if not spec["model"]["options"].get("weights"):
        return spec
    return spec | {"model": spec["model"] | {"options": spec["model"]["options"] | {"weights": None}}}


def build(spec: dict[str, Any], seed: int) -> Classifier:
    """A freshly initialised classifier; the same weights for the same seed, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keys.derive(seed, "init"))
        backbone = load("models", spec["model"]["name"])(**spec["model"]["options"])
    if spec.get("standardised"):
        backbone = Standardised(backbone)
    sizes = {"feature_dim": backbone.feature_dim, "num_classes": spec["num_classes"], "num_experts": experts_of(backbone)}
    head_spec = {**spec["head"], **sizes}
    return Classifier(backbone, build_head(head_spec, keys.derive(seed, "init", "head")), spec["mean"], spec["std"])


def build_head(spec: dict[str, Any], seed: int) -> nn.Module:
    """A freshly initialised head that remembers its spec: name, options, feature_dim, num_classes, num_experts; and routing, the
    options of lt.network.routing.Routed, where the experts are chosen among."""
    make = load("heads", spec["name"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = [make(spec["feature_dim"], spec["num_classes"], **spec["options"]) for _ in range(spec["num_experts"])]
        head = heads[0] if spec["num_experts"] == 1 else ExpertHeads(heads)
        if spec.get("routing"):
            head = Routed(head, spec["num_experts"], spec["feature_dim"], spec["num_classes"], **spec["routing"])
    head.spec = dict(spec)
    return head


def write_classifier(
    folder: Path, classifier: Classifier, spec: dict[str, Any], logit_prior: np.ndarray, context: dict[str, str]
) -> None:
    """Writes row.json and weights.safetensors; context: what the row was made of, see lt.core.context."""
    row = {"classifier": spec, "logit_prior": np.asarray(logit_prior).tolist(), "context": context}
    artifacts.write_json(folder / "row.json", row)
    artifacts.write_weights(folder / "weights.safetensors", classifier)


def read_classifier(folder: Path) -> tuple[Classifier, dict[str, Any]]:
    """The classifier of a base or distill artifact, on the CPU, in evaluation mode, and its row.json."""
    row = artifacts.read_json(folder / "row.json", ClassifierRow)
    classifier = build(without_weights(row["classifier"]), seed=0)
    artifacts.read_weights(folder / "weights.safetensors", classifier)
    return classifier.eval(), row


def write_rule(
    folder: Path, rule: DecisionRule, logit_prior: np.ndarray, backbone: nn.Module | None, context: dict[str, str]
) -> None:
    """Writes row.json, weights.safetensors and, where the method trained one, backbone.safetensors; context as above."""
    row = {"head": rule.head.spec, "balanced_view": rule.balanced_view, "logit_prior": np.asarray(logit_prior).tolist()}
    artifacts.write_json(folder / "row.json", row | {"context": context})
    artifacts.write_weights(folder / "weights.safetensors", rule)
    if backbone is not None:
        artifacts.write_weights(folder / "backbone.safetensors", backbone)


def backbone_file(method: str, seed: int) -> Path | None:
    """Weights of the backbone that a method's rule reads: its own where it trained one, else that of the cached features where
    their batch-norm statistics were taken anew; None where it is the base model's."""
    folders = artifacts.stage_dir("retrain", method, seed), artifacts.stage_dir("features", seed)
    return next((file for folder in folders if (file := folder / "backbone.safetensors").is_file()), None)


def read_rule(folder: Path) -> tuple[DecisionRule, dict[str, Any]]:
    """The decision rule of a retrain artifact, on the CPU, in evaluation mode, and its row.json."""
    row = artifacts.read_json(folder / "row.json", RuleRow)
    rule = DecisionRule(build_head(row["head"], seed=0), None, row["balanced_view"], row["head"]["num_classes"])
    artifacts.read_weights(folder / "weights.safetensors", rule)
    return rule.eval(), row
