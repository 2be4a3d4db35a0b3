"""How every stage script starts: its errors are told in words, not as a traceback, and what it cost is noted."""

import argparse
import contextlib
import ctypes
import json
import os
import platform
import select
import signal
import sys
import time
from pathlib import Path
from typing import Callable

from lt.core import artifacts, attest
from lt.core.options import SEEDS

# Seconds and memory of each stage's last run: never a stage's output or dependency, since no two runs take the same.
COST = Path(".cost")
STAGES = ("check", "subsample", "base", "features", "retrain", "distill", "evaluate", "report")
STOP_WORDS = "stopped; run the same command to continue"
# Of several processes that train together: the name of what they are, and the exit code of one that was asked to stop.
ROLE, STOPPED = "longtail", 130
# Parameters of glibc's mallopt.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def run(main: Callable[[], None], before: Callable[[], None] = lambda: None) -> None:
    """Runs a command's main; a wrong input ends it with the message and exit code 1 (LT_DEBUG=1 shows where it came from).

    before: what has to hold before a stage notes what it depends on, told in the same way
    """
    start = time.perf_counter()
    keep_freed_memory()
    stage = Path(sys.argv[0]).stem
    try:
        before()
        with attest.begun(stage, sys.argv[1:]):
            main()
            write_cost(stage, sys.argv[1:], time.perf_counter() - start)
        sys.stdout.flush()
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        if os.environ.get("LT_DEBUG"):
            raise
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            _exit(1, error)
        _exit(f"\nerror: {str(error) or type(error).__name__}\n", error)
    except KeyboardInterrupt as error:
        _exit(f"\n{str(error) or STOP_WORDS}\n", error)
    except SystemExit as error:
        _exit(error.code, error)


def _nobody_reads() -> bool:
    """Whether what this process prints goes to one that has ended, as head does when it has enough; from then on it goes nowhere."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # there is no poll on Windows, and no file behind every stdout
        looked = select.poll()
        looked.register(sys.stdout, 0)
        if looked.poll(0):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return True
    return False


def _exit(status: str | int | None, error: BaseException) -> None:
    """As sys.exit does; one of several processes that train together leaves at once, whatever signals come.

    The threads of its connections may abort the interpreter's orderly end, and its exit code with it, when another process
    is gone already. A message is printed, or where lt/training/launch.py started the processes recorded for it.
    """
    if "RANK" not in os.environ:
        sys.exit(status)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if isinstance(status, str) and os.environ.get("ROLE_NAME") == ROLE:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler  # stages without a training have no torch

        get_error_handler().record_exception(error)
    elif isinstance(status, str):
        print(status, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(STOPPED if isinstance(error, KeyboardInterrupt) else 1 if isinstance(status, str) else status or 0)


def keep_freed_memory() -> None:
    """Lets this process keep the memory that it frees, where the C library is glibc; elsewhere nothing happens.

    By default glibc gives every freed array of some MiB back to the system, and the next batch has to be mapped and zeroed page
    by page again: on a CPU that took 0.4 of the time of a ResNet-32 on batches of 512 images. The peak grew by a fifth at most.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def command_line(doc: str) -> argparse.ArgumentParser:
    """A parser whose --help shows a script's docstring line by line."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def arguments(doc: str, *names: str, seed: bool = True) -> argparse.Namespace:
    """Command line of a stage: positional names, and --seed where the stage runs once per seed."""
    parser = command_line(doc)
    for name in names:
        parser.add_argument(name)
    if seed:
        parser.add_argument("--seed", type=seed_number, required=True)
    return parser.parse_args()


def seed_number(text: str) -> int:
    """A seed on a command line, as params.yaml takes them."""
    if not text.isascii() or not text.isdecimal() or not int(text[:20]) < SEEDS:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 0 to {SEEDS - 1}")
    return int(text)


def write_cost(stage: str, arguments: list[str], seconds: float) -> None:
    """Notes what a stage's run took in .cost/<stage>_<arguments>.json, which the report page reads; other commands note nothing.

    Keys: stage, arguments, seconds of main (without the imports), peak_rss_mib and, after CUDA was used, peak_gpu_mib,
    device, threads, python, torch. A cost that cannot be measured or written is left out: it never fails a stage.
    """
    if stage not in STAGES or os.environ.get("RANK", "0") != "0":
        return
    try:
        cost = {"stage": stage, "arguments": arguments, "seconds": round(seconds, 3), **_memory_and_versions()}
        artifacts.write_text(cost_file([stage, *arguments]), json.dumps(cost, indent=1) + "\n")
    except (ImportError, OSError, RuntimeError, ValueError, KeyError):
        pass


def cost_file(words: list[str]) -> Path:
    """Where the cost of a stage's last run is noted. words: its script and arguments"""
    return COST / f"{'_'.join(word.lstrip('-') for word in words).replace(os.sep, '-')}.json"


def _memory_and_versions() -> dict[str, str | float]:
    found = {"peak_rss_mib": _peak_rss_mib(), "device": "cpu", "python": platform.python_version()}
    torch = sys.modules.get("torch")
    if torch:
        found |= {"torch": str(torch.__version__), "threads": torch.get_num_threads()}
        if torch.cuda.is_initialized():
            found |= {"device": torch.cuda.get_device_name(), "peak_gpu_mib": round(torch.cuda.max_memory_allocated() / 2**20)}
    return found


def _peak_rss_mib() -> int:
    status = Path("/proc/self/status")
    if status.is_file():
        # Linux counts into ru_maxrss the process that started this one, which may be DVC; VmHWM is this process alone.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) // 2**10
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)
