"""Re-trains the classifier of one seed with one method, on cached features; a few methods train the backbone as well.

python -m stages.retrain balms --seed 0
"""

from lt.core import artifacts, params
from lt.core.command import arguments
from lt.core.context import of_base
from lt.core.plugins import load
from lt.core.subset import read_subset
from lt.data.dataset import open_dataset
from lt.features import apply_head
from lt.input.device import device
from lt.input.part import training_part
from lt.network.classifier import Classifier, DecisionRule, write_rule
from lt.network.inference import predict
from lt.retrain.inputs import read_inputs, read_test_features, training_inputs
from stages.start import run


def main() -> None:
    args = arguments(__doc__, "method")
    settings = params.load()
    settings.expect("methods", args.method)
    context = of_base(settings, args.seed, ("dataset", "augment"))
    subset = read_subset()

    def open_training():
        return training_inputs(settings, training_part(open_dataset(settings, "train"), subset, device()), args.seed)

    inputs = read_inputs(subset, args.seed, device(), open_training)
    result = load("methods", args.method)(inputs, **settings.options("methods", args.method))

    rule = DecisionRule(result.head, result.offset, result.balanced_view, len(subset.counts)).to(inputs.device)
    if result.backbone is None:
        logits = apply_head(rule, read_test_features(subset, inputs), inputs.device)
    else:
        model = Classifier(result.backbone, rule, subset.mean, subset.std).to(inputs.device)
        logits = predict(model, open_dataset(settings, "test", check="none"), inputs.device)
    with artifacts.writing(artifacts.stage_dir("retrain", args.method, args.seed)) as folder:
        write_rule(folder, rule, result.logit_prior, result.backbone, context)
        artifacts.write_log(folder / "log.csv", result.log)
        for name, array in result.arrays.items():
            artifacts.write_array(folder / f"{name}.npy", array)
        if result.backbone is not None:
            artifacts.write_log(folder / "backbone_log.csv", result.backbone_log)
        artifacts.write_array(folder / "test_logits.npy", logits)
    if result.state is not None:
        result.state.clear()


if __name__ == "__main__":
    run(main)
