"""How far a training is: a bar on a terminal, elsewhere a line now and then."""

import sys
import time

from tqdm import tqdm

EVERY_S = 30  # between two lines, at least


class Progress:
    """Tells epochs as they end; a context manager.

    name: of the training    epochs: all of them, of which `done` are    silent: tells nothing, for all processes but one
    """

    def __init__(self, name: str, epochs: int, done: int, silent: bool):
        self.name, self.epochs, self.first, self.done = name, epochs, done, done
        self.lines = not silent and not sys.stderr.isatty()
        self.started = self.told_at = time.monotonic()
        self.bar = tqdm(total=epochs, initial=done, desc=name, unit="epoch", disable=silent or self.lines)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def epoch(self, loss: float, accuracy: float) -> None:
        """One more epoch has ended, with this mean training loss and accuracy."""
        self.done += 1
        self.bar.update()
        self.bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}")
        now = time.monotonic()
        if self.lines and self.done < self.epochs and now - self.told_at >= EVERY_S:
            self.told_at = now
            left = (now - self.started) / (self.done - self.first) * (self.epochs - self.done)
            where = f"epoch {self.done} of {self.epochs}, loss {loss:.3f}, accuracy {accuracy:.3f}"
            print(f"{self.name}: {where}, {tqdm.format_interval(left)} left", file=sys.stderr, flush=True)
