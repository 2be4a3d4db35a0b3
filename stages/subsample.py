"""Draws the long-tailed training part: artifacts/data holds positions and labels, never images.

python -m stages.subsample
"""

from lt.core import artifacts, params
from lt.core.command import arguments
from lt.core.subset import Subset, write_subset
from lt.data.dataset import open_dataset, parts
from lt.data.index import fingerprint
from lt.subsample import make
from stages.start import run


def main() -> None:
    arguments(__doc__, seed=False)
    settings = params.load()
    has_val = "val" in parts(settings.dataset, settings.options("datasets", settings.dataset))
    subset = make(
        settings.dataset,
        train=open_dataset(settings, "train", check="full"),
        test=open_dataset(settings, "test", check="none"),
        val=open_dataset(settings, "val", check="none") if has_val else None,
        kind=settings.subset.profile,
        imbalance=settings.imbalance,
        seed=settings.subset.seed,
        val_fraction=settings.subset.val_fraction,
        reserve=settings.subset.reserve,
        raw_sha256=fingerprint(settings.dataset),
    )
    with artifacts.writing(artifacts.stage_dir("data")) as folder:
        write_subset(folder, subset)
    print(summary(subset))


def summary(subset: Subset) -> str:
    """One line: counts from head to tail, sizes, and the start of the sha256."""
    counts = [str(count) for count in sorted(subset.counts.tolist(), reverse=True)]
    shown = counts if len(counts) <= 10 else [*counts[:5], "...", *counts[-3:]]
    told = "to validate on" if subset.val_part == "val" else "kept out"
    return (
        f"{subset.dataset}: {len(counts)} classes of {' '.join(shown)} images, {len(subset.train_index)} to train on, "
        f"{len(subset.val_index)} {told}, {len(subset.test_labels)} to test on, sha256 {subset.sha256[:12]}"
    )


if __name__ == "__main__":
    run(main)
