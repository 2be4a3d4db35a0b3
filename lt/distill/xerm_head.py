"""xERM where the backbone stays as it is: the student is a head too, fitted to the same loss on the cached features."""

import copy

import numpy as np
import torch
from torch import nn

from lt.base.frozen import by_pass
from lt.core import artifacts
from lt.core.counts import prior
from lt.core.params import Settings
from lt.distill.xerm import TwoViews, Xerm
from lt.network.classifier import Classifier, DecisionRule, backbone_file, read_classifier, read_rule
from lt.retrain.contracts import Inputs
from lt.training.contracts import Mixed
from lt.training.lbfgs import converge
from lt.training.setup import Trained


def fit_student(settings: Settings, inputs: Inputs, name: str) -> Trained:
    """The student: the base model's backbone, and the head that minimises the xERM loss on the features of the images as they are.

    The teacher's two views are those of the same features. distill.weight_decay is the ridge penalty (lt.training.lbfgs.converge); of
    `distill` no more is read. The loss is convex in the logits, so that a linear student ends in the same place whether it
    begins warm or fresh.

    raises ValueError where the teacher has a backbone of its own, whose features are not cached
    """
    folder, base_folder = artifacts.stage_dir("retrain", name, inputs.seed), artifacts.stage_dir("base", inputs.seed)
    if (folder / "backbone.safetensors").is_file():
        raise ValueError(f"teachers.{name}: got a method that trains the backbone, expected one of heads alone with train.epochs 0")
    options, counts = settings.teachers[name], inputs.counts
    (base, base_row), (rule, rule_row) = read_classifier(base_folder), read_rule(folder)
    teacher = on_features(base, rule, base_row, rule_row, counts).to(inputs.device)
    loss = settings.plugin("loss", counts).to(inputs.device) if options.student_loss == "base" else None
    objective = Xerm(teacher, options, loss, counts).to(inputs.device)
    head = copy.deepcopy(inputs.head) if options.student == "warm" else inputs.new_head()

    def losses(features: torch.Tensor, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return objective(features, logits, Mixed(features, target, target, torch.ones(len(target), device=target.device)))

    target = torch.from_numpy(inputs.labels).to(inputs.device)
    log = converge(head.to(inputs.device), losses, inputs.clean, target, settings.distill.weight_decay)
    base.head = head
    if file := backbone_file(name, inputs.seed):
        artifacts.read_weights(file, base.backbone)
    embodied = prior(counts) if options.weights == "restart" else teacher.rule_prior
    return Trained(base.to(inputs.device).eval(), [by_pass(line) | objective.epoch_stats() for line in log], embodied)


def on_features(base: Classifier, rule: DecisionRule, base_row: dict, rule_row: dict, counts: np.ndarray) -> TwoViews:
    """The teacher's two views of features (B, D) in place of images: the base head's, and the rule's."""
    behind = Classifier(nn.Identity(), copy.deepcopy(base.head), (0.0,), (1.0,))
    return TwoViews(behind, np.array(base_row["logit_prior"]), rule, np.array(rule_row["logit_prior"]), None, counts)
