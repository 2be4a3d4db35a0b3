"""One thing that a killed command has left, and what is to be done about it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Callable


@dataclass(frozen=True)
class Finding:
    """where: the file or folder    what: it is    todo: what mending does, or, where that is the user's to decide, the command

    mend: mends it; None where only the user can    harmless: nothing fails because of it
    """

    where: Path | str
    what: str
    todo: str
    mend: Callable[[], None] | None = None
    harmless: bool = False
