"""xERM: a student learns from the ground truth and from a balanced teacher, weighted by what each view of the teacher gets wrong.

Zhu et al. 2022, Cross-domain empirical risk minimization for unbiased long-tailed classification (AAAI 2022).
"""

import copy
from typing import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lt.core import artifacts
from lt.core.counts import log_prior, prior, thirds
from lt.core.params import Settings, Teacher
from lt.data.split import Split
from lt.input.part import TrainingPart
from lt.network import classifier
from lt.network.classifier import Classifier, DecisionRule, backbone_file, read_classifier, read_rule
from lt.samplers import instance
from lt.training import checkpoint, distributed, engine, objective
from lt.training.contracts import Mixed
from lt.training.setup import Trained, specification, state_parts, tester


def balanced_weight(imbalanced: torch.Tensor, balanced: torch.Tensor, target: torch.Tensor, gamma: float, eps: float) -> torch.Tensor:
    """Weight of the balanced teacher's term: w_bal = XE_bal^gamma / (XE_bal^gamma + XE_imb^gamma + eps), per example.

    Each term's weight grows with the loss of the same view of the teacher; eps sends well-fit examples to the ground truth.

    imbalanced, balanced (B, C) logits of the teacher's two views    target (B,)    returns (B,) in [0, 1], without graph
    """
    with torch.no_grad():
        imbalanced_loss = F.cross_entropy(imbalanced.float(), target, reduction="none") ** gamma
        balanced_loss = F.cross_entropy(balanced.float(), target, reduction="none") ** gamma
        return balanced_loss / (balanced_loss + imbalanced_loss + eps)


def teacher_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 * cross-entropy of the student's softened probabilities against the teacher's: logits (B, C) twice -> (B,)."""
    soft = F.softmax(teacher.detach() / temperature, dim=1)
    return -(soft * F.log_softmax(student / temperature, dim=1)).sum(1) * temperature**2


def mixture(weights: str, balanced: torch.Tensor) -> torch.Tensor:
    """Weight (B,) of the teacher's term: w_bal for 'xerm'; controls: 'swapped' 1 - w_bal, 'restart' 0, 'distill' 1, 'half' 1/2."""
    constants = {"restart": 0.0, "distill": 1.0, "half": 0.5}
    if weights in constants:
        return torch.full_like(balanced, constants[weights])
    return 1 - balanced if weights == "swapped" else balanced


