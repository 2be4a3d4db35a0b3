"""A stage or another command, run in this process as its script would be."""

import importlib
import os
import sys

from lt.core.command import STAGES, run
from stages import start


def run_stage(name: str, *arguments: str) -> None:
    """Runs `python -m stages.NAME ARGUMENTS`; what the command raises, SystemExit among it, comes through."""
    begin = start.run if name in STAGES[1:] else run
    before, sys.argv = sys.argv, [f"stages{os.sep}{name}.py", *arguments]
    try:
        begin(lambda: importlib.import_module(f"stages.{name}").main())
    finally:
        sys.argv = before
