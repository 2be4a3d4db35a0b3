"""Training states outside the stages' outputs, so that a killed run continues and ends in the same bytes."""

import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

SAVE_EVERY_S = float(os.environ.get("LT_SAVE_EVERY_S", "60"))


def fingerprint(parts: dict[str, Any]) -> str:
    """Hash of everything a training depends on: `parts` (JSON values), the code, versions, threads."""
    code = Path(__file__).parent
    facts = {
        "parts": parts,
        "code": {str(path.relative_to(code)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(code.rglob("*.py"))},
        "versions": [torch.__version__, platform.machine(), torch.get_num_threads(), torch.cuda.is_available()],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def digest(module: torch.nn.Module) -> str:
    """Hash of a module's weights."""
    parts = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        parts.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return parts.hexdigest()


class State:
    """One training's state file, .resume/<name>-<fingerprint>.pt under the project's root; replaced atomically."""

    def __init__(self, name: str, parts: dict[str, Any]):
        folder = Path(os.environ.get("DVC_ROOT", ".")) / ".resume"
        self.path = folder / f"{name}-{fingerprint(parts)}.pt"
        for stale in folder.glob(f"{name}-*"):  # one state per training: states of other settings go
            if stale != self.path:
                stale.unlink(missing_ok=True)

    def read(self) -> dict[str, Any] | None:
        """The last saved state, or None; a file that cannot be read is as good as none."""
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except Exception as error:  # torch raises many kinds for a damaged file
            print(f"{self.path} cannot be read ({error}); training starts from the beginning")
            return None

    def save(self, content: dict[str, Any]) -> None:
        """Replaces the state; a kill or a full disk while writing leaves the old one."""
        part = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        except (OSError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            print(f"could not save the training state {self.path} ({error}); training goes on, the last saved state is kept")

    def clear(self) -> None:
        """Removes the state after success."""
        self.path.unlink(missing_ok=True)
