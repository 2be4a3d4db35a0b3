"""Batch-norm statistics of the frozen backbone: which ones a method's original has, and of which batches they are the mean."""

from typing import Any

from lt.core.options import constant_of, options_of
from lt.core.plugins import path_of

# statistics -> how the classes of one batch after another are drawn, over and over. mixture: BALMS sends a training batch, a
# meta batch and the training batch again through the network in each step; natural as long as its sampling rates are alike.
CYCLES = {"natural": ("natural",), "balanced": ("balanced",), "mixture": ("natural", "balanced", "natural")}
# option `sampling` of a method -> statistics of its batches
SAMPLED = {"instance": "natural", "class_balanced": "balanced"}


def of_method(name: str, options: dict[str, Any]) -> str | None:
    """The statistics that the features of lt/methods/<name>.py have in its original.

    frozen: those of the base model; else a key of CYCLES, where the original trains its head with the network in train mode;
    None where it reads no cached features. A method with an option `sampling` has those of its sampling; others name them as
    STATISTICS. The file is parsed, never run; raises ValueError where it names none.
    """
    path = path_of("methods", name)
    known = options_of(path, "fit")
    if "sampling" in known:
        return SAMPLED[options.get("sampling", known["sampling"][1])]
    named = constant_of(path, "STATISTICS", default="")
    if named == "":
        valid = ", ".join(("frozen", *CYCLES))
        raise ValueError(f"{path}: no STATISTICS; a method without an option `sampling` must name one of {valid}, or None")
    return named


def mistakes(bn: str, methods: dict[str, dict[str, Any] | None]) -> list[str]:
    """What is wrong with features.bn: one line per method whose original has other statistics; nothing where bn is frozen."""
    found = []
    for name, options in methods.items() if bn != "frozen" else ():
        named = of_method(name, options or {})
        wanted = "frozen" if named == "frozen" else f"recalibrate_{named}"
        if named is not None and wanted != bn:
            remedy = "give it a run of its own, or leave it out"
            found.append(f"features.bn: got {bn!r}, but methods.{name} wants {wanted!r}; {remedy}")
    return found
