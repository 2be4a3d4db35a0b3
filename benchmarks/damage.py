"""Ways to damage a file: its bytes, its place, the JSON, array or tensors in it; each names itself and is drawn from a seed."""

import copy
import io
import json
import os
import random
import zipfile
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np

from lt.core import manifest

# A damage: what it is, in words, and what it does to the file at a path.
Damage = tuple[str, Callable[[Path], None]]
VALUES = (
    None,
    True,
    -1,
    0,
    2**70,
    1e308,
    float("nan"),
    "",
    "x",
    "\x00",
    "é" * 300,
    [],
    {},
    [None],
    {"a": 1},
    [[1, 2], [3]],
    "1",
    10**400,
)


def of_place(path: str) -> Iterator[Damage]:
    """Something else stands where the file was."""
    yield "missing", lambda path: path.unlink()
    yield "empty", lambda path: path.write_bytes(b"")
    yield "a folder", lambda path: (path.unlink(), path.mkdir())
    yield "a pipe", lambda path: (path.unlink(), os.mkfifo(path))
    yield "a dangling link", lambda path: (path.unlink(), path.symlink_to("nowhere"))
    yield "a link to itself", lambda path: (path.unlink(), path.symlink_to(path.name))


def of_bytes(draw: random.Random, count: int) -> Iterator[Damage]:
    """Bits flipped, parts cut out, doubled, zeroed, or replaced by noise."""
    for number in range(count):
        kind, seed = ("bit", "cut", "end", "double", "zeros", "noise", "more")[number % 7], draw.random()
        yield f"bytes: {kind}", partial(_damage_bytes, kind=kind, seed=seed)


