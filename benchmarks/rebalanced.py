"""RebalancedClassifier beside what users of scikit-learn and imbalanced-learn have: the table of docs/sklearn.md, and the time of a fit.

python -m benchmarks.rebalanced          balanced accuracy on sets that scikit-learn makes (needs imbalanced-learn)
python -m benchmarks rebalanced          the time of a fit on 10,000 rows of 1280 columns, against LogisticRegression's
"""

from typing import Callable

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, recall_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.timing import Row, medians
from lt.core.command import command_line
from lt.sklearn import RebalancedClassifier

CLASSES, TAIL = 10, 3  # classes, and how many of the smallest are told apart
SHRINK = 0.6  # size of each class as a share of the one before it
TIME_BAR = 2.0


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="sets to make, default 5")
    seeds = range(parser.parse_args().seeds)
    found = [accuracies(made(4000, 16_000, 64, seed), classifiers()) for seed in seeds]
    print("| | balanced accuracy | mean recall of the three smallest classes |\n| --- | --- | --- |")
    for name in found[0]:
        balanced, tail = np.mean([by_name[name] for by_name in found], axis=0)
        print(f"| {name} | {100 * balanced:.1f} | {100 * tail:.1f} |")


def made(num_train: int, num_test: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training rows (N, D) and labels, test rows and labels: 10 classes that overlap, each 0.6 times as large as the one before."""
    weights = SHRINK ** np.arange(CLASSES)
    X, y = make_classification(
        num_train + num_test, n_features=width, n_informative=16, n_classes=CLASSES, n_clusters_per_class=1,
        weights=weights / weights.sum(), random_state=seed,
    )
    X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=num_train, stratify=y, random_state=seed)
    return X_train, y_train, X_test, y_test


def classifiers() -> dict[str, Callable[[], ClassifierMixin]]:
    """What is compared, by name."""
    from imblearn.ensemble import BalancedRandomForestClassifier
    from imblearn.over_sampling import SMOTE
    from imblearn.pipeline import make_pipeline as make_resampling_pipeline

    return {
        "LogisticRegression": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        'LogisticRegression(class_weight="balanced")': lambda: make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)),
        "imbalanced-learn: SMOTE and LogisticRegression": lambda: make_resampling_pipeline(
            StandardScaler(), SMOTE(k_neighbors=3, random_state=0), LogisticRegression(max_iter=1000)
        ),
        "imbalanced-learn: BalancedRandomForestClassifier": lambda: BalancedRandomForestClassifier(random_state=0),
        'RebalancedClassifier("balanced_softmax")': RebalancedClassifier,
        'RebalancedClassifier("crt")': lambda: RebalancedClassifier("crt"),
        'RebalancedClassifier("pc")': lambda: RebalancedClassifier("pc"),
        'RebalancedClassifier("balms", steps=2000)': lambda: RebalancedClassifier("balms", steps=2000),
    }


def accuracies(data: tuple, compared: dict[str, Callable[[], ClassifierMixin]]) -> dict[str, tuple[float, float]]:
    """Balanced accuracy, and the mean recall of the smallest classes, of each classifier."""
    X, y, X_test, y_test = data
    predicted = {name: make().fit(X, y).predict(X_test) for name, make in compared.items()}
    return {
        name: (balanced_accuracy_score(y_test, each), recall_score(y_test, each, labels=range(CLASSES - TAIL, CLASSES), average="macro"))
        for name, each in predicted.items()
    }


def rows(quick: bool) -> list[Row]:
    """The time of a fit; both minimise a strictly convex loss, on standardised columns, under the same penalty."""
    num_rows, width, repeats = (500, 64, 1) if quick else (10_000, 1280, 3)
    X, y, X_test, y_test = made(num_rows, num_rows, width, seed=0)
    X = X.astype(np.float32)
    ours = RebalancedClassifier()
    other = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", C=1 / (num_rows * ours.ridge), max_iter=1000))
    ours_s, other_s = medians(repeats, lambda: ours.fit(X, y), lambda: other.fit(X, y))
    found, beside = (balanced_accuracy_score(y_test, model.predict(X_test)) for model in (ours, other))
    size = f"{num_rows} x {width}, {CLASSES} classes"
    return [
        Row(f"RebalancedClassifier, fit on {size}, against LogisticRegression(class_weight='balanced')", ours_s, other_s, "s", ours_s / other_s,
            TIME_BAR, at_least=False),
        Row("its balanced accuracy on as many other rows", found, beside, "", found / beside, 1.0),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
