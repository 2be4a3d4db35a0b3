"""DRO-LT: the backbone is trained on with a robust loss around class centroids, then the head on its new features.

group: images of one class in a row, in the class-aware batches of both parts
layers: how many of the backbone's last stages the robust loss is taken at, each with centroids and radii of its own, and
    added up: 1 as released; the paper speaks of several, but has no formula for them
eps_mode: the radii eps_c (C,) of the robust loss. learned_free trains them along with the backbone, as released. Nothing
    holds them up: their gradient is never negative, so that they fall, below zero in the end, and the learned radius loosens
    the loss instead of making it robust; see eps_mean, eps_min, eps_max in backbone_log.csv. shared: eps_init for every
    class; count: in proportion to n_c^(-1/2); both stay as they are. eps_init is their mean at the start in each mode.
eps_factor: 1 as released, 2 as in the paper's bound
ce_weight, robust_weight: class weights of the two terms, lt for n_c / max n (with class-aware batches: the natural
    frequencies again), none for equal ones
centroid_source: what the centroids are the mean of, before each epoch: clean, the training images as they are; sampled_aug,
    an epoch of augmented class-aware draws, as released, which costs max_c n_c * C images instead of N
head: linear trains the base model's head on, of whatever kind it is, as released; crt a new one; lws one factor per class;
    tau_norm divides the base head's class vectors by |w|^head_tau, ncm takes the class mean of the new features that has the
    smallest angle, as the release does to choose its epoch, both without training. The others: head_epochs epochs of plain
    cross-entropy on class-aware batches at head_lr
precision, deterministic, sync_batchnorm: of the backbone's training, as in the block train

The released protocol chooses the epoch on the test set; here the last one counts. Its augmentation is AutoAugment and Cutout.
(source: Samuel and Chechik 2021, Distributional Robustness Loss for Long-tail Learning; defaults: released, CIFAR-100-LT)
"""

import dataclasses
from typing import Callable, Literal

import numpy as np
import torch

from lt.core import artifacts, keys
from lt.core.counts import embodied_prior, prior, uniform
from lt.core.options import Count, Fraction, NonNegative, Positive
from lt.core.params import TrainingSettings
from lt.features import features_of, fill_views
from lt.input import augmented
from lt.losses import ce
from lt.network.classifier import Classifier
from lt.retrain.bank import FeatureBank
from lt.retrain.class_means import nearest_mean
from lt.retrain.contracts import Inputs, Retrained, Training
from lt.retrain.heads import dtype_of, linear_parts
from lt.retrain.loop import fit_head
from lt.retrain.rescaling import Scaled, normalise
from lt.retrain.robust_loss import RobustObjective, Robustness, over_layers
from lt.samplers import class_aware
from lt.training import engine, launch
from lt.training.checkpoint import Checkpoint

STATISTICS = None  # its own backbone
IMAGES_AT_ONCE = 512


