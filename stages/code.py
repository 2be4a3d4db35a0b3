"""Writes, for each stage, the hashes of its code, besides the plug-ins that dvc.yaml names.

python -m stages.code

DVC reads dvc.lock several times per command; naming thirty files in each of the table's stages would slow every command down.
"""

from pathlib import Path

from lt.core import artifacts
from lt.core.command import arguments, run
from lt.shared_code import fingerprint

DATA = ("lt/data/cifar.py", "lt/data/decode.py", "lt/data/image_lists.py", "lt/data/packed.py")
IMAGES = (*DATA, "lt/input/crop_flip_cutout.py", "lt/input/autoaugment_ops.py", "lt/network/pretrained_network.py", "lt/network/resnet.py", "lt/network/torchvision_resnet.py")
TRAINING = ("lt/heads", "lt/training/loss.py", "lt/losses/ce.py", "lt/mixes/none.py", "lt/weightings/none.py")
METHODS = (
    "lt/retrain/adam.py", "lt/retrain/bilevel.py", "lt/retrain/rescaling.py", "lt/losses/balanced_softmax.py", "lt/retrain/heads.py", "lt/retrain/robust_loss.py",
    "lt/samplers/class_aware.py",
)
# What a stage reaches through its plug-ins only, of which dvc.yaml names the selected ones; a folder stands for its files.
THROUGH_PLUGINS = {
    "subsample": DATA,
    "base": (*IMAGES, "lt/training/loss.py", "lt/training/mixing.py"),
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
