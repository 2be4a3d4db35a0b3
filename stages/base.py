"""Trains the base model of one seed.

python -m stages.base --seed 0
"""

from contextlib import nullcontext

from lt import artifacts, launch, params
from lt.base import device, predict, specification, train_base, training_part
from lt.classifier import write_classifier
from lt.command import arguments, run
from lt.frozen import fit_base
from lt.index import open_dataset
from lt.subset import read_subset


def main() -> None:
    seed = arguments(__doc__).seed
    settings = params.load()
    trains = settings.trains_backbone()
    with launch.processes() if trains else nullcontext():
        part = training_part(open_dataset(settings, "train"), read_subset(), device())
        test = open_dataset(settings, "test", check="none")
        trained = train_base(settings, part, seed, test) if trains else fit_base(settings, part, seed)

    with artifacts.writing(artifacts.stage_dir("base", seed)) as folder:
        write_classifier(folder, trained.model, specification(settings, part), trained.logit_prior)
        artifacts.write_log(folder / "log.csv", trained.log)
        artifacts.write_array(folder / "test_logits.npy", predict(trained.model, test, part.images.device))
    if trained.state is not None:
        trained.state.clear()


if __name__ == "__main__":
    run(main)
