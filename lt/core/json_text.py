"""JSON as it is written here, and nothing that a reader would have to guess."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from lt.core import manifest
from lt.core.manifest import ArtifactError

# Key of a hash of all other keys.
SEAL = "content_sha256"


def loads(text: bytes | str) -> Any:
    """The value in a text. ValueError where it is no JSON, a key stands twice, or a number is NaN or infinite."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)


def parse(text: bytes | str, path: Path, kind: type[BaseModel] | None = None) -> dict:
    """The JSON object in a text, without its seal. kind: of lt/core/schemas.py    path: where it is from, for the message

    Raises ArtifactError where it is no JSON object, or not what was sealed, or naming the first key whose value is not of its kind.
    """
    again = manifest.again(Path(path))
    try:
        content = loads(text)
    except (ValueError, RecursionError) as error:  # also bytes that are no text, and numbers of thousands of digits
        raise ArtifactError(f"{path} is not valid JSON ({error}); {again}") from None
    if not isinstance(content, dict):
        raise ArtifactError(f"{path}: got a {type(content).__name__}, expected keys and values; {again}")
    if SEAL in content and content[SEAL] != sealed(content)[SEAL]:
        raise ArtifactError(f"{path} is damaged, or was edited: its content is not that of its {SEAL}; {again}")
    content.pop(SEAL, None)
    try:
        if kind:
            kind.model_validate(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        got = "nothing" if first["type"] == "missing" else repr(first["input"])[:60]
        where = ".".join(map(str, first["loc"]))
        what = f"{where}: got {got}; {first['msg']}" if where else first["msg"]
        raise ArtifactError(f"{path}: {what}; {again}") from None
    return content


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """JSON values with a hash of them, however they will be laid out in a file."""
    values = {key: value for key, value in content.items() if key != SEAL}
    return values | {SEAL: hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice")
        found[key] = value
    return found


def _refuse(word: str) -> None:
    raise ValueError(f"got {word}, expected a number, or null where there is none")
