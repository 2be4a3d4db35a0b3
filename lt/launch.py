"""LT_NPROC processes for one training: a stage starts itself that many times, and all end together."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from torch import distributed as dist

from lt import distributed

VARIABLE = "LT_NPROC"
# For a process to end by itself after another one has, and to save its state when it is asked to stop.
PATIENCE_S, GRACE_S = 3.0, 30.0


def start() -> None:
    """Joins the other processes, if there are to be several; one that was not started as one of them starts them all instead.

    It then waits, and exits as they do. As torchrun does, it tells each its place in RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR
    and MASTER_PORT, so that a stage may be started by torchrun as well, on several machines.
    Raises ValueError where LT_NPROC is no number, or more than there are GPUs on a machine that has some.
    """
    if dist.is_initialized():
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ:
        _join()
    elif (count := processes()) > 1:
        sys.exit(_run_all(count))


def finish() -> None:
    """Ends all processes but the first, which goes on alone. Every process has to come here."""
    if dist.is_initialized():
        first = distributed.rank() == 0
        distributed.equal(0)  # waits for the others
        dist.destroy_process_group()
        if not first:
            sys.exit(0)


def processes() -> int:
    """LT_NPROC, 1 if it is not set; ValueError where it makes no sense on this machine."""
    text = os.environ.get(VARIABLE) or "1"
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{VARIABLE}: got {text!r}, expected a number of processes, 1 or more")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus and int(text) > gpus:
        raise ValueError(f"{VARIABLE}: got {text}, expected at most {gpus}, one process per GPU")
    return int(text)


def local_rank() -> int:
    """This process's number among those of its machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _join() -> None:
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(local_rank())
    # Tensors on the CPU go through gloo in any case: what is agreed on there makes no GPU wait.
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")


def _run_all(count: int) -> str | int:
    """Runs this very command as `count` processes; gives what sys.exit takes, a message or a code."""
    with tempfile.TemporaryDirectory() as folder:
        errors = [Path(folder, str(rank)) for rank in range(count)]
        environment = _environment(count)
        with _signals() as got, _ending_all() as ranks:
            for rank in range(count):
                ranks.append(_start_rank(rank, environment, errors[rank]))
            stopped = _wait(ranks, got)
            codes = [process.poll() for process in ranks]
        return _outcome(codes, errors, stopped)


def _environment(count: int) -> dict[str, str]:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LT_LAUNCHER": os.getpid()}
    threads = {"OMP_NUM_THREADS": str(max(1, cores // count))}
    return threads | os.environ | {name: str(value) for name, value in own.items()}


def _start_rank(rank: int, environment: dict[str, str], errors: Path) -> subprocess.Popen:
    """Process 0 talks to the terminal; what the others say is kept in a file, for the case that they fail."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": errors.open("wb")} if rank else {}
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    return subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env=environment | place, **quiet)


@contextmanager
def _signals():
    """Gathers Ctrl-C and SIGTERM in a list instead of being ended by them, unless they are ignored."""
    got, old = [], {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            old[number] = signal.signal(number, lambda number, frame: got.append(number))
    try:
        yield got
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def _ending_all():
    """A list for processes, none of which outlives the block."""
    ranks = []
    try:
        yield ranks
    finally:
        for process in ranks:
            process.kill()
            process.wait()


def _wait(ranks: list[subprocess.Popen], got: list[int]) -> bool:
    """Waits until all have ended, or may be killed; returns whether they were asked to stop.

    A signal is handed on: at a second one, or GRACE_S after the first, the waiting ends. After a failure the others have
    PATIENCE_S to end by themselves, as most do for want of an answer, and are then asked to.
    """
    asked, deadline = False, None
    while any(process.poll() is None for process in ranks):
        now = time.monotonic()
        if len(got) > 1 or (deadline and now > deadline + GRACE_S):
            break
        if not deadline and any(process.poll() for process in ranks):
            deadline = now + PATIENCE_S
        if not asked and (got or (deadline and now > deadline)):
            asked, deadline = True, deadline or now
            for process in ranks:
                process.terminate()
        time.sleep(0.05)
    return bool(got)


def _outcome(codes: list[int | None], errors: list[Path], stopped: bool) -> str | int:
    """0 if all succeeded. Else process 0 has told its own error; of the others the first is told that was killed, or did not just
    follow. codes: None for a process that had to be killed after another one had failed"""
    if not any(code != 0 for code in codes):
        return 0
    follow = 0, None, distributed.LOST, -signal.SIGTERM, -signal.SIGABRT  # gloo may abort where its last word is an exit
    own = [rank for rank, code in enumerate(codes) if code not in follow]
    killed = [rank for rank in own if codes[rank] < 0]
    if codes[0] == 1 and (stopped or not killed):
        return 1
    if stopped:
        return "\nstopped; run the same command to continue\n"
    failed = killed[0] if killed else own[0] if own else next(rank for rank, code in enumerate(codes) if code)
    code = codes[failed]
    how = f"failed with exit code {code}"
    if code < 0:
        how = f"was ended by {signal.Signals(-code).name} (by hand, or for want of memory)"
    said = errors[failed].read_text(errors="replace").strip() if failed else ""
    return f"\nerror: process {failed} of {len(codes)} {how}; nothing was written\n{said}\n"
