"""A row of the table, put to use: one network from images to logits, and calibrated probabilities under a class prior."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lt.core import artifacts
from lt.core.counts import prior, uniform
from lt.core.params import Settings
from lt.core.plugins import unknown
from lt.core.row_names import maker
from lt.core.subset import Subset, read_subset
from lt.data.dataset import open_dataset
from lt.evaluate import metrics
from lt.evaluate.label_shift import fit_temperature_at, frequencies, prior_shift, read_prior
from lt.input.streamed import to_device, to_float
from lt.network.classifier import Classifier, backbone_file, read_classifier, read_rule
from lt.training.objective import mean_over_experts

VALIDATION_IMAGES = 5000  # plenty for one number
IMAGES_AT_ONCE = 256


class Network(nn.Module):
    """A complete row: images (B, 3, H, W) in [0, 1] -> logits (B, C), with experts their mean.

    logit_prior (C,): class prior that the logits embody
    """

    def __init__(self, classifier: Classifier, logit_prior: np.ndarray):
        super().__init__()
        self.classifier, self.logit_prior = classifier, logit_prior

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return mean_over_experts(self.classifier(images))


@dataclass(frozen=True)
class Calibration:
    """The temperature that logits are divided by, after they were moved to the prior of the images that it was fitted on.

    prior (C,): class frequencies of those images    fitted_on: which they are, in words; None where nothing was fitted
    """

    temperature: float
    prior: np.ndarray
    fitted_on: str | None


class Predictor(nn.Module):
    """images (B, 3, H, W) in [0, 1] -> logits (B, C) whose softmax is the calibrated class probabilities under `target`.

        softmax((z + log q - log logit_prior) / T)    is calibrated where classes come at frequencies q, those T was fitted at
        ... + log target - log q                      moves it to another prior by Bayes' rule

    With T = 1 this is z + log target - log logit_prior. A class of target 0 gets logit minus infinity.

    target (C,): any positive sum    facts: JSON values that say what the logits are, see open_predictor
    (source: Guo et al. 2017 for the temperature; Saerens et al. 2002 for the prior; Alexandari et al. 2020 for their order)
    """

    def __init__(self, network: Network, calibration: Calibration, target: np.ndarray, facts: dict[str, Any]):
        super().__init__()
        self.network, self.temperature, self.facts = network, calibration.temperature, facts
        shift = prior_shift(network.logit_prior, calibration.prior) / calibration.temperature
        self.register_buffer("shift", torch.as_tensor(shift + prior_shift(calibration.prior, target), dtype=torch.float32))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images) / self.temperature + self.shift


def open_predictor(settings: Settings, row: str, seed: int, prior_name: str, where: torch.device) -> Predictor:
    """The predictor of one row and seed, on a device, in evaluation mode.

    prior_name: see target_prior
    Its facts: row, seed, dataset, classes, image_size in pixels, crop (side of the centre that test images keep, or null),
    preprocessing (from a file to what the network sees, in words), prior_name, prior (C,), temperature, temperature_fitted_on (in
    words, or null), logit_prior (C,), subset_sha256 of the training positions.

    raises ValueError where the row or the prior is unknown, or the row takes embeddings, ArtifactError where something has not been made
    """
    if row not in settings.rows():
        raise ValueError(f"row: {unknown(row, settings.rows(), 'a row of the table')}")
    subset = read_subset()
    if subset.dataset != settings.dataset:
        raise ValueError(f"artifacts/data is of {subset.dataset}, params.yaml names dataset {settings.dataset}; run dvc repro")
    if subset.image_size is None:
        raise ValueError(f"row {row}: dataset {subset.dataset} holds embeddings; there is no network here that makes them from images")
    target = target_prior(prior_name, subset)
    network = read_network(row, seed).to(where)
    calibration = calibrate(settings, subset, row, seed, network, where)
    crop = settings.options("datasets", settings.dataset).get("test_crop")
    facts = {
        "row": row,
        "seed": seed,
        "dataset": subset.dataset,
        "classes": list(subset.classes),
        "image_size": subset.image_size,
        "crop": crop,
        "preprocessing": preprocessing(subset.image_size, crop),
        "prior_name": prior_name,
        "prior": target.tolist(),
        "temperature": calibration.temperature,
        "temperature_fitted_on": calibration.fitted_on,
        "logit_prior": network.logit_prior.tolist(),
        "subset_sha256": subset.sha256,
    }
    return Predictor(network, calibration, target, facts).to(where).eval()


def preprocessing(image_size: int, crop: int | None) -> list[str]:
    """What is done to an image file, as lt.data.decode.decode does it, and to its pixels, as the test images have it."""
    cut = [f"the middle {crop} x {crop} pixels"] if crop else []
    return [
        f"a JPEG is decoded at the least of its sizes of 1, 1/2, 1/4, 1/8 that is {2 * image_size} pixels or more on both sides",
        "turned as EXIF says; 16-bit grey cut to its upper 8 bits; laid on white where transparent; as 8-bit RGB",
        f"the middle square scaled to {image_size} x {image_size} pixels: bilinear, antialiased, rows first, rounded to whole numbers",
        *cut,
        "divided by 255; the network subtracts its own mean and divides by its own standard deviation",
    ]


def describe(facts: dict[str, Any], is_default_seed: bool) -> str:
    """What a predictor's probabilities are, in two lines."""
    seed = f"seed {facts['seed']}{' (the first of params.yaml)' if is_default_seed else ''}"
    if facts["temperature_fitted_on"] is None:
        calibrated = "uncalibrated: there are no images to fit a temperature on, or they do not determine it"
    else:
        fitted_on = facts["temperature_fitted_on"]
        calibrated = f"calibrated: temperature {facts['temperature']:.3f}, fitted on {fitted_on} at their class frequencies; judge it on others"
    return f"{facts['row']}, {seed}, prior {facts['prior_name']}\n{calibrated}"


