"""Images of your own, named in text lists of lines "relative/path label", one list per part."""

from pathlib import Path

from lt.core.options import Count, Fraction
from lt.data.image_lists import ListSet
from lt.data.split import Split

LISTS = ListSet("listfile")
raw_files, prepare, parts = LISTS.raw_files, LISTS.prepare, LISTS.parts
list_images, compare_images = LISTS.list_images, LISTS.compare_images


def open_split(
    root: Path,
    split: str,
    *,
    images: str = "data/listfile",
    train_list: str = "data/listfile/train.txt",
    val_list: str | None = None,
    test_list: str = "data/listfile/test.txt",
    class_names: str | None = None,
    image_size: Count = 256,
    test_crop: Count | None = None,
    packed: bool = False,
    max_corrupt: Fraction = 0.001,
) -> Split:
    """Train, validation or test part of a set of lists; the train list's labels are 0 to C - 1, each with an image.

    root: data root; relative paths start at its parent, the project    split 'train', 'val' (where there is a val_list) or 'test'
    images: folder that the lists' paths are relative to    class_names: file with a name per line, in label order; None: numbers
    image_size: side in pixels of the centred squares    test_crop: side of the centre of them that is kept of validation and
    test images; None for all    packed: decode each image once, into one file under data/.packed
    max_corrupt: share of a part's images that may fail to decode; they are told, and grey squares stand for them
    raises ValueError where a list is missing or malformed, or labels leave a gap; see lt.data.image_lists.ListSet
    (source of the form of the lists: Liu et al. 2019, Large-Scale Long-Tailed Recognition in an Open World)
    """
    return LISTS.open_split(
        root, split, images=images, train_list=train_list, val_list=val_list, test_list=test_list, class_names=class_names,
        image_size=image_size, test_crop=test_crop, packed=packed, max_corrupt=max_corrupt,
    )
