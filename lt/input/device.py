"""Where a stage computes."""

import torch

from lt.core.environment import whole_number


def device() -> torch.device:
    """The GPU if there is one, each of several processes having its own; else the CPU.

    What a stage computes on it, other than a training of its own precision, is full float32: torch by default is less exact in
    the convolutions of a GPU than in everything else.
    """
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def local_rank() -> int:
    """This process's number among those of its machine, which is that of its GPU."""
    return whole_number("LOCAL_RANK", "a number of a process, as torchrun sets it", default=0, least=0)
