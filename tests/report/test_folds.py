"""Several experiments, one fold each, as one table."""

import numpy as np
import pytest

from lt.core import params
from lt.core.context import made_of
from lt.core.params import Settings
from lt.core.subset import Subset, index_sha256
from lt.evaluate.comparison import compare, pack_correct
from lt.evaluate.headline import HEADLINE
from lt.report.folds import over_folds
from lt.report.table import TableError, markdown
from tests.conftest import ROOT


def details(row, fold, balanced, folds=3, **changes):
    metrics = dict.fromkeys(HEADLINE, 0.5) | {"balanced": balanced}
    context = {"dataset": "folder", "model": "timm", "loss": "ce", "subset": f"{fold}f", "fold": f"{fold} of {folds}", "seeds": "0"}
    return {
        "row": row, "context": context | changes, "classes": ["a", "b"], "train_counts": [5, 3], "test_counts": [2, 2], "val_size": 0,
        "mean": metrics, "sd": dict.fromkeys(metrics), "seeds": {"0": {"metrics": metrics}},
    }  # fmt: skip


def test_mean_and_sd_are_over_the_folds_and_the_table_says_so():
    values = {"base": (0.4, 0.5, 0.6), "pc": (0.7, 0.7, 0.7)}
    text = over_folds({row: [details(row, fold, value) for fold, value in enumerate(each)] for row, each in values.items()})
    assert "mean ± sd over 3 folds, seed 0" in text and "sd is over folds" in text and "Each image is tested once" in text
    cells = {line.split()[1]: [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")}
    place = cells["row"].index("balanced %")
    assert cells["base"][place] == "50.0 ± 10.0" and cells["pc"][place] == "70.0 ± 0.0"


@pytest.mark.parametrize(
    "folds, told",
    [
        ([0, 1], "got the folds 0 of 3, 1 of 3, expected each of 0 of 3, 1 of 3, 2 of 3 once"),
        ([0, 1, 1], "got the folds 0 of 3, 1 of 3, 1 of 3, expected each"),
    ],
)
def test_folds_that_are_missing_or_there_twice_are_refused(folds, told):
    with pytest.raises(TableError, match=told):
        over_folds({"base": [details("base", fold, 0.5) for fold in folds]})


def test_experiments_of_other_settings_and_such_that_are_no_fold_are_refused():
    with pytest.raises(TableError, match="base, fold 1 of 3: loss focal, expected ce, as fold 0 of 3 has it"):
        over_folds({"base": [details("base", 0, 0.5), details("base", 1, 0.5, loss="focal"), details("base", 2, 0.5)]})
    whole = details("base", 0, 0.5)
    del whole["context"]["fold"]
    with pytest.raises(TableError, match="its test part is no fold; set datasets.folder.folds"):
        over_folds({"base": [whole, details("base", 1, 0.5)]})


def test_rows_of_two_folds_are_told_apart_and_not_paired():
    """Positions and labels may be the same in both, as may the hash of the index: the images are others."""
    labels, index = np.array([0, 0, 1]), np.arange(3)
    subset = Subset(
        dataset="folder", classes=("a", "b"), counts=np.array([2, 1]), drawn=np.array([2, 1]), profile="none", imbalance=2.0,
        train_index=index, train_labels=labels, val_index=index[:0], val_labels=index[:0], test_labels=labels, val_fraction=0.0,
        seed=0, sha256=index_sha256(index), raw_sha256="ab" * 32, image_size=8, mean=(0.5,) * 3, std=(0.25,) * 3,
    )  # fmt: skip
    content, found = params.read_yaml(ROOT / "params.yaml") | {"dataset": "folder"}, []
    for folds, fold in ((0, 0), (3, 0), (3, 1)):
        content["datasets"]["folder"] |= {"folds": folds, "fold": fold}
        found.append(made_of(Settings.model_validate(content), subset))
    assert [context.get("fold") for context in found] == [None, "0 of 3", "1 of 3"]
    same = {"subset": "x", "data": "y"}
    first, second = (details("base", fold, value, **same) for fold, value in ((0, 0.5), (1, 0.75)))
    for row, right in ((first, [1, 0, 1, 0]), (second, [1, 1, 1, 0])):
        row["seeds"]["0"]["correct"] = pack_correct(np.array(right, dtype=bool), np.array([0, 0, 1, 1]))
    assert not compare(first, second, "balanced").paired
    assert compare(first, first, "balanced").paired
    assert "Tested on fold 1 of 3" in markdown({"base": second | {"context": found[2] | second["context"]}}, found[2] | second["context"])
