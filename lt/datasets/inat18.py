"""iNaturalist 2018: 8142 species, 437,513 images, imbalanced as it is; its validation images, 3 per species, are tested on."""

from pathlib import Path

from lt.core.options import Count, Fraction
from lt.data.image_lists import Expected, ListSet
from lt.data.split import Split

LISTS = ListSet(
    "inat18", Expected({"train": 437_513, "test": 24_426}, classes=8142),
    mean=(0.466, 0.471, 0.380), std=(0.195, 0.194, 0.192),  # of its train part (Kang et al. 2020, Decoupling, released code)
)
raw_files, prepare, parts = LISTS.raw_files, LISTS.prepare, LISTS.parts
list_images, compare_images = LISTS.list_images, LISTS.compare_images


def open_split(
    root: Path,
    split: str,
    *,
    images: str = "data/inat18",
    train_list: str = "data/inat18/iNaturalist18_train.txt",
    val_list: str | None = None,
    test_list: str = "data/inat18/iNaturalist18_val.txt",
    class_names: str | None = None,
    image_size: Count = 256,
    test_crop: Count | None = 224,
    packed: bool = True,
    max_corrupt: Fraction = 0.001,
) -> Split:
    """Train or test part; refuses lists that hold other numbers than the published ones.

    The labels of the official test images are not public, so that the literature tests on the validation images.

    root: data root; relative paths start at its parent, the project    split 'train', 'val' (where there is a val_list) or 'test'
    images: folder that the lists' paths are relative to    class_names: file with a name per line, in label order; None: numbers
    image_size: side in pixels of the centred squares    test_crop: side of the centre of them that is kept of validation and
    test images; None for all    packed: decode each image once, into one file under data/.packed
    max_corrupt: share of a part's images that may fail to decode; they are told, and grey squares stand for them
    raises ValueError as lt.data.image_lists.ListSet.open_split does
    (source: Van Horn et al. 2018, The iNaturalist Species Classification and Detection Dataset)
    """
    return LISTS.open_split(
        root, split, images=images, train_list=train_list, val_list=val_list, test_list=test_list, class_names=class_names,
        image_size=image_size, test_crop=test_crop, packed=packed, max_corrupt=max_corrupt,
    )
