"""Base training: images per second of the engine and of a plain loop with torchvision's transforms and loader workers."""

import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from benchmarks import sizes
from benchmarks.timing import Row, medians, seconds
from lt.core.params import TrainingSettings
from lt.core.plugins import load
from lt.losses import ce
from lt.samplers import instance
from lt.training import checkpoint, engine, objective
from lt.training.precision import can_compile

BATCH = 128
SAVE_EVERY_S = 60
CIFAR100_LT, EPOCHS, GPU_BAR_S = 10_847, 200, 60


class Cutout:
    """Blackens a square around a random pixel of an image (3, H, W), as the plain loops do it."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        top, left = (torch.randint(32, (2,)) - 8).tolist()
        image[:, max(top, 0) : top + 16, max(left, 0) : left + 16] = 0
        return image


PLAIN = {
    "crop_flip": [transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip(), transforms.ToTensor()],
    "autoaugment_cutout": [
        transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip(),
        transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10), transforms.ToTensor(), Cutout(),
    ],
}


class PilImages(Dataset):
    """Images decoded and transformed one by one."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, augment: str):
        to_pil = transforms.ToPILImage()
        self.images, self.labels = [to_pil(image) for image in images], labels.tolist()
        self.transform = transforms.Compose([*PLAIN[augment], transforms.Normalize((0.5,) * 3, (0.25,) * 3)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def ours(images: torch.Tensor, labels: torch.Tensor, augment: str, where: torch.device, precision: str = "float32",
         compiled: bool = True):
    """One epoch by the engine, compiled where it can be and is to be, as a function; each call goes on with the same network."""
    counts = sizes.counts(len(images), 100)
    settings = TrainingSettings(
        epochs=1, batch_size=BATCH, lr=0.1, momentum=0.9, nesterov=False, weight_decay=5e-4, schedule="constant", warmup_epochs=0,
        warmup_from=1.0, milestones=[], gamma=0.1, compile="on" if compiled and can_compile() else "off",
        precision=precision,
    )
    run = engine.Run(
        sizes.resnet32().to(where), objective.Supervised(ce.make(counts).to(where)), images.to(where), labels.to(where),
        instance.make(labels.numpy(), counts, BATCH), load("augments", augment)(32),
        settings, 0, "ours",
    )
    return lambda: engine.train(run)


def plain(images: torch.Tensor, labels: torch.Tensor, augment: str, where: torch.device, workers: int):
    """One epoch of a plain loop, as a function. The workers stay between epochs."""
    loader = DataLoader(
        PilImages(images, labels, augment), BATCH, shuffle=True, num_workers=workers, persistent_workers=True,
        pin_memory=where.type == "cuda",
    )
    classifier = sizes.resnet32()
    model = nn.Sequential(classifier.backbone.to(memory_format=torch.contiguous_format), classifier.head).to(where).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=5e-4)

    def epoch() -> None:
        for batch, target in loader:
            loss = F.cross_entropy(model(batch.to(where, non_blocking=True)), target.to(where, non_blocking=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def rows(quick: bool) -> list[Row]:
    """Images per second with each augmentation on the CPU, the share of the peak, and on a GPU where there is one."""
    batches, repeats = (2, 1) if quick else (8, 5)
    images, labels = sizes.images(batches * BATCH)
    cpu = torch.device("cpu")
    found = []
    for augment in [*PLAIN][: 1 if quick else None]:
        our = ours(images, labels, augment, cpu, compiled=not quick)
        our_s, plain_s = medians(repeats, our, plain(images, labels, augment, cpu, workers=2))
        rates = len(images) / our_s, len(images) / plain_s
        found.append(Row(f"base training, {augment}, CPU, against a plain loop", *rates, "images/s", rates[0] / rates[1], 1.25))
    flops = flops_per_image() * found[0].ours / 1e9
    peak = matrix_peak(repeats) / 1e9
    found.append(Row("base training, share of the matrix-product peak, CPU", flops, peak, "Gflop/s", flops / peak))
    found.append(saving_row(repeats))
    return found + (gpu_rows(quick) if torch.cuda.is_available() else [])


def saving_row(repeats: int) -> Row:
    """Time of saving a training state against the default interval between two."""
    model = sizes.resnet32()
    momenta = [torch.zeros_like(parameter) for parameter in model.parameters()]
    with tempfile.TemporaryDirectory(dir=".") as folder:
        state = checkpoint.Checkpoint("benchmark", {}, Path(folder))
        (save_s,) = medians(repeats, lambda: state.save({"model": model.state_dict(), "momenta": momenta}))
    pair = "saving a training state, against the interval"
    return Row(pair, save_s, SAVE_EVERY_S, "s", save_s / SAVE_EVERY_S, 0.02, at_least=False)


def gpu_rows(quick: bool) -> list[Row]:
    """Images per second against the best number of workers, and the time of a whole published training."""
    images, labels = sizes.images((10 if quick else 84) * BATCH)
    gpu, repeats = torch.device("cuda"), 1 if quick else 5
    our_s = medians(repeats, ours(images, labels, "crop_flip", gpu))[0]
    plain_s = min(medians(1, plain(images, labels, "crop_flip", gpu, workers))[0] for workers in (2, 4, 8, 16))
    rates = len(images) / our_s, len(images) / plain_s
    whole_s = {name: EPOCHS * CIFAR100_LT / len(images) * s for name, s in (
        ("float32", our_s), ("bf16", medians(repeats, ours(images, labels, "crop_flip", gpu, "bf16"))[0])
    )}
    return [
        Row("base training, crop_flip, GPU, against the best of 2 to 16 workers", *rates, "images/s", rates[0] / rates[1], 5.0),
        *(
            Row(f"CIFAR-100-LT, {EPOCHS} epochs on a GPU, {name}", whole, GPU_BAR_S, "s", whole / GPU_BAR_S, 1.0, at_least=False)
            for name, whole in whole_s.items()
        ),
    ]


def flops_per_image() -> int:
    """Floating-point operations of one image's forward and backward pass, convolutions and matrix products only."""
    model = sizes.resnet32().train()
    with FlopCounterMode(display=False) as counter:
        model(torch.rand(2, 3, 32, 32)).sum().backward()
    return counter.get_total_flops() // 2


def matrix_peak(repeats: int, size: int = 2048) -> float:
    """Floating-point operations per second of a product of two float32 matrices."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    return 2 * size**3 / min(seconds(lambda: a @ b) for _ in range(2 * repeats + 1))
