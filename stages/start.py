"""How a stage of the graph starts: by hand, params.yaml is checked first, as DVC does before any stage."""

import importlib
import os
from typing import Callable

from lt.core import command


def run(main: Callable[[], None]) -> None:
    """Runs a stage's main as lt.core.command.run does, after the check."""
    command.run(main, before=check)


def check() -> None:
    """Stage check, unless DVC has run it, or several processes were started as one; no stage has its code as a dependency."""
    if not {"DVC_STAGE", "RANK"} & os.environ.keys():
        importlib.import_module("stages.check").main()
