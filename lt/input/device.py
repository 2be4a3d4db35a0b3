"""Where a stage computes."""

import os

import torch




def device() -> torch.device:
    """The GPU if there is one, each of several processes having its own; else the CPU.

    What a stage computes on it, other than a training of its own precision, is full float32: torch by default is less exact in
    the convolutions of a GPU than in everything else.
    """
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def local_rank() -> int:
    """This process's number among those of its machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))
