"""params.yaml and priors that are bad: values, YAML, and numbers at the ends of their ranges."""

import json
import random
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator

import yaml

from benchmarks import damage
from benchmarks.bad_case import Case, Cases, at, set_params


def leaves(content: dict, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Keys and values of params.yaml."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


WRONG = [{"a": 1}, [[1]], "no such value", 2**70, -(2**70), float("inf"), float("nan"), 1e300, -1e300]


def params(good: Path, draw: random.Random) -> Cases:
    """Values of other types or out of every range, unknown keys and missing ones."""
    content = yaml.safe_load((good / "digits" / "params.yaml").read_text())
    for keys, value in leaves(content):
        named = (str(keys[-1]), keys[0])
        free_text = isinstance(value, str) or value is None
        for bad in WRONG:
            # a name of a file may be any text, and what has null may be text as well
            valid = isinstance(bad, str) and free_text and keys[0] in ("datasets", "models")
            yield Case(
                "params", f"{'.'.join(keys)} = {bad!r}", ["check"], partial(set_params, keys=keys, value=bad), named, valid
            )
        yield Case(
            "params", f"{'.'.join(keys)}x", ["check"], partial(set_params, keys=(*keys[:-1], f"{keys[-1]}x"), value=value), named
        )


TRAPS = [
    "a: &a [*a]\n", "{", "[" * 5000, "\x00", "\ufeff", "---\na: 1\n---\nb: 2\n", "!!python/object/apply:os.system ['true']\n",
    "? [a]\n: 1\n",
    "a: !!binary x\n", "<<: 1\n", "<<: [*x]\n", "%YAML 9.9\n---\na: 1\n", "a: 1_000\n", "a: 0o17\n", "1: 2\n", "null: 1\n",
    "? {a: 1}\n: 2\n", "- 1\n", "a: !!set {a, b}\n",
    "a: !!omap [a: 1]\n", "a: *nowhere\n", "a: |\n\tx\n", "\t\n", "a: 'x\n", "a: !<tag:yaml.org,2002:int> x\n",
    "a: " + "x" * 10**6 + "\n", "a: 2020-99-99\n", "a: !!timestamp x\n",
    "seed: 1\nseed: 2\n", "\ud800", "a: " + "9" * 10**5 + "\n", "#" * 10**6 + "\n",
]  # fmt: skip


def yaml_text(good: Path, draw: random.Random) -> Cases:
    """Traps of YAML, and edits of the file at any place; what is taken has to be what another reader of YAML 1.2 takes it for."""
    text = (good / "digits" / "params.yaml").read_text()

    def write(folder: Path, text: str) -> None:
        (folder / "params.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))

    for stage in ("check", "report", "recipe", "predict"):
        argv = {"recipe": ["recipe", "cifar100_if100_balms"], "predict": ["predict", "--row", "crt", "data/tree"]}.get(
            stage, [stage]
        )
        for what, change in damage.of_place("params.yaml"):
            yield Case("yaml", f"params.yaml: {what}", argv, at("params.yaml", change), ("params.yaml",))
        for trap in TRAPS:
            harmless = trap.startswith(("#", "\ufeff"))
            yield Case(
                "yaml", f"trap {trap[:20]!r} first", argv, partial(write, text=trap + text), ("params.yaml",), valid=harmless
            )
            yield Case("yaml", f"trap {trap[:20]!r} alone", argv, partial(write, text=trap), ("params.yaml",))
            yield Case(
                "yaml", f"trap {trap[:20]!r} last", argv, partial(write, text=text + trap), ("params.yaml",), valid=harmless
            )
    bomb = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9) if i else 'x'}]\n" for i in range(9))
    yield Case("yaml", "aliases", ["check"], partial(write, text=text + bomb), ("params.yaml",))
    for _ in range(600):
        place, length = draw.randrange(len(text)), draw.choice((0, 0, 1, 3, 20))
        inner = "".join(draw.choice(" \n\t:-{}[],&*#?|>!%@`'\"0aé\x07.") for _ in range(draw.choice((0, 1, 1, 2, 5))))
        edited = text[:place] + inner + text[place + length :]
        yield Case(
            "yaml",
            f"{text[place : place + length]!r} -> {inner!r} at {place}",
            ["check"],
            partial(write, text=edited),
            ("params.yaml",),
            valid=partial(reads_alike, edited),
        )


def reads_alike(text: str) -> bool:
    """Whether DVC's reader of YAML takes a text for the same as the project's."""
    from dvc.utils.serialize import loads_yaml

    from lt.core.yaml_file import read_yaml

    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        return repr(json.dumps(loads_yaml(text), default=str)) == repr(json.dumps(read_yaml(Path(file.name)), default=str))


PRIOR = json.dumps([1.0] * 10)


