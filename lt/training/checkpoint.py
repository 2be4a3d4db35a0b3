"""Training states outside the stages' outputs, so that a killed run continues and ends in the same bytes."""

import contextlib
import hashlib
import io
import json
import os
import platform
import signal
import threading
import time
from pathlib import Path
from typing import Any, Callable

import torch

from lt.core.environment import real_number
from lt.core.files import read_regular
from lt.training import distributed
from lt.training.precision import can_compile

# LT_SAVE_EVERY_S sets another number; one below 0 saves after every step.
SAVE_EVERY_S = 60.0
# Of lt/, what no training uses: an edit there throws no state away.
NOT_TRAINED_WITH = {"check", "doctor", "evaluate", "page", "predict.py", "published", "report"}
# States of the same training under other settings: another experiment may be running, or be taken up again.
OTHERS_KEPT = 2
# Between two signals that are one to processes that train together.
SAME_S = 2.0


def fingerprint(parts: dict[str, Any]) -> str:
    """Hash of everything a training depends on: `parts` (JSON values), the code, versions, processes, threads, processor, compiler."""
    code = Path(__file__).parent.parent
    files = sorted(path.relative_to(code) for path in code.rglob("*.py"))
    used = [file for file in files if file.parts[0] not in NOT_TRAINED_WITH]
    hashes = {file.as_posix(): hashlib.sha256((code / file).read_bytes()).hexdigest() for file in used}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = [platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), gpu, can_compile(), distributed.world_size()]
    facts = {"parts": parts, "code": hashes, "machine": [str(torch.__version__), *machine]}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def digest(module: torch.nn.Module) -> str:
    """Hash of a module's weights."""
    parts = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        parts.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return parts.hexdigest()


class Checkpoint:
    """One training's state file, <folder>/<name>-<fingerprint>.pt, replaced atomically.

    folder: .resume/ under the project's root, if none is given    save_every_s: seconds from one saving to the next

    The file is the sha256 of what follows, and then what torch.save writes, which has no check of its own.
    """

    def __init__(self, name: str, parts: dict[str, Any], folder: Path | None = None):
        self.folder = folder or Path(os.environ.get("DVC_ROOT", ".")) / ".resume"
        self.path = self.folder / f"{name}-{fingerprint(parts)}.pt"
        self.save_every_s = real_number("LT_SAVE_EVERY_S", "a number of seconds", SAVE_EVERY_S)
        if distributed.rank() == 0:
            self._remove_stale(name)

    def _remove_stale(self, name: str) -> None:
        """Removes half-written files of this state, and all but the newest OTHERS_KEPT of the same name."""
        others = []
        for path in self.folder.glob(f"{name}-*"):
            if path.name.startswith(f"{self.path.stem}.") and path != self.path:
                _remove(path)
            elif path != self.path:
                with contextlib.suppress(FileNotFoundError):  # a run of those settings may just have ended
                    others.append((path.stat().st_mtime_ns, path))
        for _, path in sorted(others)[:-OTHERS_KEPT]:
            _remove(path)

    def read(self, kinds: dict[str, type] = {}, fits: Callable[[dict[str, Any]], bool] = lambda saved: True) -> dict[str, Any] | None:
        """The last saved state, or None; a file that cannot be read, or is of another shape, is as good as none.

        kinds: key that has to be in it -> type of its value    fits: whether these values go together
        """
        try:
            content = read_regular(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            print(f"{self.path} cannot be read ({error.strerror}); training starts from the beginning")
            return None
        if hashlib.sha256(memoryview(content)[32:]).digest() != content[:32]:
            print(f"{self.path} is damaged; training starts from the beginning")
            return None
        try:
            saved = torch.load(io.BytesIO(memoryview(content)[32:]), map_location="cpu", weights_only=True)
            wrong = [key for key, kind in kinds.items() if not isinstance(saved[key], kind)]
            wrong += [] if wrong or fits(saved) else ["its parts do not fit together"]
        except Exception as error:  # torch meets files of another shape with many types of errors
            wrong = [f"{type(error).__name__}: {error}".splitlines()[0]]
        if wrong:
            print(f"{self.path} is of another shape ({', '.join(wrong)}); training starts from the beginning")
            return None
        return saved

    def save(self, content: dict[str, Any]) -> bool:
        """Replaces the state; a kill or a full disk while writing leaves the old one. Returns whether it was written."""
        buffer = io.BytesIO()
        torch.save(content, buffer)
        part = self.path.with_suffix(f".{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(part, "wb") as file:
                file.write(hashlib.sha256(buffer.getbuffer()).digest())
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
            return True
        except OSError as error:
            why = f"could not save the training state {self.path} ({error.strerror})"
            print(f"{why}; training goes on, the last saved state is kept")
            return False
        finally:
            with contextlib.suppress(OSError):
                part.unlink()

    def clear(self) -> None:
        """Removes the state after success."""
        _remove(self.path)


def _remove(path: Path) -> None:
    """Removes a file that is of no more use; one that cannot be removed is told, and fails nothing."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        print(f"could not remove {path} ({error.strerror}); it is of no more use")


class StopSignal:
    """Turns Ctrl-C and SIGTERM into a flag that is looked at between two steps, so that the saved state is whole.

    A second signal, and one before `armed` is set, ends the run at once: the state of the last save, if any, is whole. Where
    processes train together one that comes within SAME_S is the first once more: whoever else started them may hand it on, too.
    """

    def __init__(self):
        self.asked_at_s = None
        self.armed = False
        self._old = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # Python sets handlers in the main thread only
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as in a shell's background jobs
                    self._old[number] = signal.signal(number, self._ask)
        return self

    @property
    def asked(self) -> bool:
        return self.asked_at_s is not None

    def _ask(self, number, frame) -> None:
        now = time.monotonic()
        if not self.armed or (self.asked and (distributed.world_size() == 1 or now > self.asked_at_s + SAME_S)):
            raise KeyboardInterrupt("stopped; run the same command to continue from the last saved state, if there is one")
        self.asked_at_s = self.asked_at_s or now

    def __exit__(self, *exception) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
