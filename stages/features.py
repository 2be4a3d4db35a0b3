"""Extracts the features of one seed's base model: augmented and clean views of the training part, and the test part.

python -m stages.features --seed 0
"""

from lt.core import artifacts, params
from lt.core.command import arguments
from lt.core.context import of_base
from lt.core.subset import read_subset
from lt.data.dataset import open_dataset
from lt.features import extract
from lt.input.device import device
from lt.input.part import training_part
from lt.network.classifier import read_classifier
from stages.start import run


def main() -> None:
    seed = arguments(__doc__).seed
    settings = params.load()
    of_base(settings, seed, ("dataset", "augment"))  # refuses views of another augmentation than the base model's
    part = training_part(open_dataset(settings, "train"), read_subset(), device())
    val, test = (open_dataset(settings, name, check="none") for name in (part.subset.val_part, "test"))
    base = artifacts.stage_dir("base", seed)
    model, _ = read_classifier(base)
    kept = ("clean", "test") if (base / "clean.npy").is_file() else ()  # of a backbone that was not trained
    known = {name: artifacts.read_array(base / f"{name}.npy", dtype="float", mmap=True) for name in kept}
    augment = settings.plugin("augment", part.split.image_size)

    with artifacts.writing(artifacts.stage_dir("features", seed)) as folder:
        extract(model.to(part.images.device), part, val, test, augment, settings.features, seed, folder, known)


if __name__ == "__main__":
    run(main)