def target_prior(name: str, subset: Subset) -> np.ndarray:
    """A class prior (C,), summing to 1: uniform; train, the training frequencies; or a JSON file, see label_shift.read_prior."""
    if name == "uniform":
        return uniform(len(subset.counts))
    if name == "train":
        return prior(subset.counts)
    if not Path(name).is_file():
        raise ValueError(f"prior: got {name!r}, expected uniform, train, or a JSON file with one weight per class")
    return read_prior(Path(name), subset.classes)


def read_network(row: str, seed: int) -> Network:
    """The network of one row and seed, put together from its artifacts, on the CPU, in evaluation mode.

    base and xerm_<teacher> are whole classifiers. A method is its decision rule on a backbone: its own where it trained one,
    else the one whose features were cached, which is the base model's, with new batch-norm statistics under `bn: recalibrate_*`.

    raises ArtifactError that names the command for what is missing
    """
    folder = _made(artifacts.row_dir(row, seed))
    if maker(row).stage != "retrain":
        classifier, facts = read_classifier(folder)
    else:
        classifier, _ = read_classifier(_made(artifacts.stage_dir("base", seed)))
        classifier.head, facts = read_rule(folder)
        if not (folder / "backbone.safetensors").is_file():
            _made(artifacts.stage_dir("features", seed))
        if file := backbone_file(row, seed):
            artifacts.read_weights(file, classifier.backbone)
    return Network(classifier, np.asarray(facts["logit_prior"], dtype=np.float64)).eval()


def _made(folder: Path) -> Path:
    """The folder of a stage's output; ArtifactError unless it is there."""
    if folder.is_dir():
        return folder
    *stage, seed = folder.relative_to(artifacts.ROOT).parts
    made = sorted(other.name for other in folder.parent.glob("[0-9]*")) if folder.parent.is_dir() else []
    others = f" (made: seed {', '.join(made)})" if made else ""
    raise artifacts.ArtifactError(
        f"{folder} is missing{others}; make it with `dvc repro`, which runs the seeds of params.yaml, or with "
        f"`python -m stages.{' '.join(stage)} --seed {seed}`"
    )


def calibrate(settings: Settings, subset: Subset, row: str, seed: int, network: Network, where: torch.device) -> Calibration:
    """Fits the temperature on the validation part, where there is one, else on the test part's cached logits.

    Tables judge by cross-fitting, where no image is judged with a temperature that it took part in fitting. Here nothing is
    judged, and all images take part: calibration or likelihood that is measured on the same ones would look too good.

    The temperature is 1 where there are no cached logits, or where the images do not determine it: all are right, or the more
    evenly the better. A validation part counts as none where its images are not at hand, or where the method was trained with it,
    as its meta set.
    """
    logits, labels, told = validation(settings, subset, row, network, where)
    is_carved = logits is not None and subset.val_part == "train"
    if logits is None:
        path = artifacts.row_dir(row, seed) / "test_logits.npy"
        logits = artifacts.read_array(path, dtype="float") if path.is_file() else None
        labels, told = subset.test_labels, f"{len(subset.test_labels)} test images{told}"
    # No class may have frequency 0: a carved part has that of the whole draw, in another a missing class counts as half an image.
    at = prior(subset.drawn) if is_carved else frequencies(labels, len(subset.counts))
    if logits is None:
        return Calibration(1.0, at, None)
    metrics.check_logits(logits, labels, len(subset.counts), f"logits of row {row}, seed {seed}")
    temperature = fit_temperature_at(logits, labels, network.logit_prior, at)
    return Calibration(1.0, at, None) if temperature is None else Calibration(temperature, at, told)


@torch.no_grad()
def validation(
    settings: Settings, subset: Subset, row: str, network: Network, where: torch.device
) -> tuple[np.ndarray | None, np.ndarray | None, str]:
    """Logits (B, C) and labels (B,) of at most VALIDATION_IMAGES of the validation part, evenly spaced, and which they are.

    Or None, None and, where there is such a part, why it is of no use.
    """
    if not len(subset.val_index):
        return None, None, ""
    if (settings.methods.get(maker(row).method) or {}).get("meta_set") == "val":
        return None, None, " (the row was trained with the validation images)"
    chosen = np.unique(np.linspace(0, len(subset.val_index) - 1, VALIDATION_IMAGES).astype(np.int64))
    batches = np.split(subset.val_index[chosen], range(IMAGES_AT_ONCE, len(chosen), IMAGES_AT_ONCE))
    try:
        part = open_dataset(settings, subset.val_part)
        logits = [network(to_float(to_device(part.read(index), where))).cpu() for index in batches]
    except (ValueError, OSError) as error:
        return None, None, f" (no validation images: {str(error).splitlines()[0]})"
    return torch.cat(logits).numpy(), subset.val_labels[chosen], f"{len(chosen)} validation images"