def _damage_bytes(path: Path, kind: str, seed: float) -> None:
    draw, content = random.Random(seed), bytearray(path.read_bytes() or b"\0")
    place, length = draw.randrange(len(content)), draw.randint(1, max(1, len(content) // 8))
    if kind == "bit":
        content[place] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del content[place : place + length]
    elif kind == "end":
        del content[place:]
    elif kind == "double":
        content[place:place] = content[place : place + length]
    elif kind == "zeros":
        content[place : place + length] = bytes(length)
    elif kind == "noise":
        content[place : place + length] = draw.randbytes(length)
    else:
        content += draw.randbytes(length)
    path.write_bytes(content)


def of_json(draw: random.Random, count: int, renewed: bool = False) -> Iterator[Damage]:
    """A key or an item that is missing, or whose value is of another kind; renewed: the manifest beside it knows the new bytes."""
    yield "json: no object", partial(_write_json, content=[1], renewed=renewed)
    yield "json: empty object", partial(_write_json, content={}, renewed=renewed)
    yield "json: deep", lambda path: path.write_text("[" * 100_000)
    yield "json: digits", lambda path: path.write_text('{"a": ' + "9" * 10_000 + "}")
    for _ in range(count):
        yield "json: a value", partial(_damage_json, seed=draw.random(), renewed=renewed)


def places(content: Any) -> list[tuple]:
    """All (container, key) of a JSON value; of long lists the first and the last items."""
    found, todo = [], [content]
    while todo:
        inner = todo.pop()
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        for key in keys if len(keys) < 12 or isinstance(inner, dict) else [*keys[:2], keys[-1]]:
            found.append((inner, key))
            if isinstance(inner[key], (dict, list)):
                todo.append(inner[key])
    return found


def _damage_json(path: Path, seed: float, renewed: bool) -> None:
    draw, content = random.Random(seed), json.loads(path.read_text())
    # a path through the keys, each level as likely as another
    inner, key = draw.choice(places(content))
    old = copy.deepcopy(inner[key])
    if draw.random() < 0.25:
        del inner[key]
    else:
        inner[key] = draw.choice([value for value in VALUES if type(value) is not type(old)])
    _write_json(path, content, renewed)


def _write_json(path: Path, content: Any, renewed: bool) -> None:
    path.write_text(json.dumps(content))
    if renewed:
        renew(path.parent)


def flip_digit(path: Path, seed: float) -> None:
    """Another digit in the place of one of a number with a fraction."""
    draw, text = random.Random(seed), path.read_text()
    digits = [i for i, letter in enumerate(text) if letter in "123456789" and i and text[i - 1] in ".0123456789"]
    place = draw.choice(digits)
    path.write_text(text[:place] + draw.choice([d for d in "123456789" if d != text[place]]) + text[place + 1 :])


def of_array(renewed: bool = True) -> Iterator[Damage]:
    """Arrays of other shapes, dtypes and kinds in a .npy file, and numbers that are not finite."""
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "flat": lambda a: a.reshape(-1), "one axis more": lambda a: a[None], "one row less": lambda a: a[:-1],
        "no row": lambda a: a[:0],
        "a single number": lambda a: a.reshape(-1)[:1].sum(dtype=a.dtype), "transposed": lambda a: a.T,
        "complex": lambda a: a.astype(complex),
        "int8": lambda a: a.astype(np.int8), "float64": lambda a: a.astype(np.float64), "uint32": lambda a: a.astype(np.uint32),
        "text": lambda a: a.astype(str), "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
        "bool": lambda a: a.astype(bool),
        "dates": lambda a: np.zeros(a.shape, "M8[s]"), "records": lambda a: np.zeros(a.shape, [("a", "f4"), ("b", "i4")]),
        "one NaN": lambda a: _with(a, np.nan), "one infinity": lambda a: _with(a, np.inf), "one 2**60": lambda a: _with(a, 2**60),
        "one -1": lambda a: _with(a, -1),
        "huge": lambda a: _with(a, 1e38),
    }  # fmt: skip
    for name, change in changes.items():
        yield f"array: {name}", partial(_rewrite, change=change, renewed=renewed)
    yield "array: a zip of arrays", partial(_write, content=_zip(), renewed=renewed)
    yield "array: pickled", partial(_write, content=_saved(np.array([{"a": 1}], dtype=object)), renewed=renewed)
    yield "array: a header of 2**62 numbers", partial(_write, content=_header("(4611686018427387904,)"), renewed=renewed)
    yield "array: a header of -1 numbers", partial(_write, content=_header("(-1,)"), renewed=renewed)
    yield "array: a header that is no dict", partial(_write, content=_header("(" * 200), renewed=renewed)


def _with(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy() if array.size else np.zeros(1, array.dtype)
    if array.dtype.kind == "f" or np.isfinite(value):
        array.reshape(-1)[array.size // 2] = np.array(value).astype(array.dtype) if np.isfinite(value) else value
    else:
        array = array.astype(np.float32)
        array.reshape(-1)[array.size // 2] = value
    return array


def _rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], renewed: bool) -> None:
    with np.errstate(all="ignore"):
        _write(path, _saved(change(np.load(path))), renewed)


def _write(path: Path, content: bytes, renewed: bool) -> None:
    path.write_bytes(content)
    if renewed:
        renew(path.parent)


def _saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


def _header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64)


def of_weights(renewed: bool = True) -> Iterator[Damage]:
    """Tensors of other names, shapes, dtypes and values in a .safetensors file, and headers that lie."""
    import torch
    from safetensors.torch import load_file, save

    def rewrite(path: Path, change) -> None:
        state = load_file(path)
        _write(path, save(change(state)), renewed)

    def one(state, change):
        name = max(state, key=lambda name: state[name].numel())
        return state | {name: change(state[name]).contiguous()}

    changes = {
        "none": lambda state: {}, "one missing": lambda state: dict(list(state.items())[1:]),
        "one more": lambda state: state | {"further": torch.zeros(2)},
        "a shape": lambda state: one(state, lambda t: t.reshape(-1)[:-1]),
        "half": lambda state: one(state, lambda t: t.half()), "int64": lambda state: one(state, lambda t: t.long()),
        "NaN": lambda state: one(state, lambda t: torch.full_like(t, float("nan"))),
        "infinity": lambda state: one(state, lambda t: torch.full_like(t, float("inf"))),
        "a name": lambda state: {f"{name}x": tensor for name, tensor in state.items()},
    }  # fmt: skip
    for name, change in changes.items():
        yield f"weights: {name}", partial(rewrite, change=change)
    for name, header in {
        "a long": (2**40).to_bytes(8, "little") + b"{}",
        "a broken": (2).to_bytes(8, "little") + b"[]",
        "no": b"",
        "another": (8).to_bytes(8, "little") + b'{"a": 1}',
    }.items():
        yield f"weights: {name} header", partial(_write, content=header, renewed=renewed)


def of_log(renewed: bool = True) -> Iterator[Damage]:
    """A log.csv of other columns and values."""
    for name, text in {
        "no line": "epoch,lr,loss,accuracy\n", "words": "epoch,loss\na,b\n", "short line": "epoch,loss\n1\n",
        "long line": "epoch,loss\n1,2,3\n",
        "NaN": "epoch,lr,loss,accuracy\n1,0.1,nan,0.5\n", "other columns": "a,b\n1,2\n", "NUL": "epoch\0,loss\n1,2\n",
        "no UTF-8": "epoch,\udcff\n1,2\n",
        "huge field": "epoch,loss\n" + "1" * 200_000 + ",2\n",
        "infinity": "epoch,lr,loss,accuracy\n1,0.1,inf,0.5\n2,0.1,1e400,0.5\n",
    }.items():  # fmt: skip
        yield f"log: {name}", partial(_write, content=text.encode("utf-8", "surrogateescape"), renewed=renewed)


def renew(folder: Path) -> None:
    """Writes the folder's manifest anew, as if a stage had written what is there."""
    finite = manifest.check_finite
    manifest.check_finite = lambda array, name: None
    try:
        (folder / manifest.NAME).write_text(manifest.describe(folder))
    except Exception:  # an array that cannot be read has no shape to be noted
        listing = json.loads((folder / manifest.NAME).read_text())
        for path in folder.iterdir():
            if path.name != manifest.NAME:
                listing["files"][path.name] = {"bytes": path.stat().st_size, "sha256": manifest.sha256(path)}
        (folder / manifest.NAME).write_text(json.dumps(listing))
    finally:
        manifest.check_finite = finite
        manifest.forget()


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip archive, such as .npz is one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()
