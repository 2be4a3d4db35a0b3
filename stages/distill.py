"""Trains the xERM student of one seed with one teacher: a row of methods, whose logits are the balanced view.

python -m stages.distill pc --seed 0
"""

from argparse import Namespace

import numpy as np

from lt.core import artifacts, params
from lt.core.command import arguments
from lt.core.context import of_base
from lt.core.subset import read_subset
from lt.data.dataset import open_dataset
from lt.distill.xerm import read_teacher, train_student
from lt.distill.xerm_head import fit_student
from lt.features import apply_head
from lt.input.device import device
from lt.input.part import training_part
from lt.network.classifier import write_classifier
from lt.network.inference import predict
from lt.retrain.inputs import read_inputs, read_test_features
from lt.training import launch
from lt.training.setup import Trained, specification
from stages.start import run


def main() -> None:
    args = arguments(__doc__, "teacher")
    settings = params.load()
    settings.expect("teachers", args.teacher)
    context = of_base(settings, args.seed, ("dataset", "model", "head", "loss", "augment"))
    trained, spec, logits = (of_network if settings.trains_backbone() else of_head)(settings, args)
    with artifacts.writing(artifacts.stage_dir("distill", args.teacher, args.seed)) as folder:
        write_classifier(folder, trained.model, spec, trained.logit_prior, context)
        artifacts.write_log(folder / "log.csv", trained.log)
        artifacts.write_array(folder / "test_logits.npy", logits)
    if trained.state is not None:
        trained.state.clear()


def of_network(settings: params.Settings, args: Namespace) -> tuple[Trained, dict, np.ndarray]:
    """The student that is a whole network, what it is built from, and its test logits."""
    with launch.processes():
        part = training_part(open_dataset(settings, "train"), read_subset(), device())
        test = open_dataset(settings, "test", check="none")
        teacher = read_teacher(args.teacher, args.seed, part)
        trained = train_student(settings, part, args.teacher, teacher, args.seed, test)
    return trained, specification(settings, part), predict(trained.model, test, part.images.device)


def of_head(settings: params.Settings, args: Namespace) -> tuple[Trained, dict, np.ndarray]:
    """The same where the student is a head on a backbone that stays as it is; reads cached features, and no images."""
    subset = read_subset()
    inputs = read_inputs(subset, args.seed, device())
    trained = fit_student(settings, inputs, args.teacher)
    spec = artifacts.read_json(artifacts.stage_dir("base", args.seed) / "row.json")["classifier"]
    return trained, spec, apply_head(trained.model.head, read_test_features(subset, inputs), inputs.device)


if __name__ == "__main__":
    run(main)
