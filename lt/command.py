"""How every stage script starts: its errors are told in words, not as a traceback."""

import argparse
import os
import sys
from typing import Callable


def run(main: Callable[[], None]) -> None:
    """Runs a stage's main; a wrong input ends it with the message and exit code 1 (LT_DEBUG=1 shows where it came from)."""
    try:
        main()
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        if os.environ.get("LT_DEBUG"):
            raise
        sys.exit(f"\nerror: {str(error) or type(error).__name__}\n")
    except KeyboardInterrupt as error:
        sys.exit(f"\n{error or 'stopped'}\n")


def arguments(doc: str, *names: str, seed: bool = True) -> argparse.Namespace:
    """Command line of a stage: positional names, and --seed where the stage runs once per seed."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in names:
        parser.add_argument(name)
    if seed:
        parser.add_argument("--seed", type=int, required=True)
    return parser.parse_args()
