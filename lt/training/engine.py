"""The one training loop of everything that trains a backbone: base models, xERM students, DRO-LT.

Every random number is keyed by (seed, epoch, step) or (seed, epoch, position), so the state of a run is its weights,
momenta and log: a killed run continues from its last saved state and ends in the same bytes. Of several processes
(lt/training/distributed.py) each takes its part of every batch: what a batch is, and what is drawn for it, is the same for any number.
"""

import os
import time
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import accumulate
from typing import Any, Callable

import torch
from torch import nn

from lt.core import keys
from lt.core.params import TrainingSettings
from lt.input.augmented import augmented
from lt.input.streamed import Streamed
from lt.network.classifier import Classifier
from lt.network.contracts import Observes
from lt.training import checkpoint, distributed, precision, randomness
from lt.training.buckets import Buckets
from lt.training.contracts import HasSlowPart, LogsEpochs, Mixed, Step, TellsCoupling
from lt.training.mixing import unmixed
from lt.training.objective import Objective, TrainingError, mean_over_experts
from lt.training.progress import Progress
from lt.training.schedule import learning_rate
from lt.training.sgd import SGD


def equal_weights(step: Step) -> torch.Tensor:
    """Every example counts the same: ones (B,)."""
    return torch.ones_like(step.losses())


@dataclass
class Run:
    """What one training needs.

    images (N, 3, H, W) uint8, on the model's device or streamed    labels (N,) on the device    sampler: index batches into them
    augment(images, keys), mix(images, target, epoch, generator), weighting(step): plug-ins; by default nothing is mixed or weighted
    dev_images, dev_labels: development set of meta-learned weightings, class by class, or None
    test(model, epoch): columns of the log, the same in every epoch, from the model as the epoch leaves it; None for no column
    state: where to save, or None    forward, optimizer, gradients, untouched, log, saved_at: filled in by train
    """

    model: Classifier
    objective: Objective
    images: torch.Tensor | Streamed
    labels: torch.Tensor
    sampler: Any
    augment: Callable
    settings: TrainingSettings
    seed: int
    name: str
    mix: Callable = unmixed
    weighting: Callable = equal_weights
    dev_images: torch.Tensor | None = None
    dev_labels: torch.Tensor | None = None
    test: Callable[[Classifier, int], dict[str, float]] | None = None
    state: checkpoint.Checkpoint | None = None
    forward: precision.Forward | None = None
    optimizer: SGD | None = None
    gradients: Buckets | None = None
    untouched: randomness.Untouched | None = None
    log: list[dict[str, float]] = field(default_factory=list)
    saved_at: float = field(default_factory=time.monotonic)

    @cached_property
    def dev_counts(self) -> torch.Tensor:
        """Images per class (C,) of the development set; counted once, since a GPU makes the host wait for it."""
        return torch.bincount(self.dev_labels)


def train(run: Run) -> list[dict[str, float]]:
    """Trains run.model in place for run.settings.epochs epochs; returns the log, one dict per epoch.

    Raises TrainingError where the loss is NaN or infinite, naming epoch, batch and learning rate, where an epoch has no batch, and
    where a plug-in draws from a global generator; ValueError where it is to be compiled and cannot be; KeyboardInterrupt on Ctrl-C, after the state is saved.
    """
    with precision.switches(run.settings, run.images.device), checkpoint.StopSignal() as stop:
        if run.settings.sync_batchnorm:
            distributed.synchronise_batch_norm(run.model)
        run.forward = precision.Forward(run.model, run.settings, run.images)
        run.optimizer, run.untouched = _optimizer(run), randomness.Untouched(run.images.device)
        epoch, first_step, losses = _restore(run)
        print(f"{run.name}: {precision.told(run.settings, run.images)}")
        shown = Progress(run.name, run.settings.epochs, epoch, silent=distributed.rank() > 0)
        with Buckets(run.optimizer.parameters) as run.gradients, shown as progress:
            while epoch < run.settings.epochs:
                losses = _train_epoch(run, epoch, first_step, losses, stop)
                _finish_epoch(run, epoch, losses)
                progress.epoch(run.log[-1]["loss"], run.log[-1]["accuracy"])
                epoch, first_step, losses = epoch + 1, 0, []
    if not all(tensor.isfinite().all() for tensor in run.model.state_dict().values()):
        raise _diverged(run, "a weight is NaN or infinite after the last step", epoch - 1)
    run.model.eval()
    return run.log


def _optimizer(run: Run) -> SGD:
    """The backbone learns at backbone_lr_factor times the rate of all else; of one that has `slow_parameters`, only these."""
    settings, backbone = run.settings, run.model.backbone
    slow = {*(backbone.slow_parameters() if isinstance(backbone, HasSlowPart) else backbone.parameters())}
    parameters = [p for p in (*run.model.parameters(), *run.objective.parameters()) if p.requires_grad]
    factors = [settings.backbone_lr_factor if parameter in slow else 1.0 for parameter in parameters]
    return SGD(parameters, settings.lr, settings.momentum, settings.weight_decay, settings.nesterov, factors)


