"""How a network runs while it is trained: compiled or eager, and in which precision; decided by the settings alone."""

import importlib.util
import os
import shutil
import sys
import sysconfig
from contextlib import contextmanager
from pathlib import Path

import torch

from lt.core.params import TrainingSettings
from lt.network.classifier import Classifier
from lt.training import distributed

# Pixels in a whole training from which on compiling saves more than it costs. The number of weights does not enter: a network of
# more layers takes longer to compile, and saves more per pixel, by about the same factor (ResNet-8 and 32: 0.6e8 to 1e8 pixels
# until it is even on one CPU core, about twice that on two, which compile no faster).
PAYS_FROM_PIXELS = {"cpu": 2e8, "cuda": 1.5e9}


def can_compile() -> bool:
    """Whether what torch.compile needs is installed: a C++ compiler and Python's headers, with a GPU Triton too."""
    compiler = os.environ.get("CXX", {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++"))
    headers = Path(sysconfig.get_path("include"), "Python.h").is_file()
    triton = not torch.cuda.is_available() or importlib.util.find_spec("triton") is not None
    return bool(shutil.which(compiler)) and headers and triton


def is_compiled(settings: TrainingSettings, images: torch.Tensor) -> bool:
    """Whether this training is compiled: images (N, 3, H, W), each seen once per epoch.

    `auto` depends on the pixels of the whole training, never on timings or on what remains: a resumed run decides alike.
    Batch norm over several processes runs eager. Raises ValueError where `on` meets a machine that cannot compile.
    """
    if settings.sync_batchnorm and distributed.world_size() > 1:
        return False
    if settings.compile == "on" and not can_compile():
        needs = "a C++ compiler (g++ or CXX), Python.h or, on a GPU, Triton"
        raise ValueError(f"compile: got on, but {needs} is missing; use auto or off")
    if settings.compile == "auto":
        return can_compile() and pixels(settings, images) >= PAYS_FROM_PIXELS[images.device.type]
    return settings.compile == "on"


def pixels(settings: TrainingSettings, images: torch.Tensor) -> float:
    """Pixels that go through the network in the whole training."""
    return float(settings.epochs * len(images) * images.shape[2] * images.shape[3])


def precision_of(settings: TrainingSettings, device: torch.device) -> str:
    """The precision that is used: float32 on a CPU, whatever was asked for."""
    return settings.precision if device.type == "cuda" else "float32"


class Forward:
    """images (B, 3, H, W) in [0, 1] -> features and logits of `model`, in the model's precision.

    With bf16 the backbone computes in it; the head does not, whose logits are too large for the few digits of bf16.
    Only full batches run compiled: an epoch's last, smaller one would be compiled anew, or make all later ones slower.
    On a GPU the compiled pass is replayed as a CUDA graph.
    """

    def __init__(self, model: Classifier, settings: TrainingSettings, images: torch.Tensor):
        shard = distributed.shard(settings.batch_size)
        self.device, self.batch_size = images.device, shard.stop - shard.start
        self.bf16 = precision_of(settings, self.device) == "bf16"
        compiled = is_compiled(settings, images)
        self.replayed = compiled and self.device.type == "cuda"

        def eager(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                features = model.features(images)
            features = features.float() if self.bf16 else features
            return features, model.head(features)

        self.eager = self.full = eager
        if compiled:
            self.full = torch.compile(eager, dynamic=False, mode="reduce-overhead" if self.replayed else None)

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.replayed:
            torch.compiler.cudagraph_mark_step_begin()
        run = self.full if len(images) == self.batch_size else self.eager
        features, logits = run(images)
        if self.replayed:  # the next replay of the graph overwrites what this one returned
            features, logits = features.clone(), logits.clone()
        return features, logits


def told(settings: TrainingSettings, images: torch.Tensor) -> str:
    """How this training runs, and why, in a few words."""
    precision, compiled = precision_of(settings, images.device), is_compiled(settings, images)
    if settings.sync_batchnorm and distributed.world_size() > 1:
        why = "sync_batchnorm"
    elif settings.compile != "auto":
        why = f"compile: {settings.compile}"
    elif not can_compile():
        why = "nothing to compile with"
    else:
        why = f"which pays in {'a training of this length' if compiled else 'longer trainings only'}"
    note = f", not {settings.precision}, on a CPU" if precision != settings.precision else ""
    processes = f", {distributed.world_size()} processes" if distributed.world_size() > 1 else ""
    return f"{len(images):,} images, {settings.epochs} epochs; {'' if compiled else 'not '}compiled ({why}), {precision}{note}{processes}"


@contextmanager
def switches(settings: TrainingSettings, device: torch.device):
    """Sets torch's switches for a training on a GPU, and puts them back: tf32, autotuned or deterministic algorithms."""
    if device.type != "cuda":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    matmul.allow_tf32 = cudnn.allow_tf32 = settings.precision != "float32"
    cudnn.benchmark = not settings.deterministic
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS demands it, and reads it at its first use
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before[:3]
        torch.use_deterministic_algorithms(before[3])