class Xerm(objective.Supervised):
    """w_imb * CE(student, target) + w_bal * CE(student, softmax(balanced teacher)), w_imb = 1 - w_bal, per example.

    teacher(images) -> (imbalanced logits, balanced logits), (B, C) each, or (B, E, C) with experts: then the weights come from
    the experts' mean logits, and both terms are summed over pairs of experts. The teacher sees the student's augmented batch.
    """

    def __init__(self, teacher: Callable, options: Teacher, student_loss: nn.Module | None, counts: np.ndarray):
        super().__init__(student_loss or objective.cross_entropy)
        self.teacher = [teacher]  # in a list: the frozen teacher is no part of the state that is trained and saved
        self.options = options
        self.register_buffer("third", torch.from_numpy(np.stack([*thirds(counts).values()]).argmax(0)))
        self.register_buffer("weight_sum", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("weight_count", torch.zeros(3, dtype=torch.float64))

    def start_epoch(self, epoch, model, images, labels) -> None:
        super().start_epoch(epoch, model, images, labels)
        self.weight_sum.zero_()
        self.weight_count.zero_()

    def forward(self, features: torch.Tensor, logits: torch.Tensor, mixed: Mixed) -> torch.Tensor:
        target, options = mixed.target_a, self.options
        with torch.no_grad():
            imbalanced, balanced = self.teacher[0](mixed.images)
        weight = balanced_weight(
            objective.mean_over_experts(imbalanced), objective.mean_over_experts(balanced), target, options.gamma, options.eps
        )
        member = F.one_hot(self.third[target], 3).double()
        added = distributed.all_reduce(torch.stack([weight.double() @ member, member.sum(0)]))
        self.weight_sum += added[0]
        self.weight_count += added[1]
        share = mixture(options.weights, weight)
        if logits.ndim == 2:
            logits, balanced = logits[:, None], balanced[:, None]
        truth = objective.expert_sum(self.loss, logits, target)
        taught = sum(teacher_loss(logits[:, e], balanced[:, e], options.temperature) for e in range(logits.shape[1]))
        return (1 - share) * truth + share * taught

    def epoch_stats(self) -> dict[str, float]:
        """Mean w_bal of the examples of head, mid and tail classes in the epoch."""
        means = (self.weight_sum / self.weight_count.clamp(min=1)).tolist()
        return dict(zip(("w_bal_head", "w_bal_mid", "w_bal_tail"), means))


class TwoViews(nn.Module):
    """The frozen teacher: images (B, 3, H, W) -> (imbalanced logits, balanced logits).

    The imbalanced view follows the training prior: z + log prior - log base_prior, which is z itself for a base trained with
    cross-entropy, and z + log prior for one whose loss has compensated already. The balanced view is the rule's logits.

    base_prior (C,): what the base's raw logits embody    rule_prior (C,): what the rule's embody
    backbone: the rule's own, or None where it reads the base's features
    """

    def __init__(self, base: Classifier, base_prior: np.ndarray, rule: DecisionRule, rule_prior: np.ndarray,
                 backbone: nn.Module | None, counts: np.ndarray):
        super().__init__()
        self.base, self.rule, self.backbone, self.rule_prior = base, rule, backbone, rule_prior
        self.register_buffer("shift", torch.as_tensor(log_prior(counts) - np.log(base_prior), dtype=torch.float32))
        self.requires_grad_(False).eval()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.base.features(images)
        own = features if self.backbone is None else self.backbone((images - self.base.mean) / self.base.std)
        return self.base.head(features) + self.shift, self.rule(own)


def read_teacher(name: str, seed: int, part: TrainingPart) -> TwoViews:
    """The teacher of one seed: the base model's artifact and the row `name` of methods, on the training part's device."""
    base, base_row = read_classifier(artifacts.stage_dir("base", seed))
    rule, row = read_rule(artifacts.stage_dir("retrain", name, seed))
    backbone = None
    if file := backbone_file(name, seed):
        backbone = copy.deepcopy(base.backbone)
        artifacts.read_weights(file, backbone)
    views = TwoViews(base, np.array(base_row["logit_prior"]), rule, np.array(row["logit_prior"]), backbone, part.subset.counts)
    return views.to(part.images.device)


def train_student(
    settings: Settings, part: TrainingPart, name: str, teacher: TwoViews, seed: int, test: Split | None = None
) -> Trained:
    """Trains the xERM student, the full network, on the teacher's two views of each augmented batch; test: lt.training.setup.tester."""
    where, class_counts, options = part.images.device, part.subset.counts, settings.teachers[name]
    spec = specification(settings, part)
    if options.student == "warm":
        student = classifier.build(classifier.without_weights(spec), seed).to(where)
        student.load_state_dict(teacher.base.state_dict())
    else:
        student = classifier.build(spec, seed).to(where)
    loss = settings.plugin("loss", class_counts).to(where) if options.student_loss == "base" else None
    parts = state_parts(
        settings, part, ("dataset", "model", "head", "loss", "augment"),
        seed=seed, training=settings.distill.model_dump(), options=options.model_dump(), teacher=checkpoint.digest(teacher),
    )
    state = checkpoint.Checkpoint(f"distill-{name}-{seed}", parts)
    run = engine.Run(
        student, Xerm(teacher, options, loss, class_counts).to(where), part.images, part.labels,
        instance.make(part.subset.train_labels, class_counts, settings.distill.batch_size),
        settings.plugin("augment", part.split.image_size), settings.distill, seed, f"xERM, teacher {name}, seed {seed}", test=tester(settings.distill, test, where), state=state,
    )
    embodied = prior(class_counts) if options.weights == "restart" else teacher.rule_prior
    return Trained(student, engine.train(run), embodied, state)
