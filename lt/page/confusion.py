"""The section on confusions: which classes are taken for which, by base and by the reported row, with test images."""

import base64
from dataclasses import dataclass
from html import escape
from io import BytesIO
from itertools import zip_longest

import numpy as np
from PIL import Image
from scipy.sparse import coo_array, csr_array

from lt.core import artifacts
from lt.data.dataset import open_dataset
from lt.data.split import Split
from lt.evaluate.metrics import check_logits, predict
from lt.page.parts import absent, figure, grid, percent
from lt.page.plot import Axis, Mark, dot_list
from lt.page.sources import Sources

PAIRS = 4  # of each row
EXAMPLES = 5  # images of a pair
LARGEST_IMAGE = 96  # pixels
CLASSES = 10  # of the matrices


@dataclass(frozen=True)
class Judged:
    """What a row says of the test images.

    predicted (N,): by its first seed    shares (C, C), those that are not 0: of the test images of a class (row), those
    predicted as each class, mean over seeds
    """

    predicted: np.ndarray
    shares: csr_array


def section(sources: Sources) -> str:
    """The pairs that the reported row and base confuse most, with images; and the matrices of the classes in them."""
    names = [row for row in ("base", sources.reported) if row in sources.rows]
    judged = {row: found for row in names if (found := read_judged(sources, row))}
    if not judged:
        return absent("The test logits are not on this machine.", "dvc repro")
    test, problem = _open_test(sources)
    chosen: dict[str, list[tuple[int, int]]] = {}
    for row in reversed(judged):
        taken = [pair for pairs in chosen.values() for pair in pairs]
        chosen[row] = [pair for pair in worst_pairs(judged[row].shares) if pair not in taken][:PAIRS]
    most = max((judged[row].shares[pair] for row in judged for pairs in chosen.values() for pair in pairs), default=1)
    parts = []
    for row, pairs in chosen.items():
        if pairs:
            cards = "".join(_card(sources, pair, row, judged, test, most) for pair in pairs)
            again = ", beside those above" if parts else ""
            parts.append(f'<h3>What {escape(row)} confuses most{again}</h3><div class="panels cards">{cards}</div>')
    if problem:
        parts.append(f'<p class="absent">No example images: {escape(problem)}</p>')
    shown = matrix_classes(sources.subset.counts, list(chosen.values()))
    return "".join(parts) + _matrices(sources, judged, shown)


def read_judged(sources: Sources, row: str) -> Judged | None:
    """Predictions of a row's seeds, from its test logits; None where no seed has any."""
    paths = [paths[0] for paths in sources.row_files(row, "test_logits.npy").values()]
    if sources.subset is None or not paths:
        return None
    labels, classes = sources.subset.test_labels, sources.subset.classes
    first, cells = None, csr_array((len(classes), len(classes)), dtype=np.int64)
    for path in paths:
        logits = artifacts.read_array(path, dtype="float", mmap=True)
        check_logits(logits, labels, len(classes), str(path))
        predicted = predict(logits)
        first = predicted if first is None else first
        cells += coo_array((np.ones(len(labels), dtype=np.int64), (labels, predicted)), cells.shape).tocsr()
    tested = np.bincount(labels, minlength=len(classes))
    shares = csr_array((cells.data / (len(paths) * tested).repeat(np.diff(cells.indptr)), cells.indices, cells.indptr), cells.shape)
    shares.sort_indices()
    return Judged(first, shares)


