"""What the processes of one training share: parts of each batch, sums over all parts, and rows gathered from them.

Without other processes every function gives what it was given. A loss over a batch is the sum of what the processes compute
from their parts, so that gradients are summed as well: in buckets, during the backward pass (lt/training/buckets.py), rather than
by DistributedDataParallel, whose hooks belong to one forward call of one module; losses, heads, experts and weightings here call
parts of the model in ways of their own.
"""

import os
import sys
from contextlib import contextmanager
from typing import Iterable

import torch
from torch import distributed as dist
from torch import nn

# Steps between two looks at what one process alone may know: that a signal came, that it is time to save.
AGREE_EVERY = 10
# Exit code of a process that ends because another one has: the cause is that one's to tell.
LOST = 3


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0 on; 0 alone reports and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def shard(examples: int) -> slice:
    """This process's rows of a batch: as many as the others have, or one more; in the order of ranks they are the batch."""
    each, more = divmod(examples, world_size())
    start = rank() * each + min(rank(), more)
    return slice(start, start + each + (rank() < more))


@contextmanager
def together():
    """Around a call that all processes make; where it fails, another one is gone, and this one ends as well.

    On GPUs a call may hang instead, until whoever started the processes ends them, as lt/training/launch.py does.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        print(f"process {rank()} has lost another one: {error}", file=sys.stderr)
        sys.exit(LOST)


def all_reduce(values: torch.Tensor) -> torch.Tensor:
    """Sum of a tensor over the processes, without gradient."""
    if world_size() == 1:
        return values
    values = values.detach().clone(memory_format=torch.contiguous_format)
    with together():
        dist.all_reduce(values)
    return values


def rows(values: torch.Tensor) -> int:
    """Rows of a tensor, in all processes together."""
    return int(all_reduce(torch.tensor(len(values))))


def own_rows(values: torch.Tensor) -> tuple[int, slice]:
    """Rows of a tensor in all processes together, and which of them, in the order of ranks, are this one's."""
    numbers = _rows_by_rank(values)
    start = sum(numbers[: rank()])
    return sum(numbers), slice(start, start + len(values))


def _rows_by_rank(values: torch.Tensor) -> list[int]:
    if world_size() == 1:
        return [len(values)]
    numbers = torch.zeros(world_size(), dtype=torch.int64)
    numbers[rank()] = len(values)
    return all_reduce(numbers).tolist()


def mean(values: torch.Tensor) -> torch.Tensor:
    """Mean of a vector (B,) over the rows of all processes, without gradient where there are several."""
    if world_size() == 1:
        return values.mean()
    added, number = all_reduce(torch.stack([values.sum(), values.new_full((), len(values))]))
    return added / number


def all_gather(values: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, in the order of ranks: (B_r, ..) -> (B, ..).

    Its gradient is the sum of what the processes found for a row, whose process gets it; forward mode is there, too.
    """
    if world_size() == 1:
        return values
    return _AllGather.apply(values, _rows_by_rank(values))


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(values: torch.Tensor, numbers: list[int]) -> torch.Tensor:
        longest = max(numbers)
        padded = torch.cat([values, values.new_zeros(longest - len(values), *values.shape[1:])])
        parts = [torch.empty_like(padded) for _ in numbers]
        with together():
            dist.all_gather(parts, padded)
        return torch.cat([part[:number] for part, number in zip(parts, numbers)])

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: torch.Tensor) -> None:
        ctx.numbers = inputs[1]

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        start = sum(ctx.numbers[: rank()])
        return all_reduce(gradient.contiguous())[start : start + ctx.numbers[rank()]], None

    @staticmethod
    def jvp(ctx, tangent: torch.Tensor, _: None) -> torch.Tensor:
        return _AllGather.forward(tangent, ctx.numbers)


def all_reduce_coalesced(tensors: Iterable[torch.Tensor]) -> None:
    """Replaces each tensor by its sum over the processes, all in one message."""
    if world_size() > 1:
        _exchanged([tensor.detach() for tensor in tensors], dist.all_reduce)


def broadcast(tensors: Iterable[torch.Tensor]) -> None:
    """Gives all processes the values that process 0 has; tensors of integers are left alone."""
    if world_size() > 1:
        _exchanged([tensor.detach() for tensor in tensors if tensor.is_floating_point()], lambda flat: dist.broadcast(flat, 0))


def _exchanged(tensors: list[torch.Tensor], call) -> None:
    if tensors:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with together():
            call(flat)
        spread(flat, tensors)


def spread(flat: torch.Tensor, tensors: list[torch.Tensor]) -> None:
    """Copies a vector into tensors that together have as many numbers, one after the other."""
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
        tensor.copy_(part.view(tensor.shape))


def any_rank(step: int, *flags: bool) -> tuple[bool, ...]:
    """Which flags are set in any process, for all of them to act alike; only looked at in every AGREE_EVERY-th step."""
    if world_size() == 1:
        return flags
    if step % AGREE_EVERY:
        return (False,) * len(flags)
    return tuple(all_reduce(torch.tensor(flags, dtype=torch.int64)).bool().tolist())


def equal(*numbers: int) -> bool:
    """Whether all processes have the same numbers."""
    return torch.equal(all_reduce(torch.tensor(numbers)), world_size() * torch.tensor(numbers))


def orphaned() -> bool:
    """Whether the process that started this one of several (lt/training/launch.py) is gone: nobody is left to end them together."""
    return os.environ.get("LT_LAUNCHER", str(os.getppid())) != str(os.getppid())


def synchronise_batch_norm(model: nn.Module) -> None:
    """Makes batch norm take its statistics over the whole batch, in place; ValueError on a CPU, where torch cannot."""
    if world_size() == 1:
        return
    if next(model.parameters()).device.type != "cuda":
        got = f"got true with {world_size()} processes on a CPU"
        raise ValueError(f"sync_batchnorm: {got}, expected GPUs; set it to false, or LT_NPROC to 1")
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
