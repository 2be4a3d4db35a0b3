"""Writes, for each stage, the hashes of its code, besides the plug-ins that dvc.yaml names.

python -m stages.code

DVC reads dvc.lock several times per command; naming thirty files in each of the table's stages would slow every command down.
"""

from pathlib import Path

from lt import artifacts
from lt.command import arguments, run
from lt.shared_code import fingerprint

DATA = ("lt/cifar.py", "lt/decode.py", "lt/lists.py", "lt/packed.py")
IMAGES = (*DATA, "lt/image_ops.py", "lt/policies.py", "lt/pretrained_network.py", "lt/resnet.py", "lt/torchvision_resnet.py")
TRAINING = ("lt/heads", "lt/loss.py", "lt/losses/ce.py", "lt/mixes/none.py", "lt/weightings/none.py")
METHODS = (
    "lt/adam.py", "lt/bilevel.py", "lt/decoupling.py", "lt/losses/balanced_softmax.py", "lt/retraining.py", "lt/robust_loss.py",
    "lt/samplers/class_aware.py",
)
# What a stage reaches through its plug-ins only, of which dvc.yaml names the selected ones; a folder stands for its files.
THROUGH_PLUGINS = {
    "subsample": DATA,
    "base": (*IMAGES, "lt/loss.py", "lt/mixing.py"),
    "features": IMAGES,
    "retrain": (*IMAGES, *TRAINING, *METHODS),
    "distill": (*IMAGES, *TRAINING, "lt/samplers/instance.py"),
    "evaluate": (),
    "report": (),
}


def main() -> None:
    arguments(__doc__, seed=False)
    for stage, plugin_code in THROUGH_PLUGINS.items():
        content = fingerprint([Path("stages", f"{stage}.py"), *map(Path, plugin_code)])
        artifacts.write_text(artifacts.stage_dir("code", stage), content)


if __name__ == "__main__":
    run(main)
