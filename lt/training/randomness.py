"""The global generators while something is trained: a network's layers get a seeded one, all else is refused the use of them.

A resumed run draws other numbers from them, and so does one after another in the same process, whatever the seed.
"""

import random
from contextlib import contextmanager

import numpy as np
import torch

from lt.core import keys
from lt.training.objective import TrainingError


class Untouched:
    """Notices random draws from the global generators since it was made: Python's, numpy's, torch's on the CPU and on `device`."""

    def __init__(self, device: torch.device):
        self.device = device
        self.before = self._states()

    def check(self, name: str) -> None:
        """TrainingError, naming the training and the generator, where one of them was used."""
        for owner, state in self._states().items():
            if state != self.before[owner]:
                raise TrainingError(
                    f"{name}: random numbers were drawn from the global generator of {owner}, so that the same seed gives other results; "
                    "expected those of the step: a loss has self.uniform(logits), a mix and a weighting get a generator, an augmentation "
                    "gets keys (lt/training/contracts.py)"
                )

    def _states(self) -> dict[str, object]:
        numpy = np.random.get_state()
        states = {"Python (random)": random.getstate(), "numpy (np.random)": (numpy[1].tobytes(), *numpy[2:])}
        generators = {default_generator(torch.device("cpu")), default_generator(self.device)}
        return states | {f"torch ({each.device})": each.get_state().numpy().tobytes() for each in generators}


@contextmanager
def seeded(device: torch.device, *names: int | str):
    """Inside, torch's global generator of a device begins at derive(*names): for layers that take no other, such as dropout."""
    generator = default_generator(device)
    state = generator.get_state()
    generator.manual_seed(keys.derive(*names))
    try:
        yield
    finally:
        generator.set_state(state)


def default_generator(device: torch.device) -> torch.Generator:
    """The global generator that torch draws from on a device."""
    if device.type == "cuda":
        return torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
    return torch.default_generator
