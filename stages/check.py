"""Checks params.yaml, its file of weights and the presence of the data index before anything is deleted or trained.

python -m stages.check
"""

from pathlib import Path

from lt.check import feasible
from lt.core import artifacts, params
from lt.core.command import run
from lt.network import weights_file

# Models whose own weights, downloaded where they are used, have another name than torchvision.
DOWNLOADED = {"timm": "hub"}


def main() -> None:
    settings = params.load(further=lambda content: weights_mistakes(content) + feasible.mistakes(content))
    index = Path("data") / f"{settings.dataset}.json"
    if not index.is_file():
        raise params.ParamsError(
            f"dataset {settings.dataset!r}: its index {index} is missing; make it with `python -m stages.index {settings.dataset}` "
            f"(downloads the data where it can), then `git add {index}`"
        )
    # The marker never changes, so that a change of params re-runs only what depends on it.
    artifacts.write_text(artifacts.ROOT / "check", "params.yaml is valid\n")


def weights_mistakes(content: dict) -> list[str]:
    """What is wrong with the file that the selected model's weights are to come from, if they are to come from one."""
    model, models = content.get("model"), content.get("models")
    options = models.get(model) if isinstance(model, str) and isinstance(models, dict) else None
    weights = options.get("weights") if isinstance(options, dict) else None
    if not isinstance(weights, str) or weights == DOWNLOADED.get(model, "torchvision"):
        return []
    try:
        weights_file.read(weights, f"models.{model}.weights")
    except ValueError as error:
        return [str(error)]
    return []


if __name__ == "__main__":
    run(main)