def fit(
    inputs: Inputs,
    *,
    epochs: Count = 80,
    batch_size: Count = 128,
    lr: Positive = 0.005,
    momentum: Fraction = 0.9,
    weight_decay: NonNegative = 1e-4,
    group: Count = 4,
    lambda_robust: NonNegative = 1.0,
    layers: Count = 1,
    temperature: Positive = 1.0,
    eps_mode: Literal["learned_free", "shared", "count"] = "learned_free",
    eps_init: NonNegative = 1.0,
    eps_factor: Literal[1, 2] = 1,
    ce_weight: Literal["lt", "none"] = "lt",
    robust_weight: Literal["none", "lt"] = "none",
    centroid_source: Literal["clean", "sampled_aug"] = "clean",
    head: Literal["linear", "crt", "lws", "tau_norm", "ncm"] = "linear",
    head_epochs: Count = 20,
    head_lr: Positive = 0.01,
    head_tau: NonNegative = 1.0,
    precision: Literal["float32", "tf32", "bf16"] = "float32",
    deterministic: bool = False,
    sync_batchnorm: bool = False,
) -> Retrained:
    """First the base model's backbone is trained on, its head frozen, with cross-entropy + lambda_robust * robust loss on
    class-aware batches; then its features are extracted once more, and a head is trained on them. lr is constant in both parts.

    returns the head, the backbone, and their logs, see train_backbone; arrays: see radii
    raises ValueError where lws or tau_norm is asked for and the base head is not linear, or the backbone has fewer layers
    """
    if head in ("lws", "tau_norm"):
        linear_parts(inputs.head, f"dro_lt with head: {head}")  # refuses before anything is trained
    robust = Robustness(lambda_robust, temperature, eps_mode, eps_init, eps_factor, ce_weight, robust_weight, centroid_source, layers)
    settings = TrainingSettings(
        epochs=epochs, batch_size=batch_size, lr=lr, momentum=momentum, nesterov=False, weight_decay=weight_decay,
        schedule="constant", warmup_epochs=0, warmup_from=1.0, milestones=[], gamma=1.0,
        precision=precision, deterministic=deterministic, sync_batchnorm=sync_batchnorm,
    )
    sampler = class_aware.make(inputs.labels, inputs.counts, batch_size, group=group)
    with launch.processes():
        training = inputs.open_training()
        objective, log, state = train_backbone(inputs, training, robust, sampler, settings)
    inputs = with_new_features(inputs, training)
    recipe = {"lr": head_lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": False}
    shown = sampler.class_prior * objective.ce_weights.cpu().numpy()
    result = new_rule(inputs, head, head_tau, shown, sampler, head_epochs, recipe)
    return dataclasses.replace(result, arrays=radii(objective), backbone=training.base.backbone, backbone_log=log, state=state)


def train_backbone(
    inputs: Inputs, training: Training, options: Robustness, sampler: class_aware.ClassAware, settings: TrainingSettings
) -> tuple[RobustObjective, list[dict[str, float]], Checkpoint]:
    """Trains training.base.backbone in place, through the frozen head; gives the objective, the log and the training state.

    The log has centroid_accuracy, that of the nearest centroid by cosine on the images that the centroids are made of, as the
    epoch begins.
    """
    training.base.head.requires_grad_(False)
    model = training.base if options.layers == 1 else over_layers(training.base, options.layers)
    widths = inputs.clean.shape[-1:] if options.layers == 1 else model.backbone.widths
    shape = (*inputs.clean.shape[1:-1], sum(widths))
    bank = clean_bank if options.centroid_source == "clean" else sampled_bank(sampler, training.augment, inputs.seed)
    objective = RobustObjective(options, inputs.counts, shape, bank, widths).to(training.images.device)
    facts = {"seed": inputs.seed, "settings": settings.model_dump(), "group": sampler.group, **dataclasses.asdict(options)}
    state = Checkpoint(f"dro_lt-{inputs.seed}", training.origin | facts)
    run = engine.Run(
        model, objective, training.images, training.labels, sampler, training.augment,
        settings, keys.derive(inputs.seed, "dro_lt"), f"DRO-LT, seed {inputs.seed}", state=state,
    )
    return objective, engine.train(run), state


def radii(objective: RobustObjective) -> dict[str, np.ndarray]:
    """`eps` (C,) at the end, of the last layer; with several `eps_of_layers` (layers, C)."""
    eps = objective.eps.detach().cpu().numpy()
    return {"eps": eps[-1]} | ({"eps_of_layers": eps} if len(eps) > 1 else {})


def clean_bank(epoch: int, model: Classifier, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of the training images as they are."""
    model.eval()
    features = features_of(model, images, IMAGES_AT_ONCE, np.dtype(np.float32))
    return torch.from_numpy(features).to(labels.device), labels


def sampled_bank(sampler: class_aware.ClassAware, augment: Callable, seed: int) -> Callable:
    """Gives a bank of the features of one epoch of augmented class-aware draws, other ones than those trained on."""

    @torch.no_grad()
    def bank(epoch: int, model: Classifier, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        model.eval()
        drawn = torch.cat(sampler.epoch(keys.generator(seed, "dro_lt bank", epoch))).to(labels.device)
        positions = torch.arange(len(drawn), device=labels.device)
        key = keys.derive(seed, "dro_lt bank", "augment", epoch)
        features = [
            model.features(augmented.augmented(images[index], augment, key, where))
            for index, where in zip(drawn.split(IMAGES_AT_ONCE), positions.split(IMAGES_AT_ONCE))
        ]
        return torch.cat(features).float(), labels[drawn]

    return bank


def with_new_features(inputs: Inputs, training: Training) -> Inputs:
    """The inputs with the features that the trained backbone gives: as many views as before, under the same augmentation."""
    model = training.base.eval()
    clean = features_of(model, training.images, IMAGES_AT_ONCE, inputs.clean.dtype)
    views = artifacts.temporary_array(inputs.views.shape, inputs.views.dtype)
    fill_views(views, model, training.images, training.augment, IMAGES_AT_ONCE, inputs.seed)
    return dataclasses.replace(inputs, views=views, clean=clean)


def new_rule(
    inputs: Inputs, kind: str, tau: float, shown: np.ndarray, sampler: class_aware.ClassAware, epochs: int, recipe: dict
) -> Retrained:
    """What the option `head` names, on the new features; shown as in rescaled_head, epochs and recipe as in retrain_head."""
    if kind == "tau_norm":
        return rescaled_head(inputs, tau, shown)
    if kind == "ncm":
        return nearest_mean(inputs, "cosine")
    return retrain_head(inputs, kind, sampler, epochs, recipe)


def rescaled_head(inputs: Inputs, tau: float, shown: np.ndarray) -> Retrained:
    """The base head with class vectors divided by |w|^tau; its logits embody the prior of the backbone's training to 1 - tau.

    shown (C,): how much that training has shown each class, by drawing and by weight
    """
    normalise(inputs.head, tau, "dro_lt")
    embodied = embodied_prior(prior(inputs.counts), inputs.counts, shown) ** max(1 - tau, 0.0)
    return Retrained(inputs.head, embodied / embodied.sum())


def retrain_head(inputs: Inputs, kind: str, sampler: class_aware.ClassAware, epochs: int, recipe: dict) -> Retrained:
    """Trains a head on the cached views with plain cross-entropy and class-aware batches; its logits embody the uniform prior.

    kind: linear, crt or lws, see fit
    """
    generator = keys.generator(inputs.seed, "dro_lt head")
    head = (inputs.new_head() if kind == "crt" else inputs.head).to(inputs.device)
    trained = Scaled(head, len(inputs.counts), "dro_lt") if kind == "lws" else head
    batches = (batch for _ in range(epochs) for batch in sampler.epoch(generator))
    log = fit_head(
        trained, ce.make(inputs.counts).to(inputs.device), FeatureBank(inputs, dtype_of(head)), lambda: next(batches), generator,
        steps=epochs * sampler.steps, decay=False, columns=trained.columns if kind == "lws" else dict, **recipe,
    )
    return Retrained(trained.folded() if kind == "lws" else head, uniform(len(inputs.counts)), log=log)
