"""Features that were made elsewhere, of images, text, sound or tables: .npz, .parquet, or a folder of .npy files."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from lt.core.options import OpenFraction
from lt.data.split import Split

NEEDS = {
    "model": (["identity"], "which are features already"),
    "augment": (["none"], "which are no images"),
    "train.epochs": ([0], "whose network is not there"),
}

ARRAYS = ("features", "labels", "split", "classes")
SHOWN = 5


def open_split(root: Path, split: str, *, path: str = "data/embeddings.npz", test_fraction: OpenFraction = 0.2) -> Split:
    """Train or test part of embeddings (N, D).

    path: a .npz file with the arrays named below, a .parquet file with columns of these names (needs pyarrow), or a folder with
    features.npy, labels.npy and so on; absolute, or relative to the root's parent, the project
        features (N, D) numbers, kept as float32; in .parquet a column of lists
        labels (N,) whole numbers 0 to C - 1, or names, whose sorted order is then that of the classes
        split (N,) 'train' or 'test', optional; without it the test part is carved out of each class as in dataset folder:
            round(test_fraction * n) rows, at least one and at most n - 1, drawn by the rows' numbers alone
        classes (C,) names in label order, optional, not in .parquet

    raises ValueError where the file is missing, holds pickled objects, or does not fit the above: other shapes, NaN, gaps in labels
    """
    where = Path(root).parent / path
    arrays = _read(where)
    features = _features(where, arrays.get("features"))
    labels, classes = _labels(where, arrays, len(features))
    is_test = _is_test(where, arrays.get("split"), labels, len(classes), test_fraction)
    if missing := np.flatnonzero(np.bincount(labels[~is_test], minlength=len(classes)) == 0).tolist():
        names = ", ".join(f"{c} ({classes[c]})" for c in missing[:SHOWN])
        raise ValueError(
            f"{where}: labels: got no row to train on of {len(missing)} of {len(classes)} classes, {names}; labels must be without gaps"
        )
    if len(classes) < 2 or not is_test.any():
        raise ValueError(
            f"{where}: labels: got {len(classes)} classes in {len(labels)} rows, {is_test.sum()} of them to test on; expected at least "
            "two classes, and rows to test on: two of a class, or a split"
        )
    chosen = is_test if split == "test" else ~is_test
    return Split(features[chosen], labels[chosen], classes, mean=(0.0,), std=(1.0,))


def raw_files(root: Path, path: str, **_) -> dict[str, Path]:
    """The raw data: name in the index -> file on disk."""
    where = Path(root).parent / path
    if not where.is_dir():
        return {where.name: where}
    return {f"{name}.npy": where / f"{name}.npy" for name in ARRAYS if (where / f"{name}.npy").is_file()}


def prepare(root: Path, path: str, test_fraction: float) -> None:
    """ValueError as open_split."""
    open_split(root, "train", path=path, test_fraction=test_fraction)


def _read(where: Path) -> dict[str, np.ndarray]:
    """The arrays of a file or folder, by name; nothing is unpickled."""
    if not where.exists():
        raise ValueError(f"{where} is missing; expected a .npz or .parquet file, or a folder with features.npy and labels.npy")
    if not where.is_dir() and where.suffix not in (".npz", ".parquet"):
        raise ValueError(f"{where}: got a file of another kind than .npz and .parquet; put features.npy and labels.npy into a folder")
    if not where.is_dir() and not where.is_file():  # a pipe would be waited for
        raise ValueError(f"{where}: got no regular file, expected a .npz or .parquet file, or a folder")
    if where.suffix == ".parquet":
        return _read_parquet(where)
    try:
        if where.is_dir():
            names = [name for name in ARRAYS if (where / f"{name}.npy").is_file()]
            return {name: np.load(where / f"{name}.npy", allow_pickle=False) for name in names}
        with open(where, "rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ARRAYS if name in stored}
        if others := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"no array in {others[0]}")
        return arrays
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise ValueError(f"{where}: got {error}; expected a .npz of plain arrays, without objects, which would be unpickled") from None


def _read_parquet(where: Path) -> dict[str, np.ndarray]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ValueError(f"{where} needs pyarrow: pip install -e '.[parquet]'") from None
    try:
        table = parquet.read_table(where)
    except (ArrowException, OSError) as error:
        raise ValueError(f"{where} is not a parquet file ({error})") from None
    arrays = {name: table[name].to_numpy() for name in ARRAYS[:3] if name in table.column_names}
    for name in set(arrays) - {"features"}:
        arrays[name] = arrays[name].astype(str) if arrays[name].dtype == object else arrays[name]
    if "features" in arrays:
        rows = arrays["features"]
        widths = {len(row) if isinstance(row, np.ndarray) else 0 for row in rows}
        if len(widths) > 1 or widths == {0}:
            raise ValueError(f"{where}: features: got {len(rows)} rows of widths {sorted(widths)[:SHOWN]}, expected lists of one width")
        arrays["features"] = np.stack(rows) if len(rows) else np.zeros((0, 0))
    return arrays


def _features(where: Path, found: np.ndarray | None) -> np.ndarray:
    """Checked features (N, D) float32."""
    if found is None:
        raise ValueError(f"{where} holds no features; expected arrays features (N, D) and labels (N,)")
    if found.ndim != 2 or not found.size or found.dtype.kind not in "fiub":
        raise ValueError(f"{where}: features: got {found.dtype} {found.shape}, expected numbers (N, D), one row per example")
    with np.errstate(over="ignore"):
        features = found.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{where}: features: got NaN, or numbers that are infinite as float32, in {len(bad)} of {len(features)} rows, the first "
            f"of them {bad[:SHOWN].tolist()}; leave these rows out, or fill them in"
        )
    return features


def _labels(where: Path, arrays: dict[str, np.ndarray], num_rows: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels (N,) int64 and the classes' names in label order."""
    labels, classes = arrays.get("labels"), arrays.get("classes")
    if labels is None:
        raise ValueError(f"{where} holds no labels; expected labels (N,), one for each of the {num_rows} rows of features")
    if labels.shape != (num_rows,):
        raise ValueError(f"{where}: labels: got shape {labels.shape}, expected ({num_rows},), one per row of features")
    if classes is not None and (classes.ndim != 1 or len(set(map(str, classes.tolist()))) < len(classes) or "" in classes.astype(str)):
        raise ValueError(f"{where}: classes: got {str(classes.tolist())[:80]}, expected a name per class, none of them empty, none twice")
    if labels.dtype.kind == "U":
        names = np.unique(labels) if classes is None else classes.astype(str)
        position = {name: number for number, name in enumerate(names.tolist())}
        if unknown := sorted(set(labels.tolist()) - position.keys()):
            raise ValueError(f"{where}: labels: got {unknown[:SHOWN]}, which are not among the {len(names)} names in classes")
        return np.array([position[label] for label in labels.tolist()], dtype=np.int64), tuple(position)
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        least = f", least {labels.min()}" if labels.dtype.kind in "if" else ""
        raise ValueError(f"{where}: labels: got {labels.dtype}{least}, expected whole numbers from 0, or names")
    num_classes = int(labels.max()) + 1
    if classes is not None and len(classes) < num_classes:
        raise ValueError(f"{where}: classes: got {classes.shape}, expected at least {num_classes} names, as labels go to {num_classes - 1}")
    if num_classes > num_rows:
        raise ValueError(f"{where}: labels: got values up to {num_classes - 1} in {num_rows} rows, expected 0 to C - 1 without gaps")
    names = range(num_classes) if classes is None else classes.tolist()
    return labels.astype(np.int64), tuple(map(str, names))


def _is_test(where: Path, split: np.ndarray | None, labels: np.ndarray, num_classes: int, test_fraction: float) -> np.ndarray:
    """Which rows (N,) are tested on."""
    if split is None:
        is_test = np.zeros(len(labels), dtype=bool)
        rank = np.random.RandomState(0).permutation(len(labels))
        for c in range(num_classes):
            members = np.flatnonzero(labels == c)
            number = min(max(round(test_fraction * len(members)), 1), len(members) - 1)
            is_test[members[np.argsort(rank[members])][: max(number, 0)]] = True
        return is_test
    if split.shape != labels.shape or split.dtype.kind != "U" or not np.isin(split, ("train", "test")).all():
        values = np.unique(split)[:SHOWN].tolist() if split.dtype.kind == "U" else split.dtype
        raise ValueError(
            f"{where}: split: got {values} {split.shape}, expected 'train' or 'test' ({len(labels)},), one per row; a validation part "
            "is carved out of train by subset.val_fraction"
        )
    if (split == "train").all() or (split == "test").all():
        raise ValueError(f"{where}: split: got {str(split[0])!r} alone, expected both 'train' and 'test', or no split")
    return split == "test"
