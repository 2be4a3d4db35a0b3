"""Several processes: the same samples and the same steps as one, and what they share."""

import multiprocessing
import os
from functools import partial
from unittest import mock

import numpy as np
import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F

from lt.augments import crop_flip
from lt.core.params import TrainingSettings, Teacher
from lt.core.plugins import load
from lt.distill.xerm import Xerm
from lt.methods.dro_lt import clean_bank
from lt.network.classifier import Classifier, build_head
from lt.retrain.robust_loss import RobustObjective, Robustness
from lt.training import distributed, engine, launch
from lt.training.buckets import Buckets
from lt.training.objective import Objective, Supervised

COUNTS = np.array([12, 6, 4])
BATCH = 7  # the last of four batches holds one of the 22 images: one process has none
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["torch", "lt.training.engine"])


class Backbone(nn.Module):
    """Convolution and a batch norm whose statistics do not change; features (B, 6), or (B, 2, 6)."""

    def __init__(self, experts: int):
        super().__init__()
        self.conv, self.bn, self.experts = nn.Conv2d(3, 6 * experts, 3, padding=1), nn.BatchNorm2d(6 * experts), experts
        self.bn.running_mean.uniform_(-1, 1)
        self.bn.running_var.uniform_(0.5, 2)

    def train(self, mode: bool = True):
        super().train(mode)
        self.bn.eval()
        return self

    def forward(self, images):
        features = F.relu(self.bn(self.conv(images))).mean((2, 3))
        return features if self.experts == 1 else features.unflatten(1, (self.experts, 6))


def classifier(seed: int = 0, head: str = "linear", experts: int = 1) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = Backbone(experts)
    spec = {"name": head, "options": {}, "feature_dim": 6, "num_classes": 3, "num_experts": experts}
    return Classifier(backbone, build_head(spec, seed), (0.5,) * 3, (0.25,) * 3).double()


def supervised(name: str, **options) -> Objective:
    return Supervised(load("losses", name)(COUNTS, **options))


def xerm() -> Objective:
    teacher = classifier(seed=1).eval().requires_grad_(False)
    options = Teacher(gamma=1.5, eps=1e-5, temperature=2.0, weights="xerm", student="warm", student_loss="base")
    return Xerm(lambda images: (teacher(images), teacher(images).flip(1)), options, load("losses", "lade")(COUNTS), COUNTS)


def robust(**changes) -> Objective:
    plain = {
        "lambda_robust": 1.0, "temperature": 0.5, "eps_mode": "learned_free", "eps_init": 1.0, "eps_factor": 1,
        "ce_weight": "lt", "robust_weight": "lt", "centroid_source": "clean",
    }
    return RobustObjective(Robustness(**plain | changes), COUNTS, (6,), clean_bank).double()


class Recording(Objective):
    """Keeps what each step saw."""

    def __init__(self, objective: Objective):
        super().__init__()
        self.objective, self.seen = objective, []

    def forward(self, features, logits, mixed):
        self.seen.append(tuple(mixed))
        return self.objective(features, logits, mixed)


LONGTAIL = {"start_epoch": 1, "dev_batch_size": 9, "eps_lr": 0.5}
# How to change the plain run: its objective, plug-ins (name and options), head and number of experts.
CASES = {
    "ce": {"objective": lambda: Recording(supervised("ce"))},
    "unimix": {"objective": lambda: Recording(supervised("ce")), "mix": ("unimix", {})},
    "cutmix with class-aware batches": {
        "objective": lambda: Recording(supervised("balanced_softmax")), "mix": ("cutmix", {}), "sampler": "class_aware"
    },
    "lade": {"objective": lambda: supervised("lade", alpha=0.5, remine_lambda=0.1)},
    "lade on mixed batches": {"objective": lambda: supervised("lade"), "mix": ("mixup", {})},
    "lade, experts": {"objective": lambda: supervised("lade"), "experts": 2},
    "eql": {"objective": lambda: supervised("eql", threshold=0.2, gamma=0.5)},
    "gcl on mixed batches, experts": {"objective": lambda: supervised("gcl", scale=1.0), "mix": ("mixup", {}), "experts": 2},
    "ride": {"objective": lambda: supervised("ride", start_epoch=2), "experts": 2},
    "a head that observes": {"objective": lambda: supervised("ce"), "head": "causal"},
    "weights by batch": {
        "objective": lambda: supervised("ce"), "weighting": ("class_balanced", {"beta": 0.9, "normalize": "batch"})
    },
    "longtail_da": {"objective": lambda: supervised("ce"), "weighting": ("longtail_da", LONGTAIL)},
    "longtail_da, mean, scaled": {
        "objective": lambda: supervised("ce"),
        "weighting": ("longtail_da", {**LONGTAIL, "reduction": "mean", "clip_min": 0.5, "normalize": True}),
    },
    "longtail_da with lade": {"objective": lambda: supervised("lade"), "weighting": ("longtail_da", LONGTAIL)},
    "dro_lt": {"objective": robust, "sampler": "class_aware"},
    "dro_lt, radii by count": {"objective": lambda: robust(eps_mode="count", ce_weight="none")},
    "xerm": {"objective": xerm},
}


