"""Files of weights, which an option names along with their content's hash, as in data/r50.safetensors@sha256:1a2b3c4d5e6f."""

import hashlib
import os
import re
from pathlib import Path

import yaml

from lt.core.files import read_regular

DIGITS = 12
# Only what ends the name is its hash: a file or folder may hold an @ too.
NAMED = re.compile(r"(.*)@sha256:([^/\\]*)", re.DOTALL)


def read(weights: str, key: str, own: str = "torchvision") -> tuple[Path, bytes]:
    """Path and content of a file, absolute or relative to the project, that is named with its sha256, or 12 or more digits of it.

    DVC and a training state know a file by its name in params.yaml: with the hash in it, other content is another name.
    key: the option that names it, and own: what it may say instead of a file, for messages
    Raises ValueError where the file cannot be read, or its hash is missing, malformed, or another; it tells the line to write.
    """
    named = NAMED.fullmatch(weights)
    file, wanted = named.groups() if named else (weights, None)
    path = Path(os.environ.get("DVC_ROOT", ".")) / file
    try:
        content = read_regular(path)
    except OSError as error:
        expected = f"expected {own}, or a file, absolute or relative to the project, and its hash"
        raise ValueError(
            f"{key}: {path} cannot be read ({error.strerror}); {expected}, such as data/r50.safetensors@sha256:1a2b3c4d5e6f"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    write = f"write {_line(f'{file}@sha256:{digest[:DIGITS]}')}"
    if wanted is None:
        raise ValueError(f"{key}: got {weights!r}, expected the file and its content's hash; {write}")
    if not re.fullmatch(rf"[0-9a-fA-F]{{{DIGITS},64}}", wanted):
        raise ValueError(f"{key}: got the hash {wanted!r}, expected {DIGITS} to 64 hex digits of the file's sha256; {write}")
    if not digest.startswith(wanted.lower()):
        got = f"{path} with sha256 {digest[:len(wanted)]}, expected {wanted}"
        raise ValueError(f"{key}: got {got}: this is another file; put the right one in its place, or {write}")
    return path, content


def _line(weights: str) -> str:
    """The option as a line of params.yaml, in quotes where YAML needs them."""
    return yaml.safe_dump({"weights": weights}, width=float("inf"), allow_unicode=True).strip()
