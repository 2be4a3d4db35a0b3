"""Measurements in processes of their own: nothing that is in this one's memory counts."""

import json
import subprocess
import sys
import threading

from benchmarks.timing import status_kib

EVERY_S = 0.02


def measure_apart(module: str, *arguments) -> dict[str, float]:
    """What a module's main program prints as one line of JSON when it is given these arguments."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


class Peak:
    """Private memory of this process while the block runs, looked at every EVERY_S; NaN if unknown.

    kib: the greatest    before_kib: when the block began
    """

    def __enter__(self) -> "Peak":
        self.kib = self.before_kib = private_kib()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *error) -> None:
        self.done.set()
        self.thread.join()

    def watch(self) -> None:
        """Looks until the block ends."""
        while not self.done.wait(EVERY_S):
            self.kib = max(self.kib, private_kib())


def private_kib() -> float:
    """Memory of this process that is not a file's, by Linux's own account; NaN elsewhere."""
    try:
        return status_kib("RssAnon")
    except (OSError, KeyError):
        return float("nan")
