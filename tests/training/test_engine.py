"""The training loop: what one step does, that a stopped run goes on to the same bytes, how it stops."""

import os
import random
import signal
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lt.augments import crop_flip
from lt.core import keys
from lt.core.params import TrainingSettings
from lt.input import augmented
from lt.losses import ce
from lt.mixes import none as no_mix
from lt.network.classifier import Classifier, build_head
from lt.samplers import instance
from lt.training import checkpoint, distributed, engine
from lt.training.contracts import Mixed
from lt.training.objective import Objective, Supervised, TrainingError, cross_entropy
from lt.weightings import none as no_weighting

COUNTS = np.array([12, 6, 4])
EPOCHS, BATCH, STEPS = 3, 8, 3  # the third batch of an epoch holds 6 of the 22 images


class Backbone(nn.Module):
    """Convolution and batch norm; features (B, 6), or (B, experts, 6)."""

    def __init__(self, experts: int = 1):
        super().__init__()
        self.conv, self.bn, self.experts = nn.Conv2d(3, 6 * experts, 3, padding=1), nn.BatchNorm2d(6 * experts), experts

    def forward(self, images):
        features = F.relu(self.bn(self.conv(images))).mean((2, 3))
        return features if self.experts == 1 else features.unflatten(1, (self.experts, 6))


class Stateful(Objective):
    """Cross-entropy with a trained temperature, centred on statistics of the epoch before, and a column of the log."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))
        self.register_buffer("shift", torch.zeros(3))
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))
        self.started = []

    def start_epoch(self, epoch, model, images, labels):
        self.started.append(epoch)
        with torch.no_grad():
            self.shift.copy_(model(images.float() / 255).mean(0))
        self.seen.zero_()

    def forward(self, features, logits, mixed):
        self.seen += logits.detach().abs().sum()
        return F.cross_entropy((logits - self.shift) * self.temperature, mixed.target_a, reduction="none")

    def epoch_stats(self):
        return {"seen": self.seen.item()}


class Momentum(nn.Module):
    """A weighting with a memory and a column of the log."""

    def __init__(self):
        super().__init__()
        self.class_weights = np.ones(3)
        self.register_buffer("mean", torch.ones(()))

    def forward(self, step):
        self.mean.mul_(0.9).add_(0.1 * step.losses().detach().mean())
        return step.losses().detach() / self.mean

    def epoch_stats(self):
        return {"mean": self.mean.item()}


def schedule(**changes) -> TrainingSettings:
    plain = {
        "epochs": EPOCHS, "batch_size": BATCH, "lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4,
        "schedule": "cosine", "warmup_epochs": 1, "warmup_from": 1.0, "milestones": [], "gamma": 0.1, "compile": "off",
    }
    return TrainingSettings(**plain | changes)


def make_run(state=None, experts=1, head="linear", objective=None, **changes) -> engine.Run:
    settings = schedule(**{key: changes.pop(key) for key in [*changes] if key in TrainingSettings.model_fields})
    random = torch.Generator().manual_seed(0)
    labels = torch.from_numpy(np.repeat(np.arange(3), COUNTS))
    images = torch.randint(0, 256, (len(labels), 3, 8, 8), generator=random, dtype=torch.uint8)
    spec = {"name": head, "options": {}, "feature_dim": 6, "num_classes": 3, "num_experts": experts}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = Backbone(experts)
    model = Classifier(backbone, build_head(spec, 0), (0.5,) * 3, (0.25,) * 3)
    parts = {
        "objective": objective or Supervised(ce.make(COUNTS)),
        "sampler": instance.make(labels.numpy(), COUNTS, settings.batch_size),
        "augment": crop_flip.make(8), "mix": no_mix.make(COUNTS), "weighting": no_weighting.make(COUNTS),
    }
    named = {"model": model, "images": images, "labels": labels, "settings": settings, "seed": 0, "name": "test", "state": state}
    return engine.Run(**named | parts | changes)


def result(run: engine.Run) -> tuple:
    parts = [part for part in (run.model, run.objective, run.weighting) if isinstance(part, nn.Module)]
    return [checkpoint.digest(part) for part in parts], run.log


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state that is saved after every step."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(checkpoint, "SAVE_EVERY_S", -1.0)
    return checkpoint.Checkpoint("test", {})


def after_steps(monkeypatch, count, action):
    """Calls action() in the place of step `count`, counted from 0, or after it, if action is a signal's number."""
    train_step, done = engine._train_step, []

    def counting(*arguments):
        done.append(arguments)
        if len(done) == count + 1 and not isinstance(action, int):
            action()
        outcome = train_step(*arguments)
        if len(done) == count + 1 and isinstance(action, int):
            os.kill(os.getpid(), action)
        return outcome

    monkeypatch.setattr(engine, "_train_step", counting)
    return done