def priors(good: Path, draw: random.Random) -> Cases:
    """Files of a test prior."""
    for argv in (
        ["evaluate", "crt", "--prior", "prior.json"],
        ["predict", "--row", "crt", "--prior", "prior.json", "data/tree/test"],
    ):

        def prepared(change: Callable[[Path], None]) -> Callable[[Path], None]:
            def both(folder: Path) -> None:
                (folder / "prior.json").write_text(PRIOR)
                change(folder / "prior.json")

            return both

        for what, change in damage.of_place("prior.json"):
            yield Case("prior", what, argv, prepared(change), ("prior.json",))
        for bad in [*damage.VALUES, [1] * 9, [1] * 11, [0] * 10, [-1] + [1] * 9, [1e308] * 10, [True] * 10, ["1"] * 10,
            [[1]] * 10, [None] * 10, [float("nan")] * 10, [2**2000] * 10,
                    {str(i): 1 for i in range(9)}, {str(i): 1 for i in range(11)}, {"zero": 1},
                        {**{str(i): 1 for i in range(9)}, "x": 1}]:  # fmt: skip
            yield Case(
                "prior",
                f"value {str(bad)[:30]}",
                argv,
                prepared(lambda path, bad=bad: path.write_text(json.dumps(bad))),
                ("prior.json",),
            )
        for text in (
            "NaN",
            "[1,",
            "{",
            "[" * 10**5,
            "\ufeff[1]",
            '{"0": 1, "0": 2, "1": 1, "2": 1, "3": 1, "4": 1, "5": 1, "6": 1, "7": 1, "8": 1, "9": 1}',
            "[1 1]",
            "é",
            "9" * 10**4,
        ):
            yield Case(
                "prior", f"text {text[:20]!r}", argv, prepared(lambda path, text=text: path.write_text(text)), ("prior.json",)
            )
        yield Case("prior", "no UTF-8", argv, prepared(lambda path: path.write_bytes(b"\xff\xfe[1]")), ("prior.json",))
        for what, change in damage.of_bytes(draw, 40):
            yield Case("prior", what, argv, prepared(change), ("prior.json",), valid=True)
    for name in ("uniformm", "", "train ", "no/such/file", "\x00", "x" * 5000, "."):
        yield Case("prior", f"name {name[:20]!r}", ["predict", "--row", "crt", "--prior", name, "data/tree/test"])


EXTREMES = {
    ("imbalance",): (1, 1e100), ("train", "lr"): (1e-100, 1e100), ("train", "momentum"): (0.0, 0.999999999),
    ("train", "weight_decay"): (0.0, 1e100), ("train", "batch_size"): (1, 10**6),
    ("train", "gamma"): (0.0, 1.0), ("features", "views"): (1,), ("features", "batch_size"): (1, 10**9),
    ("methods", "crt", "lr"): (1e-100, 1e100), ("methods", "crt", "batch_size"): (1,),
    ("methods", "pc", "tau"): (0.0, 1e100, -1e100), ("subset", "val_fraction"): (0.0, 0.999999),
    ("subset", "reserve"): (0, 10**9), ("subset", "seed"): (0, 2**32 - 1), ("evaluate", "bins"): (1, 10**9),
    ("teachers", "pc", "gamma"): (0.0, 1e100), ("teachers", "pc", "eps"): (0.0, 1e100),
    ("teachers", "pc", "temperature"): (1e-100, 1e100), ("distill", "lr"): (1e-100, 1e100), ("seeds",): ([2**32 - 1],),
    ("train", "backbone_lr_factor"): (1e-100, 1e100), ("train", "warmup_from"): (0.0, 1.0), ("train", "epochs"): (1, 0),
    ("losses", "focal", "gamma"): (0.0, 1e100), ("distill", "batch_size"): (1, 10**9),
}  # fmt: skip


LOSSES = {
    "balanced_softmax": "tau",
    "cb": "beta",
    "eql": "threshold",
    "focal": "gamma",
    "gcl": "scale",
    "ldam": "scale",
    "logit_adjust": "tau",
    "lade": "alpha",
}


STAGE_OF = {"imbalance": ["subsample"], "subset": ["subsample"], "seeds": ["base", "--seed", str(2**32 - 1)],
    "features": ["features", "--seed", "0"], "evaluate": ["evaluate", "crt"],
            "teachers": ["distill", "pc", "--seed", "0"], "distill": ["distill", "pc", "--seed", "0"]}  # fmt: skip


def extremes(good: Path, draw: random.Random) -> Cases:
    """Numbers at the ends of their ranges, as the stages meet them: words or a result, never a traceback."""
    for keys, values in EXTREMES.items():
        argv = ["retrain", keys[1], "--seed", "0"] if keys[0] == "methods" else STAGE_OF.get(keys[0], ["base", "--seed", "0"])
        for value in values:
            yield Case(
                "extremes",
                f"{'.'.join(keys)} = {value!r}",
                argv,
                partial(set_params, keys=keys, value=value),
                valid=True,
                trains=True,
            )
    for loss, option in LOSSES.items():
        for value in (0.0, 1e-100, 0.999999, 1.0, 1e100):

            def change(folder: Path, loss: str = loss, option: str = option, value: float = value) -> None:
                set_params(folder, ("loss",), loss)
                set_params(folder, ("losses", loss, option), value)

            yield Case(
                "extremes", f"losses.{loss}.{option} = {value!r}", ["base", "--seed", "0"], change, valid=True, trains=True
            )
