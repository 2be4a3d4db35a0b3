"""JSON as it is written here, and nothing that a reader would have to guess."""

import json
from typing import Any


def loads(text: bytes | str) -> Any:
    """The value in a text. ValueError where it is no JSON, a key stands twice, or a number is NaN or infinite."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice")
        found[key] = value
    return found


def _refuse(word: str) -> None:
    raise ValueError(f"got {word}, expected a number, or null where there is none")
