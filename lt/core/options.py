"""Options of a plug-in: the keyword-only arguments of its one function, read without importing it."""

import ast
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

# Every number has an end: what is larger is a slip of the pen, and would reach the maths as infinity or an overflow.
LARGEST, MOST = 1e100, 10**9
SEEDS = 2**32

Positive = Annotated[float, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Real = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Index = Annotated[int, Field(ge=0, le=MOST)]
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]
Whole = Annotated[int, Field(ge=-MOST, le=MOST)]

_ANNOTATIONS = {
    "Positive": Positive, "NonNegative": NonNegative, "Real": Real, "Fraction": Fraction,
    "OpenFraction": OpenFraction, "Count": Count, "Index": Index, "Literal": Literal,
    "int": Whole, "float": Real, "str": str, "bool": bool, "list": list, "dict": dict, "tuple": tuple, "None": None,
}


def options_of(path: Path, function: str) -> dict[str, tuple[Any, Any]]:
    """Keyword-only arguments of `function` in the file `path`: name -> (type, default).

    The file is parsed, never run, so that a params check needs no torch.
    Raises ValueError where the function is missing, or an option lacks an annotation or a default.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            pairs = zip(node.args.kwonlyargs, node.args.kw_defaults)
            return {arg.arg: _typed_default(path, arg, default) for arg, default in pairs}
    raise ValueError(f"{path}: no function {function!r}; every file of {path.parent.name}/ must define it")


def constant_of(path: Path, name: str, default: Any) -> Any:
    """Value of the module constant `name` in the file `path`, which is parsed, never run; the default where it has none."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
            return ast.literal_eval(node.value)
    return default


def _typed_default(path: Path, arg: ast.arg, default: ast.expr | None) -> tuple[Any, Any]:
    if arg.annotation is None or default is None:
        raise ValueError(f"{path}: option {arg.arg!r} needs a type annotation and a default")
    try:
        kind = eval(compile(ast.Expression(arg.annotation), str(path), "eval"), {"__builtins__": {}}, _ANNOTATIONS)
    except NameError as error:
        raise ValueError(f"{path}: the type of option {arg.arg!r} must be built from {sorted(_ANNOTATIONS)}: {error}") from None
    return kind, ast.literal_eval(default)
