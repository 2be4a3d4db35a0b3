"""What a data set, lt/datasets/<name>.py, may define besides open_split and raw_files. Options are all of its options, by name."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class HasParts(Protocol):
    """A data set that may have other parts than train and test."""

    def parts(self, **options) -> tuple[str, ...]:
        """train, test and, where it has one of its own, val: those that open_split takes. Called before anything is opened."""


@runtime_checkable
class Prepares(Protocol):
    """A data set with something to download, or to check more closely than at each opening."""

    def prepare(self, root: Path, **options) -> None:
        """Called by `python -m stages.index`, before its files are listed; again, where all is there, it changes nothing.

        root: folder of the raw data    raises ValueError where the download fails, or telling everything that is wrong
        """


@runtime_checkable
class ListsImages(Protocol):
    """A data set whose images are too many for a line each in data/<name>.json: it has a compact index of them, in blocks."""

    def list_images(self, root: Path, contents: bool, **options) -> list[dict[str, Any]]:
        """Entries of the index, JSON values as lt.core.schemas.ImageBlock has them, besides those of raw_files. Called by
        `python -m stages.index`, after prepare.

        contents: whether every image is read and hashed, instead of one in a thousand
        raises ValueError, listing images that are missing
        """

    def compare_images(self, root: Path, indexed: list[dict[str, Any]], full: bool, **options) -> list[str]:
        """How the images differ from such entries, one difference per line. Called where a stage opens the data, and only if the
        raw files are those of the index; full: as in lt.data.index.verify."""


@runtime_checkable
class Packs(Protocol):
    """Images of a Split, to be decoded once into one file under .packed in the data root where `packed` is True."""

    packed: bool
