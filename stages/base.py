"""Trains the base model of one seed.

python -m stages.base --seed 0
"""

from contextlib import nullcontext

import numpy as np
import torch

from lt.base.frozen import fit_base
from lt.base.trained import train_base
from lt.core import artifacts, params
from lt.core.command import arguments
from lt.core.context import made_of
from lt.core.subset import read_subset
from lt.data.dataset import open_dataset
from lt.data.split import Split
from lt.features import apply_head
from lt.input.device import device
from lt.input.part import training_part
from lt.network.classifier import write_classifier
from lt.network.inference import predict
from lt.training import launch
from lt.training.setup import Trained, specification
from stages.start import run


def main() -> None:
    seed = arguments(__doc__).seed
    settings = params.load()
    trains = settings.trains_backbone()
    with launch.processes() if trains else nullcontext():
        part = training_part(open_dataset(settings, "train"), read_subset(), device())
        context = made_of(settings, part.subset)
        test = open_dataset(settings, "test", check="none")
        trained = train_base(settings, part, seed, test) if trains else fit_base(settings, part, seed, test)

    with artifacts.writing(artifacts.stage_dir("base", seed)) as folder:
        write_classifier(folder, trained.model, specification(settings, part), trained.logit_prior, context)
        artifacts.write_log(folder / "log.csv", trained.log)
        artifacts.write_array(folder / "test_logits.npy", test_logits(trained, test, part.images.device))
        for name, features in trained.features.items():
            artifacts.write_array(folder / f"{name}.npy", features)
    if trained.state is not None:
        trained.state.clear()


def test_logits(trained: Trained, test: Split, where: torch.device) -> np.ndarray:
    """Logits of the test part, from its features where those are there."""
    if trained.features:
        return apply_head(trained.model.head, trained.features["test"], where)
    return predict(trained.model, test, where)


if __name__ == "__main__":
    run(main)