def _train_epoch(run: Run, epoch: int, first_step: int, losses: list, stop: checkpoint.StopSignal) -> list[torch.Tensor]:
    settings = run.settings
    lr = run.optimizer.lr = learning_rate(settings, epoch)
    if first_step == 0:
        run.objective.start_epoch(epoch, run.model, run.images, run.labels)
    batches = run.sampler.epoch(keys.generator(run.seed, "batches", epoch), epoch / settings.epochs)
    if not batches:
        raise TrainingError(f"{run.name}: an epoch has no batch; got {len(run.labels)} images, batch_size {settings.batch_size}")
    sizes = [len(batch) for batch in batches]
    starts = [0, *accumulate(sizes)]
    if isinstance(run.images, Streamed):
        run.images.expect([batch[_own(run, len(batch))] for batch in batches[first_step:]])
    else:
        batches = torch.cat(batches).to(run.images.device).split(sizes)  # one transfer per epoch
    run.model.train()
    for step in range(first_step, len(batches)):
        losses.append(_train_step(run, epoch, step, lr, batches[step], starts[step]))
        if step == first_step:
            run.untouched.check(run.name)
        stop.armed = True
        due = run.state is not None and time.monotonic() - run.saved_at > run.state.save_every_s
        asked, orphaned, due = distributed.any_rank(step, stop.asked, distributed.orphaned(), due)
        if asked or orphaned or due:
            saved = _save(run, epoch, step + 1, losses)
        if asked or orphaned:
            (saved,) = distributed.any_rank(step, saved)
            why = ", since what had started a process of it is gone" if orphaned else ""
            told = "the state is saved" if saved else "this state could not be saved"
            raise KeyboardInterrupt(f"{run.name}: stopped in epoch {epoch + 1}{why}; {told}; run the same command to continue")
    return losses


def _train_step(run: Run, epoch: int, step: int, lr: float, batch: torch.Tensor, start: int) -> torch.Tensor:
    """One SGD step; returns (mean loss, number of right predictions, size) as a tensor: nothing here waits for the device.

    With several processes each returns its summands of the three.
    """
    generator = keys.generator(run.seed, "step", epoch, step, device=run.labels.device)
    mixed = _mixed_shard(run, epoch, batch, start, generator)
    run.objective.start_step(generator)
    passed = cache(lambda: _forward(run, epoch, step, mixed))
    weights = run.weighting(_weighting_step(run, epoch, step, lr, mixed, lambda: passed()[2], generator))
    features, logits, per_example = passed()
    loss = (weights * per_example).sum() / len(batch)
    run.optimizer.zero_grad()
    run.gradients.backward(loss)
    run.optimizer.step()
    if isinstance(run.model.head, Observes):
        run.model.head.observe(distributed.all_gather(features.detach()), lr)
    right = (mean_over_experts(logits.detach()).argmax(1) == mixed.target_a).sum()
    size = torch.full_like(right, len(mixed.target_a), dtype=torch.float64)
    return torch.stack([loss.detach().double(), right.double(), size])


def _mixed_shard(run: Run, epoch: int, batch: torch.Tensor, start: int, generator: torch.Generator) -> Mixed:
    """This process's shard of a batch (B,), whose first image has position `start` in its epoch, augmented and mixed.

    Where images are mixed with others of their batch, each process augments and mixes all of it, and then takes its shard.
    """
    size, own = len(batch), _own(run, len(batch))
    positions = torch.arange(start, start + size, device=run.labels.device)
    batch, positions = batch[own], positions[own]
    images = augmented(run.images[batch], run.augment, keys.derive(run.seed, "augment", epoch), positions)
    labels = run.labels[batch.to(run.labels.device, non_blocking=True)]
    mixed = run.mix(images, labels, epoch, generator)
    shard = distributed.shard(size)
    if own == shard:
        return mixed
    images, target, other, lam = (part[shard] for part in mixed)
    return Mixed(images, target, target if mixed.target_b is mixed.target_a else other, lam)


def _own(run: Run, size: int) -> slice:
    """The rows of a batch that this process augments: its shard, or all where images need others of their batch."""
    is_coupled = run.mix.batch_coupled if isinstance(run.mix, TellsCoupling) else True
    is_whole = is_coupled or size < distributed.world_size()  # an augmentation may need an image
    return slice(0, size) if is_whole else distributed.shard(size)


def _forward(run: Run, epoch: int, step: int, mixed: Mixed) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    with randomness.seeded(run.images.device, run.seed, "network", epoch, step, distributed.rank()):
        features, logits = run.forward(mixed.images)
    return features, logits, run.objective(features, logits, mixed)


