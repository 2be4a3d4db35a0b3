"""Progress of a table's jobs on a cluster, line by line: what each does, how many are done, run, have failed, and the time left."""

import threading
import time
from typing import Any

from lt.report.words import in_words

# Seconds until it is told, once, that there is no worker.
PATIENCE_S = 15.0


class Progress:
    """What is known of the jobs. names: of all    dashboard: its address

    Events come in a thread of their own, besides the one that follows the jobs.
    """

    def __init__(self, names: list[str], dashboard: str):
        self._waiting, self._took_s, self._failed = set(names), [], 0
        self._running: dict[str, tuple[str, float]] = {}  # job -> its worker, and when it began
        self._workers, self._lock = 1, threading.Lock()
        self._began_s, self._told_of_lack = time.monotonic(), False
        show(f"{len(names)} {'training' if len(names) == 1 else 'trainings'} on the cluster; dashboard: {dashboard}")

    def note(self, event: dict[str, Any]) -> None:
        """What a worker tells of a job: that it began, or a line of it."""
        if event["what"] == "began":
            self._begin(event["job"], event["worker"])
        elif event["what"] == "told":
            show(f"{event['job']}: {event['line']}")

    def _begin(self, name: str, worker: str) -> None:
        with self._lock:
            if name not in self._waiting:
                return
            if self._running.get(name, (worker,))[0] != worker:
                self._lose(name)  # it has begun again before anyone looked
            self._running[name] = (worker, time.monotonic())
            show(f"{name}: begins on {worker}")

    def end(self, name: str, failed: bool) -> None:
        """A job has ended."""
        with self._lock:
            self._waiting.discard(name)
            self._failed += failed
            _, began_s = self._running.pop(name, ("", None))
            if began_s is not None and not failed:
                self._took_s.append(time.monotonic() - began_s)
            show(self.summary(f"{name} {'failed' if failed else 'done'}"))

    def look(self, workers: set[str]) -> None:
        """The addresses of the workers that are there; a job whose worker is gone goes to another one."""
        with self._lock:
            self._workers = max(1, len(workers))
            for name in [name for name, (worker, _) in self._running.items() if worker not in workers]:
                self._lose(name)

    def _lose(self, name: str) -> None:
        worker, _ = self._running.pop(name)
        show(self.summary(f"{name}: its worker {worker} is gone, another one takes it up"))

    def lack_workers(self) -> None:
        """There is none yet: told once, after a while."""
        if not self._told_of_lack and time.monotonic() - self._began_s > PATIENCE_S:
            self._told_of_lack = True
            show("no worker yet: waits for one to start; Ctrl-C ends this")

    def summary(self, first: str) -> str:
        """`first`, and how far all are."""
        done = len(self._took_s)
        parts = [f"{done} done", f"{len(self._running)} running", f"{self._failed} failed", f"{len(self._waiting) - len(self._running)} waiting"]
        left_s = self._left_s()
        return f"{first} ({', '.join(parts)}{f'; about {in_words(left_s)} left' if left_s else ''})"

    def _left_s(self) -> float:
        """From the mean time of those that are done and the number of workers; 0 where nobody knows."""
        if not self._took_s or not self._waiting:
            return 0.0
        mean_s, now_s = sum(self._took_s) / len(self._took_s), time.monotonic()
        running = [max(0.0, mean_s - (now_s - began_s)) for _, began_s in self._running.values()]
        waiting = [mean_s] * (len(self._waiting) - len(running))
        every = running + waiting
        return max(sum(every) / min(self._workers, len(every)), *every)


def show(line: str) -> None:
    """Print a line at once, also where the output is a file or a pipe."""
    print(line, flush=True)
