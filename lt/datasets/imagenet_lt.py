"""ImageNet-LT: 1000 classes of 5 to 1280 images, 115,846 in all; a validation part of 20 and a test part of 50 per class."""

from pathlib import Path

from lt.core.options import Count, Fraction
from lt.data.image_lists import Expected, ListSet
from lt.data.split import Split

LISTS = ListSet(
    "imagenet_lt", Expected({"train": 115_846, "val": 20_000, "test": 50_000}, classes=1000, largest=1280, smallest=5)
)
raw_files, prepare, parts = LISTS.raw_files, LISTS.prepare, LISTS.parts
list_images, compare_images = LISTS.list_images, LISTS.compare_images


def open_split(
    root: Path,
    split: str,
    *,
    images: str = "data/imagenet_lt",
    train_list: str = "data/imagenet_lt/ImageNet_LT_train.txt",
    val_list: str | None = "data/imagenet_lt/ImageNet_LT_val.txt",
    test_list: str = "data/imagenet_lt/ImageNet_LT_test.txt",
    class_names: str | None = None,
    image_size: Count = 256,
    test_crop: Count | None = 224,
    packed: bool = True,
    max_corrupt: Fraction = 0.001,
) -> Split:
    """Train, validation or test part; refuses lists that hold other numbers than the published ones.

    root: data root; relative paths start at its parent, the project    split 'train', 'val' (where there is a val_list) or 'test'
    images: folder that the lists' paths are relative to    class_names: file with a name per line, in label order; None: numbers
    image_size: side in pixels of the centred squares    test_crop: side of the centre of them that is kept of validation and
    test images; None for all    packed: decode each image once, into one file under data/.packed
    max_corrupt: share of a part's images that may fail to decode; they are told, and grey squares stand for them
    raises ValueError as lt.data.image_lists.ListSet.open_split does
    (source: Liu et al. 2019, Large-Scale Long-Tailed Recognition in an Open World)
    """
    return LISTS.open_split(
        root, split, images=images, train_list=train_list, val_list=val_list, test_list=test_list, class_names=class_names,
        image_size=image_size, test_crop=test_crop, packed=packed, max_corrupt=max_corrupt,
    )
