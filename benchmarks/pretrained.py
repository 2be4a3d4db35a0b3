"""All heads on the features of a network that ImageNet has trained and that stays as it is, with seconds: CIFAR-100-LT by default.

python -m benchmarks.pretrained                          EfficientNet-Lite0 at 160 pixels (needs timm and the two packages of
                                                         benchmarks.efficientnet_lite0); features are kept under runs/pretrained
python -m benchmarks.pretrained --dataset cifar10 --imbalance 50 --size 224 --without-sklearn

A network that has seen ImageNet is another class of result than one that is trained from nothing on the long-tailed part alone:
the two tables are not to be compared as methods. The ridge is chosen on a fifth of the training part, never on the test part.
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Callable

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import efficientnet_lite0
from lt import subsample
from lt.core import artifacts
from lt.core.command import command_line
from lt.core.counts import shot_groups
from lt.core.plugins import load
from lt.evaluate.metrics import per_class
from lt.features import features_of
from lt.input.device import device
from lt.input.streamed import images_of
from lt.network import classifier
from lt.sklearn import RebalancedClassifier

RIDGES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
BALMS_LR = 0.01  # of 0.1, 0.03 and 0.01 the best on the part that the ridge is chosen on: balanced accuracy 59.6, and 55.6 at 0.1
PARTS = ("train", "train_labels", "test", "test_labels")
HEADER = "| head | balanced | many | medium | few | seconds |\n| --- | --- | --- | --- | --- | --- |"


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--dataset", default="cifar100")
    parser.add_argument("--imbalance", type=float, default=100.0)
    parser.add_argument("--size", type=int, default=160, help="side in pixels that images are scaled to")
    parser.add_argument("--cache", type=Path, default=Path("runs/pretrained"), help="where features are kept")
    parser.add_argument("--without-sklearn", action="store_true", help="leave LogisticRegression out")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    weights = efficientnet_lite0.write(args.cache / "efficientnet_lite0.safetensors")
    model = {"name": efficientnet_lite0.NAME, "weights": weights, "trainable": "head", "image_size": args.size}
    data, seconds = features(args.dataset, args.imbalance, model, args.cache)
    ridge = best_ridge(data["train"], data["train_labels"])
    told = "read from the cache" if seconds is None else f"computed in {seconds:.0f} s"
    print(f"{args.dataset}, imbalance {args.imbalance:g}: {len(data['train'])} images at {args.size} pixels, features {told}; ridge {ridge:g}\n")
    print(HEADER)
    for name, make in heads(ridge, len(data["train"]), not args.without_sklearn).items():
        print(line(name, *measured(make(), data)), flush=True)


def features(dataset: str, imbalance: float, model: dict, cache: Path) -> tuple[dict[str, np.ndarray], float | None]:
    """Features of the long-tailed training part and of the test part, and labels, by PARTS; the seconds they took, None from the cache.

    model: options of lt/models/timm.py    The training part is that of the stages with subset.profile exp and subset.seed 0.
    """
    # Weights count by their content, which their name ends with, wherever they are.
    options = model | {"weights": model.get("weights") and model["weights"].rpartition("@")[2]}
    key = hashlib.sha256(json.dumps([dataset, imbalance, options], sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / f"{dataset}-{key}"
    if folder.is_dir():
        return {part: artifacts.read_array(folder / f"{part}.npy") for part in PARTS}, None
    start = time.perf_counter()
    train, test = (load("datasets", dataset)(Path("data"), part) for part in ("train", "test"))
    each = subsample.profile("exp", np.bincount(train.labels), imbalance)
    index = subsample.draw(train.labels, each, seed=0)
    spec = classifier.classifier_spec("timm", model, "linear", {}, len(each), train.mean, train.std)
    network = classifier.build(spec, seed=0).to(device()).eval()
    found = {"train_labels": train.labels[index], "test_labels": test.labels}
    for part, split, chosen in (("train", train, index), ("test", test, np.arange(len(test.labels)))):
        found[part] = features_of(network, images_of(split, chosen, device()), 64, np.dtype(np.float32))
    seconds = time.perf_counter() - start
    with artifacts.writing(folder) as new:
        for part in PARTS:
            artifacts.write_array(new / f"{part}.npy", found[part])
    return found, seconds


def best_ridge(rows: np.ndarray, labels: np.ndarray) -> float:
    """The one of RIDGES with which balanced_softmax, fitted to four fifths of the rows, has the best balanced accuracy on the others."""
    parts = train_test_split(rows, labels, test_size=0.2, stratify=labels, random_state=0)

    def judged(ridge: float) -> float:
        predicted = RebalancedClassifier(ridge=ridge).fit(parts[0], parts[2]).predict(parts[1])
        return float(np.nanmean(per_class(parts[3], predicted, labels.max() + 1)["recall"]))

    return max(RIDGES, key=judged)


def heads(ridge: float, num_rows: int, with_sklearn: bool) -> dict[str, Callable[[], ClassifierMixin]]:
    """What is compared, by name."""
    penalty = {"C": 1 / (num_rows * ridge), "max_iter": 1000}
    found = {
        "plain linear head": lambda: RebalancedClassifier("pc", ridge=ridge, prior="train"),
        **{name: lambda name=name: RebalancedClassifier(name, ridge=ridge) for name in ("pc", "tau_norm", "ncm", "lws", "crt", "balanced_softmax")},
        "balms, 2,000 steps": lambda: RebalancedClassifier("balms", steps=2000, ridge=ridge, options={"lr": BALMS_LR}),
    }
    if with_sklearn:
        found |= {
            "LogisticRegression": lambda: make_pipeline(StandardScaler(), LogisticRegression(**penalty)),
            'LogisticRegression(class_weight="balanced")': lambda: make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", **penalty)),
        }
    return found


def measured(model: ClassifierMixin, data: dict[str, np.ndarray]) -> tuple[dict[str, float], float]:
    """Mean recall of all classes and of each shot group, NaN of an empty one, and the seconds of the fit."""
    start = time.perf_counter()
    model.fit(data["train"], data["train_labels"])
    seconds = time.perf_counter() - start
    counts = np.bincount(data["train_labels"])
    recall = per_class(data["test_labels"], model.predict(data["test"]), len(counts))["recall"]
    groups = {"balanced": np.ones(len(counts), dtype=bool), **shot_groups(counts)}
    return {name: float(recall[mask].mean()) if mask.any() else float("nan") for name, mask in groups.items()}, seconds


def line(name: str, recalls: dict[str, float], seconds: float) -> str:
    """A line of the table: accuracies in per cent, a dash where a group has no class."""
    cells = ["-" if np.isnan(value) else f"{100 * value:.1f}" for value in recalls.values()]
    return f"| {' | '.join([name, *cells, f'{seconds:.1f}'])} |"


if __name__ == "__main__":
    main()
