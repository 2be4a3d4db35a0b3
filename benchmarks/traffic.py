"""What summing gradients costs: bytes per step, and from which network on they take less than a tenth of a step.

python -m benchmarks.traffic     calculated, not measured

A ring of n processes moves 2 (n - 1) / n times the gradients' bytes through each one's link (Patarasuk and Yuan 2009), in float32.
A step without it takes 3 times the forward pass's operations, counted on the network itself, at a share of the GPU's peak, and
at least LEAST_MS: several hundred kernels are started in turn. Two thirds of it are the backward pass, behind which buckets
of the gradients can be summed, all but the last one: the layers that are nearest to the images.
"""

import math
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from lt.core.plugins import load
from lt.training.buckets import BUCKET_BYTES

GPUS = 8
PEAK, SHARE, LEAST_MS = 989e12, 0.10, 2.0  # H100, dense bfloat16, operations per second; what training reaches of it
# Model -> side of its images in pixels, classes, batches of all GPUs together: those of the recipes, and a large one.
MODELS = {
    "resnet32": (32, 100, (128, 1024)), "resnet50": (224, 1000, (256, 2048)), "resnet152": (224, 1000, (256, 2048)),
    "resnext50_32x4d": (224, 1000, (256, 2048)),
}
GIGABITS = {"10 Gbit/s": 10, "25 Gbit/s": 25, "100 Gbit/s": 100, "400 Gbit/s": 400, "NVLink": 3600}
TENTH = 0.1


@dataclass(frozen=True)
class Network:
    """parameters, with a linear head; flops: operations of one image, forward and backward."""

    parameters: int
    flops: float


def main() -> None:
    speeds = "".join(f" {name} |" for name in GIGABITS)
    print(f"| model | parameters | MB per step and GPU | batch | step, ms | a tenth from, Gbit/s |{speeds}")
    print("| --- " * (6 + len(GIGABITS)) + "|")
    for name, (side, num_classes, batches) in MODELS.items():
        network = counted(name, side, num_classes)
        for batch in batches:
            print(line(name, network, batch))


def counted(name: str, side: int, num_classes: int) -> Network:
    """A network's size, from its parameters and one pass without numbers."""
    with torch.device("meta"):
        backbone = load("models", name)().train()
        images = torch.empty(2, 3, side, side)
    with FlopCounterMode(display=False) as counter:
        backbone(images)
    head = (backbone.feature_dim + 1) * num_classes
    return Network(sum(parameter.numel() for parameter in backbone.parameters()) + head, 3 * (counter.get_total_flops() / 2 + 2 * head))


def line(name: str, network: Network, batch: int) -> str:
    """A line of the table; under each speed what the sum adds to a step, flat, and in buckets during the backward pass."""
    step = step_s(network, batch)
    added = [added_s(network, step, speed) for speed in GIGABITS.values()]
    shares = [f"{100 * flat / step:.0f} %, {100 * hidden / step:.0f} %" for flat, hidden in added]
    needed = ring_bytes(network) * 8 / 1e9 / (TENTH * step)
    cells = [name, f"{network.parameters:,}", f"{ring_bytes(network) / 1e6:.1f}", str(batch), f"{1e3 * step:.1f}", f"{needed:.0f}", *shares]
    return f"| {' | '.join(cells)} |"


def step_s(network: Network, batch: int) -> float:
    """Seconds of a step of all GPUs, without the sum."""
    return max(network.flops * math.ceil(batch / GPUS) / (PEAK * SHARE), LEAST_MS / 1e3)


def ring_bytes(network: Network) -> float:
    """Bytes that each GPU sends in a step."""
    return 2 * (GPUS - 1) / GPUS * 4 * network.parameters


def added_s(network: Network, step: float, gigabits: float) -> tuple[float, float]:
    """Seconds that the sum adds to a step: after the backward pass, and during it, where the last bucket still comes after it."""
    flat = ring_bytes(network) * 8 / (gigabits * 1e9)
    last = flat * min(BUCKET_BYTES / (4 * network.parameters), 1)
    return flat, max(flat - 2 / 3 * step, last)


if __name__ == "__main__":
    main()
