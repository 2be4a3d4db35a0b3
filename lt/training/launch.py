"""LT_NPROC processes for one training: torch's launcher starts the stage that many times, and all end together."""

import json
import logging
import os
import signal
import sys
import tempfile
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Iterator

import torch
from torch import distributed as dist

from lt.core import command
from lt.core.environment import whole_number
from lt.input.device import local_rank
from lt.training import distributed

VARIABLE = "LT_NPROC"
# For a process to save its state when it is asked to stop, or to end after another one has; one that hangs is then killed.
GRACE_S = 30


@contextmanager
def processes() -> Iterator[None]:
    """Around a training: inside are all processes that train together; after it the first goes on alone, and the others end.

    One that was not started as one of several starts them all, if LT_NPROC asks for it, and exits as they do; torchrun, on one
    machine or several, may start them as well. Where the training fails in one of them, nothing here waits for the others.
    Raises ValueError where LT_NPROC is no number, or more than there are GPUs on a machine that has some, or torch is too old for it.
    """
    if whole_number("WORLD_SIZE", "a number of processes, as torchrun sets it", default=1) > 1 and "RANK" in os.environ:
        _join()
    elif (count := requested()) > 1:
        sys.exit(_run_all(count))
    yield
    if dist.is_initialized():
        first = distributed.rank() == 0
        distributed.equal(0)  # waits for the others
        dist.destroy_process_group()
        if not first:
            sys.exit(0)


def requested() -> int:
    """LT_NPROC, 1 if it is not set; ValueError where it makes no sense on this machine."""
    count = whole_number(VARIABLE, "a number of processes, 1 or more", default=1)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus and count > gpus:
        raise ValueError(f"{VARIABLE}: got {count}, expected at most {gpus}, one process per GPU")
    return count


def _join() -> None:
    os.environ["LT_LAUNCHER"] = str(os.getppid())  # see distributed.orphaned
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(local_rank())
    # Tensors on the CPU go through gloo in any case: what is agreed on there makes no GPU wait.
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")


def _run_all(count: int) -> str | int:
    """Runs this very command as `count` processes; gives what sys.exit takes, a message or a code.

    Process 0 talks to the terminal; what the others say goes to files, and so do the errors of all, of which one is told.
    """
    # Only one process of a training comes here: no other one has to load these.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher import LaunchConfig, elastic_launch

    if missing := {"shutdown_timeout", "signals_to_handle"} - signature(LaunchConfig).parameters.keys():
        raise ValueError(
            f"{VARIABLE}: got {count}, but the launcher of torch {torch.__version__} does not know {' and '.join(sorted(missing))}, and may "
            "hang where a process dies; install a newer torch, or leave it at 1"
        )
    if not os.environ.get("LT_DEBUG"):
        logging.disable()  # torch's launcher warns of what is told here in one message
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // count)))
    handled = [number.name for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) is not signal.SIG_IGN]
    with tempfile.TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=count, max_restarts=0, role=command.ROLE, run_id=command.ROLE,
            rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost", shutdown_timeout=GRACE_S,
            signals_to_handle=",".join(handled),
            logs_specs=DefaultLogsSpecs(folder, redirects={rank: Std.ALL for rank in range(1, count)}),
        )
        try:
            elastic_launch(config, sys.executable)(*sys.orig_argv[1:])
        except ChildFailedError as error:
            return _outcome(error.failures, count, Path(folder))
        except SignalException:
            return f"\n{_last_words(Path(folder), 0) or command.STOP_WORDS}\n"
    return 0


def _outcome(failures: dict, count: int, folder: Path) -> str | int:
    """What is told of failed processes: one cause, in the words of its process if it had some.

    failures: torch's ProcessFailure of each rank    folder: where the processes' words are, as torch's DefaultLogsSpecs puts them
    """
    rank = _cause(failures)
    code, words = failures[rank].exitcode, _last_words(folder, rank)
    if words and (rank == 0 or code == command.STOPPED):
        return f"\n{words}\n"
    if rank == 0 and code == 1:
        return 1  # what Python tells of an error of the program stands in the terminal
    how = f"failed with exit code {code}"
    if code < 0:
        how = f"was ended by {signal.Signals(-code).name} (by hand, or for want of memory)"
    said = words or "".join(path.read_text(errors="replace").strip() for path in folder.glob(f"*/attempt_0/{rank}/stderr.log"))
    return f"\nerror: process {rank} of {count} {how}; nothing was written\n{said}\n"


def _cause(failures: dict) -> int:
    """The first rank that was killed, or else failed by itself, or else at least did not end for want of another one."""
    start = min(failure.timestamp for failure in failures.values())
    # One that hangs is killed later than that, and is no cause.
    codes = {rank: failure.exitcode for rank, failure in sorted(failures.items()) if failure.timestamp < start + GRACE_S}
    follow = distributed.LOST, command.STOPPED, -signal.SIGTERM, -signal.SIGABRT  # gloo may abort where its last word is an exit
    own = [rank for rank, code in codes.items() if code not in follow]
    killed = [rank for rank in own if codes[rank] < 0]
    return (killed or own or sorted(codes, key=lambda rank: codes[rank] == distributed.LOST))[0]


def _last_words(folder: Path, rank: int) -> str:
    """What a process recorded of the exception that ended it (command.run), as a stage alone tells it; empty where it did not."""
    for path in folder.glob(f"*/attempt_0/{rank}/error.json"):
        kind, _, text = json.loads(path.read_text())["message"]["message"].partition(": ")
        return text or command.STOP_WORDS if kind == "KeyboardInterrupt" else f"error: {text or kind}"
    return ""
