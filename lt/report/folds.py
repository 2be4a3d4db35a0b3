"""One table of rows that were judged on each of several folds."""

from typing import Any

from lt.evaluate.row import over_seeds
from lt.report.table import TableError
from lt.report.words import headlines

# What differs between folds: the images, and so the imbalance of images that are taken as they are.
BY_FOLD = ("fold", "subset", "imbalance")


def over_folds(rows: dict[str, list[dict[str, Any]]]) -> str:
    """The table as Markdown: every metric is the mean over folds, each of them the mean over its seeds, with the sd over folds.

    rows: row -> content of its results/details/<row>.json, one per fold
    Raises TableError where they are not each of the folds once, of the same settings.
    """
    every = [details for folds in rows.values() for details in folds]
    first = every[0]
    for details in every:
        _check(details, first)
    for row, folds in rows.items():
        found = [details["context"]["fold"] for details in folds]
        number_of = int(found[0].split(" of ")[1])
        expected = [f"{fold} of {number_of}" for fold in range(number_of)]
        if sorted(found) != sorted(expected):
            raise TableError(f"{row}: got the folds {', '.join(found)}, expected each of {', '.join(expected)} once")
    means = {row: over_seeds([details["mean"] for details in folds]) for row, folds in rows.items()}
    table = headlines({row: {"mean": mean, "sd": sd} for row, (mean, sd) in means.items()})
    return f"{_preamble(first['context'], number_of)}\n\n{table}"


def _check(details: dict[str, Any], first: dict[str, Any]) -> None:
    """TableError where a row was not judged on a fold, or with other settings or classes than the first one."""
    context, expected = details["context"], first["context"]
    if "fold" not in context:
        raise TableError(f"{details['row']}: its test part is no fold; set datasets.folder.folds and datasets.folder.fold")
    keys = [key for key in {**expected, **context} if key not in BY_FOLD and context.get(key) != expected.get(key)]
    told = [f"{key} {context.get(key)}, expected {expected.get(key)}" for key in keys]
    told += ["other classes"] if details["classes"] != first["classes"] else []
    if told:
        raise TableError(f"{details['row']}, fold {context['fold']}: {'; '.join(told)}, as fold {expected['fold']} has it")


def _preamble(context: dict[str, Any], folds: int) -> str:
    seeds = context["seeds"].split()
    each = f", each the mean over seeds {context['seeds']}" if len(seeds) > 1 else f", seed {context['seeds']}"
    return (
        f"**{context['dataset']}**, model {context['model']}, loss {context['loss']}; mean ± sd over {folds} folds{each}.\n\n"
        "Each image is tested once. sd is over folds: how much they differ, in test images and training together. The mean may be less certain "
        f"than sd / √{folds} would have it, since the trainings share images (Bengio and Grandvalet 2004)."
    )