def die():
    raise MemoryError("killed")


KINDS = {
    "plain": {},
    "experts": {"experts": 2},
    "a head that observes": {"head": "causal"},
    "experts that observe": {"experts": 2, "head": "causal"},
    "an objective with parameters and buffers": {"objective": Stateful},
    "a weighting with buffers": {"weighting": Momentum},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
def test_a_killed_training_ends_in_the_same_bytes(kind, steps, state, monkeypatch, capsys):
    def run(state):
        return make_run(state, **{key: value() if isinstance(value, type) else value for key, value in KINDS[kind].items()})

    whole, killed, resumed = run(None), run(state), run(state)
    engine.train(whole)
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        after_steps(patch, steps, die)
        engine.train(killed)
    done = after_steps(monkeypatch, -1, die)
    engine.train(resumed)
    assert len(done) == EPOCHS * STEPS - steps
    # A state is saved before its epoch's end is logged: the epoch of the last finished step is the one that goes on.
    assert f"continues in epoch {(steps - 1) // STEPS + 1} from" in capsys.readouterr().out
    assert result(resumed) == result(whole)
    assert result(whole)[0][0] != checkpoint.digest(run(None).model)


@pytest.mark.parametrize("change", [{"log": []}, {"log": [1]}, {"losses": torch.zeros(3)}, {"step": STEPS - 1}], ids=str)
def test_a_state_whose_parts_do_not_go_together_is_told_and_not_used(change, state, monkeypatch, capsys):
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        after_steps(patch, STEPS + 1, die)
        engine.train(make_run(state))
    state.save(state.read() | change)
    resumed, whole = make_run(state), make_run(None)
    engine.train(resumed)
    engine.train(whole)
    assert "is of another shape (its parts do not fit together); training starts from the beginning" in capsys.readouterr().out
    assert result(resumed) == result(whole)


def test_an_epoch_starts_once_even_if_it_is_resumed(state, monkeypatch):
    first, second = Stateful(), Stateful()
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        after_steps(patch, 5, die)
        engine.train(make_run(state, objective=first))
    engine.train(make_run(state, objective=second))
    assert (first.started, second.started) == ([0, 1], [2])


def test_training_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    engine.train(make_run())
    assert torch.equal(torch.get_rng_state(), before)


class Rolling(Objective):
    """Cross-entropy times random numbers of a given source."""

    def __init__(self, source, from_epoch=0):
        super().__init__()
        self.source, self.from_epoch, self.epoch = source, from_epoch, 0

    def start_epoch(self, epoch, model, images, labels):
        self.epoch = epoch

    def start_step(self, generator):
        self.generator = generator

    def forward(self, features, logits, mixed):
        losses = cross_entropy(logits, mixed.target_a)
        return losses * self.source(self, logits) if self.epoch >= self.from_epoch else losses


@pytest.mark.parametrize("from_epoch", [0, 1])
@pytest.mark.parametrize(
    "source, owner",
    [
        (lambda self, logits: torch.rand_like(logits[:, 0]), r"torch \(cpu\)"),
        (lambda self, logits: np.random.uniform(), r"numpy \(np.random\)"),
        (lambda self, logits: random.random(), r"Python \(random\)"),
    ],
    ids=["torch", "numpy", "python"],
)
def test_random_numbers_of_a_global_generator_are_refused(source, owner, from_epoch):
    with pytest.raises(TrainingError, match=f"test: random numbers were drawn from the global generator of {owner}, .* self.uniform"):
        engine.train(make_run(objective=Rolling(source, from_epoch)))


def from_the_step(self, logits):
    return torch.rand(len(logits), generator=self.generator)


def test_random_numbers_of_the_step_are_the_same_in_a_resumed_run(state, monkeypatch):
    whole, again = make_run(objective=Rolling(from_the_step)), make_run(objective=Rolling(from_the_step))
    engine.train(whole)
    engine.train(again)
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        after_steps(patch, 5, die)
        engine.train(make_run(state, objective=Rolling(from_the_step)))
    resumed = make_run(state, objective=Rolling(from_the_step))
    engine.train(resumed)
    assert result(whole) == result(again) == result(resumed)


def test_dropout_is_seeded_by_the_step(state, monkeypatch):
    def dropping(state=None, seed=0):
        run = make_run(state, seed=seed)
        run.model.backbone = nn.Sequential(run.model.backbone, nn.Dropout(0.5))
        return run

    runs = dropping(), dropping()
    for run in runs:
        torch.rand(3)  # whatever was drawn before
        engine.train(run)
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        after_steps(patch, 5, die)
        engine.train(dropping(state))
    resumed = dropping(state)
    engine.train(resumed)
    assert result(runs[0]) == result(runs[1]) == result(resumed)


def test_a_mixed_batch_has_the_mixed_loss():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.1, 0.0]], dtype=torch.float64)
    a, b, lam = torch.tensor([0, 1]), torch.tensor([2, 1]), torch.tensor([0.7, 0.25], dtype=torch.float64)
    found = Supervised(ce.make(COUNTS))(None, logits, Mixed(None, a, b, lam))
    log_p = logits.log_softmax(1)
    expected = torch.stack([-0.7 * log_p[0, 0] - 0.3 * log_p[0, 2], -log_p[1, 1]])
    torch.testing.assert_close(found, expected)
    both = Supervised(ce.make(COUNTS))(None, torch.stack([logits, 2 * logits], 1), Mixed(None, a, b, lam))
    log_p = (2 * logits).log_softmax(1)
    torch.testing.assert_close(both, expected + torch.stack([-0.7 * log_p[0, 0] - 0.3 * log_p[0, 2], -log_p[1, 1]]))


