"""The file that a model's weights are to come from."""

from lt.core.params import at
from lt.network import weights_file

# Models whose own weights, downloaded where they are used, have another name than torchvision.
DOWNLOADED = {"timm": "hub"}


def mistakes(content: dict) -> list[str]:
    """What is wrong with the file that the selected model's weights are to come from, if they are to come from one."""
    model = content.get("model")
    weights = at(content, f"models.{model}.weights")
    if not isinstance(weights, str) or weights == DOWNLOADED.get(model, "torchvision"):
        return []
    try:
        weights_file.read(weights, f"models.{model}.weights")
    except ValueError as error:
        return [str(error)]
    return []
