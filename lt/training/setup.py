"""What every training of a backbone is put together from: the plug-ins and options that params.yaml names."""

from dataclasses import dataclass, field
from typing import Callable, Iterable

import numpy as np
import torch

from lt.core.params import AXES, Settings, TrainingSettings
from lt.data.split import Split
from lt.evaluate import metrics
from lt.input.part import TrainingPart
from lt.network import classifier
from lt.network.classifier import Classifier
from lt.network.inference import predict
from lt.training import checkpoint


def specification(settings: Settings, part: TrainingPart) -> dict:
    """What the classifier of these settings is built from."""
    model_options = settings.options("models", settings.model)
    if part.split.image_size is None:
        model_options = {"width": part.split.images.shape[1]} | {key: value for key, value in model_options.items() if value}
    spec = classifier.classifier_spec(
        settings.model, model_options, settings.head, settings.options("heads", settings.head), len(part.subset.counts),
        part.split.mean, part.split.std,
    )
    return spec if settings.trains_backbone() else spec | {"standardised": True}


@dataclass(frozen=True)
class Trained:
    """A trained classifier, its log (one dict per epoch), and the class prior (C,) that its raw logits embody.

    state: to be cleared when the artifact is written
    features: of a backbone that was not trained, clean (N, D) and test (N_test, D) float32
    """

    model: Classifier
    log: list[dict[str, float]]
    logit_prior: np.ndarray
    state: checkpoint.Checkpoint | None = None
    features: dict[str, np.ndarray] = field(default_factory=dict)


def state_parts(settings: Settings, part: TrainingPart, axes: Iterable[str], **further) -> dict:
    """What a training state is valid for, besides the code: the data, the plug-ins on the given axes, and `further` JSON values."""
    chosen = {axis: [getattr(settings, axis), settings.options(AXES[axis], getattr(settings, axis))] for axis in axes}
    return {"subset": [part.subset.sha256, part.subset.raw_sha256], **chosen, **further}


def tester(settings: TrainingSettings, test: Split | None, where: torch.device) -> Callable[[Classifier, int], dict[str, float]] | None:
    """What engine.Run.test is with `test_every: k`: accuracies on the test part after every k-th epoch and the last one.

    returns f(model, epoch counted from 0) -> test_top1, test_balanced (mean recall), NaN after the other epochs; None where
    test_every is 0 or there is no test part. The test part chooses nothing: the model is that of the last epoch all the same.
    """
    if not settings.test_every or test is None:
        return None

    def measure(model: Classifier, epoch: int) -> dict[str, float]:
        if (epoch + 1) % settings.test_every and epoch + 1 < settings.epochs:
            return {"test_top1": np.nan, "test_balanced": np.nan}
        predicted = metrics.predict(predict(model, test, where))
        recall = metrics.per_class(test.labels, predicted, len(test.classes))["recall"]
        return {"test_top1": float(np.mean(predicted == test.labels)), "test_balanced": float(np.nanmean(recall))}

    return measure