def _weighting_step(run: Run, epoch: int, step: int, lr: float, mixed: Mixed, losses: Callable, generator) -> Step:
    def objective(model, images, target):
        features = model.features(images)
        ones = torch.ones(len(target), device=images.device)
        return run.objective(features, model.head(features), Mixed(images, target, target, ones))

    def dev_batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        if run.dev_images is None:
            raise TrainingError("this weighting needs a development set, and none was carved; see its dev options in params.yaml")
        # A class, then an image of it; not by multinomial, which on a GPU is not deterministic.
        counts = run.dev_counts
        drawn = torch.rand(2, size, generator=generator, dtype=torch.float64, device=run.dev_labels.device)
        classes = (drawn[0] * len(counts)).long()
        chosen = counts.cumsum(0)[classes] - 1 - (drawn[1] * counts[classes]).long()
        positions = torch.arange(size, device=chosen.device)
        seed = keys.derive(run.seed, "augment dev", epoch, step)
        return augmented(run.dev_images[chosen], run.augment, seed, positions), run.dev_labels[chosen]

    return Step(epoch, step, lr, run.model, mixed.images, mixed.target_a, losses, objective, dev_batch, generator)


def _finish_epoch(run: Run, epoch: int, losses: list[torch.Tensor]) -> None:
    """Adds the epoch to the log; TrainingError where a loss was not finite.

    Running statistics are those of process 0 from here on: the next epoch may begin with a look at the model, and they are saved.
    """
    table = _finite(run, epoch, losses)
    run.untouched.check(run.name)
    distributed.broadcast(run.model.buffers())
    size = table[:, 2].sum()
    row = {"epoch": epoch + 1, "lr": learning_rate(run.settings, epoch)}
    row |= {"loss": float((table[:, 0] * table[:, 2]).sum() / size), "accuracy": float(table[:, 1].sum() / size)}
    row |= run.objective.epoch_stats() | (run.weighting.epoch_stats() if isinstance(run.weighting, LogsEpochs) else {})
    if run.test and distributed.rank() == 0:
        row |= run.test(run.model, epoch)
        run.model.train()  # as the epoch has left it
    run.log.append(row)


def _finite(run: Run, epoch: int, losses: list[torch.Tensor]) -> torch.Tensor:
    """(steps, 3) on the CPU: mean loss, right predictions, examples; TrainingError where a loss is not finite."""
    table = distributed.all_reduce(torch.stack(losses)).cpu()
    broken = torch.nonzero(~torch.isfinite(table[:, 0]))
    if len(broken):
        raise _diverged(run, f"the loss is {table[broken[0, 0], 0].item()} in batch {broken[0, 0].item() + 1}", epoch)
    return table


def _diverged(run: Run, what: str, epoch: int) -> TrainingError:
    return TrainingError(
        f"{run.name}: {what} of epoch {epoch + 1}, at learning rate {learning_rate(run.settings, epoch):g}; try a lower lr, "
        f"a longer warm-up or a larger batch_size; nothing was written"
    )


def _modules(run: Run) -> dict[str, nn.Module]:
    """Everything that changes in training, besides the momenta and the log."""
    parts = {"model": run.model, "objective": run.objective, "weighting": run.weighting}
    return {name: part for name, part in parts.items() if isinstance(part, nn.Module)}


def _save(run: Run, epoch: int, step: int, losses: list[torch.Tensor]) -> bool:
    """Saves the state after `step` steps of the epoch, if it is to be saved; TrainingError where a loss was not finite."""
    table = _finite(run, epoch, losses)
    parts = {name: part.state_dict() for name, part in _modules(run).items()}
    place = {"epoch": epoch, "step": step, "losses": table, "log": run.log}
    content = {**parts, "optimizer": run.optimizer.state_dict(), **place}
    saved = distributed.rank() == 0 and bool(run.state) and run.state.save(content)
    run.saved_at = time.monotonic()
    return saved


def _fits(saved: dict[str, Any]) -> bool:
    """Whether a saved state has a loss for each step of its epoch, and a line of the log for each epoch before it."""
    is_log = len(saved["log"]) == saved["epoch"] and all(isinstance(line, dict) for line in saved["log"])
    return is_log and saved["losses"].shape == (saved["step"], 3)


def _restore(run: Run) -> tuple[int, int, list[torch.Tensor]]:
    """Continues from the saved state, if there is one: the epoch, the number of its steps that are done, and what they gave."""
    kinds = {"epoch": int, "step": int, "losses": torch.Tensor, "log": list, "optimizer": dict, **dict.fromkeys(_modules(run), dict)}
    saved = run.state.read(kinds, _fits) if run.state else None
    if not distributed.equal(saved["epoch"] if saved else -1, saved["step"] if saved else -1):
        raise TrainingError(f"{run.name}: the processes found different states; {run.state.folder} has to be one folder for all")
    if saved is None:
        distributed.broadcast([*run.model.state_dict().values(), *run.objective.state_dict().values()])
        return 0, 0, []
    try:
        for name, part in _modules(run).items():
            part.load_state_dict(saved[name])
        run.optimizer.load_state_dict(saved["optimizer"])
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise TrainingError(f"{run.state.path} does not fit {run.name} ({error}); delete it and run the same command again") from None
    run.log[:] = saved["log"]
    print(f"{run.name}: continues in epoch {saved['epoch'] + 1} from {os.path.relpath(run.state.path)}")
    summands = saved["losses"] if distributed.rank() == 0 else torch.zeros_like(saved["losses"])
    return saved["epoch"], saved["step"], list(summands.to(run.images.device).unbind(0))
