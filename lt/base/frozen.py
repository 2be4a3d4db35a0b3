"""Stage 1 with `train.epochs: 0`: the backbone stays as its weights have it, or as nothing at all, and a head is fitted on its features.

The base stage fits the head itself, on the features of the images as they are, so that the graph is the same for every backbone,
and whatever reads a base model, reads this one. It keeps these features for the stage features, which does not compute them again.
"""

import numpy as np
import torch
from torch import nn

from lt.core.params import Settings
from lt.data.split import Split
from lt.features import features_of
from lt.input.part import TrainingPart
from lt.input.streamed import images_of
from lt.network import classifier
from lt.network.classifier import Classifier
from lt.training.lbfgs import converge
from lt.training.objective import expert_sum
from lt.training.setup import Trained, specification


def fit_base(settings: Settings, part: TrainingPart, seed: int, test: Split) -> Trained:
    """The backbone, its features standardised over the training part, and the head that minimises the loss of params.yaml on them.

    All images weigh the same, as they are, and train.weight_decay is the ridge penalty (lt.training.lbfgs.converge); so the logits embody
    the prior of the loss. Of `train` only batch_size is read besides, as the number of images at a time.
    The head is that of stage 1 under the plain loss, which any number of classes can have; the network's own logits are for
    the classes that it was trained on.

    raises TrainingError where the loss is not finite
    """
    where = part.images.device
    model = classifier.build(specification(settings, part), seed).to(where).eval()
    model.requires_grad_(False)
    loss = settings.plugin("loss", part.subset.counts).to(where)
    size, dtype = settings.train.batch_size, np.dtype(np.float32)
    raw = features_of(model, part.images, size, dtype)
    if not np.isfinite(raw).all():
        raise ValueError(f"models.{settings.model}: got features that are NaN or infinite; are its weights those of this network?")
    clean = standardise(model, raw)
    log = fit_head(model.head, loss, clean.to(where), part.labels, settings.train.weight_decay)
    of_test = features_of(model.eval(), images_of(test, np.arange(len(test.labels)), where), size, dtype)
    features = {"clean": clean.numpy(), "test": of_test}
    return Trained(model, [by_pass(line) for line in log], loss.logit_prior.cpu().numpy(), features=features)


@torch.no_grad()
def standardise(model: Classifier, raw: np.ndarray) -> torch.Tensor:
    """Fits centre and scale of the model's backbone to its raw features (N, D), and gives them standardised, on the CPU."""
    model.backbone.fit(raw)
    return (torch.from_numpy(raw) - model.backbone.centre.cpu()) / model.backbone.scale.cpu()


def fit_head(
    head: nn.Module, loss: nn.Module, features: torch.Tensor, labels: torch.Tensor, weight_decay: float
) -> list[dict[str, float]]:
    """Fits a base model's head to standardised features (N, D), in place, as fit_base says; returns the log of `converge`."""
    return converge(
        head.requires_grad_(True), lambda features, logits, target: expert_sum(loss, logits, target), features, labels, weight_decay
    )


def by_pass(line: dict[str, float]) -> dict[str, float]:
    """A line of the log as the training of a network writes it: a pass over the data is an epoch."""
    return {"epoch": line["step"], "loss": line["loss"], "accuracy": line["train_accuracy"]}