def test_a_step_descends_the_weighted_mean():
    def weights(step):
        return torch.where(step.target == 0, 0.0, 3.0) * torch.ones_like(step.losses())

    settings = {"epochs": 1, "batch_size": 22, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "warmup_epochs": 0}
    run, expected = make_run(**settings, weighting=weights), make_run(**settings)
    order = run.sampler.epoch(keys.generator(0, "batches", 0))[0]
    images = augmented.augmented(run.images[order], run.augment, keys.derive(0, "augment", 0), torch.arange(22))
    target = run.labels[order]
    losses = F.cross_entropy(expected.model.train()(images), target, reduction="none")
    (losses * 3 * (target != 0)).mean().backward()
    engine.train(run)
    for (name, parameter), start in zip(run.model.named_parameters(), expected.model.parameters()):
        torch.testing.assert_close(parameter, start - 0.1 * start.grad, msg=name)
    assert run.log[0]["loss"] == pytest.approx((losses * 3 * (target != 0)).mean().item(), rel=1e-6)


@pytest.mark.parametrize("new_layer", [False, True])
def test_the_backbone_learns_at_a_rate_of_its_own_and_what_is_new_in_it_at_the_full_rate(new_layer):
    """Without momentum one step is the learning rate times the gradient, which a factor of 1 shows."""
    class Extended(nn.Module):
        """A trunk, which learns slowly, and a layer after it."""

        def __init__(self):
            super().__init__()
            self.trunk, self.projection = Backbone(), nn.Linear(6, 6)

        def slow_parameters(self):
            return self.trunk.parameters()

        def forward(self, images):
            return self.projection(self.trunk(images))

    def moved(factor):
        run = make_run(backbone_lr_factor=factor, epochs=1, batch_size=22, warmup_epochs=0, schedule="constant", weight_decay=0.0)
        if new_layer:
            torch.manual_seed(0)
            run.model.backbone = Extended()
        before = {name: parameter.detach().clone() for name, parameter in run.model.named_parameters()}
        engine.train(run)
        return {name: parameter.detach() - before[name] for name, parameter in run.model.named_parameters()}

    full, slow = moved(1.0), moved(0.1)
    assert all(step.abs().max() > 1e-6 for name, step in full.items() if not name.endswith("conv.bias"))
    for name, step in full.items():
        held = name.startswith("backbone.trunk." if new_layer else "backbone.")
        torch.testing.assert_close(slow[name], 0.1 * step if held else step, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("looks, expected", [(False, ["before", "after", "pass"]), (True, ["before", "pass", "after"])])
def test_a_batch_goes_through_the_model_once_and_when_it_is_needed(looks, expected):
    order = []

    class Recording(Supervised):
        def forward(self, *batch):
            order.append("pass")
            return super().forward(*batch)

    def weights(step):
        order.append("before")
        if looks:
            assert step.losses() is step.losses()
        order.append("after")
        return torch.ones(len(step.target))

    engine.train(make_run(epochs=1, batch_size=22, warmup_epochs=0, objective=Recording(ce.make(COUNTS)), weighting=weights))
    assert order == expected


@pytest.mark.parametrize("size", [1, 5, 22])
def test_an_image_is_augmented_alike_in_a_batch_of_any_size(size):
    def seen(batch_size):
        found = []

        def mix(images, target, epoch, generator):
            found.append(images)
            return Mixed(images, target, target, torch.ones(len(target)))

        engine.train(make_run(batch_size=batch_size, mix=mix, epochs=2, warmup_epochs=0))
        return torch.cat(found)

    whole = seen(BATCH)
    assert torch.equal(seen(size), whole)
    assert not torch.equal(whole[:22].sort(0).values, whole[22:].sort(0).values), "both epochs have the same augmentation"


def test_the_log_is_the_mean_over_examples_with_a_smaller_last_batch():
    class Brightness(Objective):
        def forward(self, features, logits, mixed):
            return mixed.images.mean((1, 2, 3)) + 0 * logits.sum(1)

    run = make_run(objective=Brightness(), augment=lambda images, keys: images, lr=1e-30)
    engine.train(run)
    expected = (run.images.double() / 255).mean().item()
    assert [row["loss"] for row in run.log] == pytest.approx([expected] * EPOCHS, rel=1e-6)
    assert [row["epoch"] for row in run.log] == [1, 2, 3]
    assert all(abs(row["accuracy"] * 22 - round(row["accuracy"] * 22)) < 1e-9 for row in run.log)


def test_frozen_parameters_stay_and_the_objectives_are_trained():
    run = make_run(objective=Stateful())
    run.model.head.requires_grad_(False)
    before = run.model.head.weight.clone()
    engine.train(run)
    assert torch.equal(run.model.head.weight, before)
    assert run.objective.temperature.item() != 1
    assert not run.model.training


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(value, state, monkeypatch):
    class Breaks(Supervised):
        calls = 0

        def forward(self, features, logits, mixed):
            self.calls += 1
            return super().forward(features, logits, mixed) * (value if self.calls == STEPS + 2 else 1.0)

    run = make_run(state, objective=Breaks(ce.make(COUNTS)))
    with pytest.raises(TrainingError) as error:
        engine.train(run)
    for part in (f"{value}", "batch 2 of epoch 2", "learning rate 0.05", "try a lower lr", "nothing was written"):
        assert part in str(error.value)
    saved = state.read()
    assert (saved["epoch"], saved["step"]) == (1, 1)
    assert all(tensor.isfinite().all() for tensor in saved["model"].values())


def test_weights_that_are_not_finite_after_the_last_step_stop_too():
    def weights(step):
        return torch.full_like(step.losses(), 1e6)

    run = make_run(lr=1e38, epochs=1, batch_size=22, warmup_epochs=0, schedule="constant", weighting=weights)
    with pytest.raises(TrainingError, match="a weight is NaN or infinite after the last step of epoch 1.*1e[+]38"):
        engine.train(run)


def test_an_epoch_without_a_batch_is_told():
    class Empty:
        def epoch(self, generator, progress):
            return []

    with pytest.raises(TrainingError, match="no batch; got 22 images, batch_size 8"):
        engine.train(make_run(sampler=Empty()))


def test_a_weighting_without_its_development_set_is_told():
    with pytest.raises(TrainingError, match="development set"):
        engine.train(make_run(weighting=lambda step: step.dev_batch(4)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_saves_tells_and_goes_on(number, state, monkeypatch):
    state.save_every_s = 1e9
    handlers = [signal.getsignal(item) for item in (signal.SIGINT, signal.SIGTERM)]
    whole, resumed = make_run(), make_run(state)
    engine.train(whole)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as stopped:
        after_steps(patch, 4, int(number))
        engine.train(make_run(state))
    assert str(stopped.value) == "test: stopped in epoch 2; the state is saved; run the same command to continue"
    assert state.read()["step"] == 2
    engine.train(resumed)
    assert result(resumed) == result(whole)
    assert [signal.getsignal(item) for item in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_stop_that_could_not_be_saved_says_so(state, monkeypatch, capsys):
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    after_steps(monkeypatch, 4, int(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="this state could not be saved"):
        engine.train(make_run(state))
    assert "No space left on device" in capsys.readouterr().out
    assert not list(state.folder.iterdir())


def test_a_signal_before_the_first_step_and_a_second_one_stop_at_once(state, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="from the last saved state"):
        done = after_steps(patch, 0, lambda: os.kill(os.getpid(), signal.SIGINT))
        engine.train(make_run(state))
    assert len(done) == 1 and state.read() is None

    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="from the last saved state"):
        after_steps(monkeypatch, 4, twice)
        engine.train(make_run(state))
    assert (state.read()["epoch"], state.read()["step"]) == (1, 1)


def test_where_processes_train_together_a_second_signal_counts_if_it_comes_later(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with checkpoint.StopSignal() as stop:
        stop.armed = True
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        monkeypatch.setattr(checkpoint, "SAME_S", 0.0)
        with pytest.raises(KeyboardInterrupt, match="from the last saved state"):
            os.kill(os.getpid(), signal.SIGTERM)


def test_ignored_signals_stay_ignored_as_in_background_jobs(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        after_steps(monkeypatch, 2, int(signal.SIGINT))
        assert len(engine.train(make_run())) == EPOCHS
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_runs_in_a_thread():
    run = make_run()
    thread = threading.Thread(target=engine.train, args=[run])
    thread.start()
    thread.join()
    assert len(run.log) == EPOCHS