def make_run(objective, mix=("none", {}), sampler="instance", weighting=("none", {}), head="linear", experts=1) -> engine.Run:
    """5 epochs of 4 steps, or of 6 where batches are class-aware."""
    settings = TrainingSettings(
        epochs=5, batch_size=BATCH, lr=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4, schedule="step", warmup_epochs=2,
        warmup_from=0.1, milestones=[3], gamma=0.5, compile="off",
    )
    labels = torch.from_numpy(np.repeat(np.arange(3), COUNTS))
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(labels), 3, 8, 8), generator=random, dtype=torch.uint8)
    crop = crop_flip.make(8)
    return engine.Run(
        classifier(head=head, experts=experts), objective(), images, labels,
        load("samplers", sampler)(labels.numpy(), COUNTS, BATCH), lambda images, keys: crop(images, keys).double(), settings, 0, "test",
        load("mixes", mix[0])(COUNTS, **mix[1]), load("weightings", weighting[0])(COUNTS, **weighting[1]),
        dev_images=images, dev_labels=labels,
    )


def outcome(name: str) -> dict:
    """What a case ends in, and what each of its steps saw."""
    run = make_run(**CASES[name])
    log = engine.train(run)
    weights = {**run.model.state_dict(), **{f"objective.{key}": value for key, value in run.objective.state_dict().items()}}
    return {"weights": weights, "log": log, "seen": getattr(run.objective, "seen", [])}


def loss_of(rank: int) -> tuple[list[nn.Parameter], torch.Tensor]:
    """Parameters, of which one gets no gradient and one is of another type, and a loss that differs between processes."""
    random = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(size, generator=random)) for size in (5, 300, 7, 40, 1)]
    parameters[3] = nn.Parameter(parameters[3].detach().double())
    loss = sum((parameter * (1 + 0.1 * rank)).sin().sum() for parameter in (*parameters[:2], *parameters[3:]))
    return parameters, loss


def summed_flat(rank: int) -> list[torch.Tensor]:
    """Gradients by one message per type after the backward pass."""
    parameters, loss = loss_of(rank)
    loss.backward()
    for dtype in (torch.float32, torch.float64):
        distributed.all_reduce_coalesced(p.grad for p in parameters if p.grad is not None and p.dtype == dtype)
    return [parameter.grad for parameter in parameters]


