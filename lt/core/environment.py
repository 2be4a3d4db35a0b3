"""Numbers in environment variables: what belongs to a machine and a run, and never changes a result."""

import math
import os


def whole_number(name: str, expected: str, default: int | None = None, least: int = 1) -> int | None:
    """The whole number, `least` or more, that a variable holds; the default where it is not set, or empty.

    expected: in words, such as "a number of processes, 1 or more"; ValueError with the variable's name where it holds anything else
    """
    text = os.environ.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text) >= least):
        raise ValueError(f"{name}: got {text!r}, expected {expected}")
    return int(text)


def real_number(name: str, expected: str, default: float) -> float:
    """As whole_number, for any finite number."""
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name}: got {text!r}, expected {expected}")
    return value
