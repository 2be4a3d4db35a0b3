"""Checks params.yaml, its file of weights and the presence of the data index before anything is deleted or trained.

python -m stages.check
"""

from pathlib import Path

from lt.check import feasible, mistakes, weights
from lt.core import artifacts, params
from lt.core.command import run


def main() -> None:
    settings = mistakes.load(further=lambda content: weights.mistakes(content) + feasible.mistakes(content))
    index = Path("data") / f"{settings.dataset}.json"
    if not index.is_file():
        raise params.ParamsError(
            f"dataset {settings.dataset!r}: its index {index} is missing; make it with `python -m stages.index {settings.dataset}` "
            f"(downloads the data where it can), then `git add {index}`"
        )
    # The marker never changes, so that a change of params re-runs only what depends on it.
    artifacts.write_text(artifacts.ROOT / "check", "params.yaml is valid\n")


if __name__ == "__main__":
    run(main)