def summed_in_buckets(rank: int) -> dict:
    """Gradients by buckets of at most 100 bytes, and how many of the gradients were there when each was sent."""
    parameters, loss = loss_of(rank)
    there, all_reduce = [], dist.all_reduce

    def watched(*arguments, **options):
        there.append(sum(parameter.grad is not None for parameter in parameters))
        return all_reduce(*arguments, **options)

    with mock.patch.object(dist, "all_reduce", watched), Buckets(parameters, bucket_bytes=100) as gradients:
        (parameters[0].sum() * 3).backward()  # of no concern here
        parameters[0].grad = None
        gradients.backward(loss)
    summed = [None if parameter.grad is None else parameter.grad.clone() for parameter in parameters]
    parameters[0].sum().backward()
    return {"gradients": summed, "there": there, "afterwards": parameters[0].grad - summed[0]}


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {name: outcome(name) for name in CASES}
    found["shards"] = [distributed.shard(size) for size in (0, 1, 2, 7)]
    found["gathered"] = distributed.all_gather(torch.full((2 - rank, 3), float(rank)))
    found["flags"] = [distributed.any_rank(step, rank == 1, False) for step in (0, 1, distributed.AGREE_EVERY)]
    found["equal"] = distributed.equal(5, 6), distributed.equal(5, rank)
    found["flat"], found["buckets"] = summed_flat(rank), summed_in_buckets(rank)
    engine.Buckets = partial(Buckets, bucket_bytes=64)
    found["small buckets"] = {name: outcome(name)["weights"] for name in ("dro_lt", "longtail_da")}
    first = [torch.full((2,), float(rank)), torch.full((1, 2), float(rank), dtype=torch.float64), torch.tensor(rank)]
    distributed.broadcast(first)
    found["first"] = first
    try:
        distributed.synchronise_batch_norm(classifier())
    except ValueError as error:
        found["told"] = str(error)
    with launch.processes():
        torch.save(found, f"{folder}/{rank}.pt")
    assert rank == 0 and distributed.world_size() == 1


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("two")
    processes = [FORKS.Process(target=one_of_two, args=(rank, str(folder))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    # Written by these tests a moment ago.
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_end_where_one_does(name, two):
    alone = outcome(name)
    start = {**make_run(**CASES[name]).model.state_dict()}
    assert any(not torch.equal(start[key], alone["weights"][key]) for key in start), "nothing was trained"
    for found in two:
        assert found[name]["weights"].keys() == alone["weights"].keys()
        for key, value in alone["weights"].items():
            torch.testing.assert_close(found[name]["weights"][key], value, rtol=0, atol=1e-9, msg=lambda text: f"{key}: {text}")
        for row, expected in zip(found[name]["log"], alone["log"], strict=True):
            assert row == pytest.approx(expected, abs=1e-9, nan_ok=True)
    for key, value in two[0][name]["weights"].items():
        assert torch.equal(value, two[1][name]["weights"][key]), f"{key} differs between the processes"


@pytest.mark.parametrize("name", ["ce", "unimix", "cutmix with class-aware batches"])
def test_two_processes_see_the_same_samples_as_one(name, two):
    alone = outcome(name)["seen"]
    assert len(alone) >= 20
    for whole, *parts in zip(alone, two[0][name]["seen"], two[1][name]["seen"], strict=True):
        assert [len(part[0]) for part in parts] == [(len(whole[0]) + 1) // 2, len(whole[0]) // 2]
        for values, *shards in zip(whole, *parts):
            assert torch.equal(torch.cat(shards), values)


def test_what_processes_share(two):
    assert [found["shards"] for found in two] == [
        [slice(0, 0), slice(0, 1), slice(0, 1), slice(0, 4)], [slice(0, 0), slice(1, 1), slice(1, 2), slice(4, 7)],
    ]
    for rank, found in enumerate(two):
        assert found["gathered"].tolist() == [[0.0] * 3, [0.0] * 3, [1.0] * 3]
        assert found["flags"] == [(True, False), (False, False), (True, False)]
        assert found["equal"] == (True, False)
        assert [tensor.tolist() for tensor in found["first"]] == [[0, 0], [[0, 0]], rank]
        assert found["told"] == (
            "sync_batchnorm: got true with 2 processes on a CPU, expected GPUs; set it to false, or LT_NPROC to 1"
        )


def test_gradients_in_buckets_are_those_of_one_message_and_are_sent_on_the_way(two):
    for found in two:
        flat, buckets = found["flat"], found["buckets"]["gradients"]
        assert flat[2] is None and buckets[2] is None
        for one, other in zip(flat, buckets):
            assert one is None or torch.equal(one, other)
        assert len(found["buckets"]["there"]) == 4 and found["buckets"]["there"][0] < 4
        assert torch.equal(found["buckets"]["afterwards"].round(), torch.ones(5)), "what comes after it is not summed"
    assert not torch.equal(two[0]["flat"][0], loss_of(0)[0][0])


@pytest.mark.parametrize("name", ["dro_lt", "longtail_da"])
def test_a_training_in_many_buckets_ends_in_the_same_bits(name, two):
    for found in two:
        for key, value in found[name]["weights"].items():
            assert torch.equal(found["small buckets"][name][key], value), key


def test_alone_everything_is_what_it_was():
    values = torch.rand(5, 2, requires_grad=True)
    assert distributed.all_gather(values) is values and distributed.all_reduce(values) is values
    assert (distributed.world_size(), distributed.rank(), distributed.shard(5), distributed.rows(values)) == (1, 0, slice(0, 5), 5)
    assert distributed.any_rank(3, True, False) == (True, False)


def test_a_process_whose_launcher_is_gone_stops(monkeypatch):
    monkeypatch.setenv("LT_LAUNCHER", str(os.getppid()))
    assert not distributed.orphaned()
    monkeypatch.setenv("LT_LAUNCHER", "1" if os.getppid() != 1 else "2")
    with pytest.raises(KeyboardInterrupt, match="stopped in epoch 1"):
        engine.train(make_run(**CASES["ce"]))