def wrong_pairs(shares: csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrays true, predicted and share of what is taken for something else, the largest share first; ties by class number."""
    cells = shares.tocoo()
    wrong = cells.row != cells.col
    order = np.argsort(-cells.data[wrong], kind="stable")
    return cells.row[wrong][order], cells.col[wrong][order], cells.data[wrong][order]


def worst_pairs(shares: csr_array) -> list[tuple[int, int]]:
    """(true, predicted) of the largest wrong shares, as many as two rows show."""
    true, predicted, _ = wrong_pairs(shares)
    return list(zip(true[: 2 * PAIRS].tolist(), predicted[: 2 * PAIRS].tolist()))


def _open_test(sources: Sources) -> tuple[Split | None, str]:
    """The test images; None and why where they cannot be had, which is no reason to show nothing."""
    try:
        test = open_dataset(sources.settings, "test", check="none")
    except (ValueError, OSError, ImportError) as error:
        return None, str(error)
    if not np.array_equal(test.labels, sources.subset.test_labels):
        return None, "the test images are not those that the logits were made of; run dvc repro."
    return test, ""


def _card(
    sources: Sources, pair: tuple[int, int], row: str, judged: dict[str, Judged], test: Split | None, most: float
) -> str:
    """One pair: its share in each row, as bars of which `most` is the longest, and images that `row` gets wrong that way."""
    true, predicted = pair
    classes, counts = sources.subset.classes, sources.subset.counts
    shares = {name: found.shares[pair] for name, found in judged.items()}
    bars = [Mark(sources.css[name], name, share, f"{percent(share, 0)} %") for name, share in shares.items()]
    title = f"{classes[true]} taken for {classes[predicted]}"
    images = ""
    if test is not None:
        chosen = np.flatnonzero((test.labels == true) & (judged[row].predicted == predicted))[:EXAMPLES]
        alt = escape(f"a test image of {title}")
        images = "".join(f'<img alt="{alt}" src="{data_uri(image)}">' for image in test.read(chosen))
    chart = dot_list(bars, Axis(0, most, "", ()), f"{title}, by row", bars_from=0.0)
    tested = int((sources.subset.test_labels == true).sum())
    note = f"{counts[true]:,} and {counts[predicted]:,} training images; of {tested:,} test image{'' if tested == 1 else 's'}"
    return figure(title, f'{chart}<div class="images">{images}</div>', note, heading="h4")


def data_uri(image: np.ndarray) -> str:
    """An image as a PNG in a data URI: (H, W, 3) uint8; sides above 96 pixels are shrunk by a whole factor, by block means."""
    factor = -(-max(image.shape[:2]) // LARGEST_IMAGE)
    height, width = image.shape[0] // factor, image.shape[1] // factor
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    pixels = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    png = BytesIO()
    Image.fromarray(pixels).save(png, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"


def matrix_classes(counts: np.ndarray, lists: list[list[tuple[int, int]]]) -> list[int]:
    """Classes of the matrices, from head to tail: all where they are at most 10, else those of the first pairs of each list."""
    found = list(range(len(counts))) if len(counts) <= CLASSES else []
    for pairs in zip_longest(*lists):
        for pair in filter(None, pairs):
            more = [c for c in pair if c not in found]
            found += more if len(found) + len(more) <= CLASSES else []
    return sorted(found, key=lambda c: -counts[c])


def _matrices(sources: Sources, judged: dict[str, Judged], shown: list[int]) -> str:
    """Confusion matrices of some classes."""
    classes = sources.subset.classes
    head = "".join(f'<th scope="col"><span>{escape(classes[c])}</span></th>' for c in shown)
    figures = []
    for row, found in judged.items():
        body = ""
        for true in shown:
            cells = "".join(_cell(found.shares[true, c], "right" if c == true else "wrong") for c in shown)
            body += f'<tr><th scope="row">{escape(classes[true])}</th>{cells}</tr>'
        table = f'<table class="matrix"><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>'
        figures.append(figure(row, f'<div class="scroll">{table}</div>', heading="h4"))
    note = "Percent of the test images of each true class (line) by predicted class (column), from head to tail. Mean over seeds."
    return f"<h3>Confusion matrices</h3><p>{note}</p>{grid(figures, 'two')}"


def _cell(share: float, css: str) -> str:
    """A cell of a matrix; empty below half a percent."""
    return f'<td class="{css}" style="--share:{share:.3f}">{percent(share, 0) if share >= 0.005 else ""}</td>'
