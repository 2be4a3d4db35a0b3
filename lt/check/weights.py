"""The file that a model's weights are to come from."""

from lt.core.params import at
from lt.network import weights_file

# Models whose own weights, downloaded where they are used, have another name than torchvision.
DOWNLOADED = {"timm": "hub"}


def mistakes(content: dict) -> list[str]:
    """What is wrong with the file that the selected model's weights are to come from, if they are to come from one."""
    model = str(content.get("model"))
    weights, own = at(content, f"models.{model}.weights"), DOWNLOADED.get(model, "torchvision")
    if not isinstance(weights, str) or weights == own:
        return []
    try:
        weights_file.read(weights, f"models.{model}.weights", own)
    except ValueError as error:
        return [str(error)]
    return []
