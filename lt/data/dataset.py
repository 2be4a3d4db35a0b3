"""The one door to images: opens a part of the data set that params.yaml names."""

from dataclasses import replace
from typing import Any, Literal

from lt.core.params import Settings
from lt.core.plugins import module_of, with_defaults
from lt.data.contracts import HasParts, Packs
from lt.data.index import data_root, fingerprint, verify
from lt.data.split import Split


def open_dataset(settings: Settings, split: str, check: Literal["full", "quick", "none"] = "quick") -> Split:
    """Opens one part of the data set that params.yaml names, after comparing its raw files with their index.

    split: one of parts(...)    check: see verify; 'none' for the second part that a stage opens
    Images that the data set wants packed are packed at the first read, under .packed in the data root.
    raises RawDataError where there is no index or the files differ from it, ValueError where the data set refuses its files
    """
    name = settings.dataset
    options = with_defaults("datasets", name, settings.options("datasets", name))
    if check != "none":
        verify(name, data_root(), options, full=check == "full")
    part = module_of("datasets", name).open_split(data_root(), split, **options)
    if isinstance(part.images, Packs) and part.images.packed:
        from lt.data.packed import PackedImages

        images = PackedImages(part.images, data_root() / ".packed", f"{name}-{split}", fingerprint(name))
        return replace(part, images=images)
    return part


def parts(name: str, options: dict[str, Any]) -> tuple[str, ...]:
    """The parts of a data set: train, test and, where it has one of its own, val."""
    module = module_of("datasets", name)
    return module.parts(**with_defaults("datasets", name, options)) if isinstance(module, HasParts) else ("train", "test")
