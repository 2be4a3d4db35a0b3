"""The data set of one's own images: its layout, its test part, every kind of image, and files that are not as they should be."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lt.data.decode import decode
from lt.data.split import Split
from lt.datasets import folder

RED, WHITE = [255, 0, 0], [255, 255, 255]


def save(path: Path, image: Image.Image | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or Image.new("RGB", (8, 8), tuple(RED))).save(path, **options)
    return path


def fill(root: Path, counts: dict[str, int], part: str = "train") -> Path:
    """A folder data set; every image has its own grey value."""
    for name, count in counts.items():
        for i in range(count):
            save(root / "data/folder" / part / name / f"{i:03d}.png", Image.new("L", (4, 4), 10 * i))
    return root / "data"


# layout


def test_folder_carves_a_test_part_out_of_each_class(tmp_path):
    root = fill(tmp_path, {"dog": 10, "ant": 2, "cat": 5})
    train, test = folder.open_split(root, "train", image_size=4), folder.open_split(root, "test", image_size=4)
    assert train.classes == test.classes == ("ant", "cat", "dog")
    assert np.bincount(train.labels).tolist() == [1, 4, 8] and np.bincount(test.labels).tolist() == [1, 1, 2]
    names = [f"train/dog/{i:03d}.png" for i in range(10)]
    taken = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:2]
    assert {file.relative_to(root / "folder").as_posix() for file in test.images.files[-2:]} == set(taken)
    assert not set(train.images.files) & set(test.images.files)
    again = folder.open_split(root, "test", image_size=4)
    assert again.images.files == test.images.files


def test_folder_never_carves_all_of_a_class(tmp_path):
    root = fill(tmp_path, {"a": 3, "b": 2})
    train = folder.open_split(root, "train", test_fraction=0.99)
    assert np.bincount(train.labels).tolist() == [1, 1]


def test_over_all_folds_each_image_is_tested_once_and_each_class_in_every_fold(tmp_path):
    counts = {"ant": 3, "bee": 4, "cat": 5, "dog": 13}
    root = fill(tmp_path, counts)
    tested, sizes = [], []
    for fold in range(3):
        train, test = (folder.open_split(root, part, image_size=4, folds=3, fold=fold) for part in ("train", "test"))
        assert not set(train.images.files) & set(test.images.files)
        assert len(train.images.files) + len(test.images.files) == sum(counts.values())
        each = np.bincount(test.labels)
        assert all(count // 3 <= got <= -(-count // 3) for got, count in zip(each, counts.values()))
        tested += test.images.files
        sizes.append(len(test.labels))
    assert len(tested) == len(set(tested)) == sum(counts.values())
    assert max(sizes) - min(sizes) <= 1, "what is left over of each class falls to different folds"


def test_folds_that_cannot_be_are_refused_with_all_that_is_wrong(tmp_path):
    root = fill(tmp_path, {"ant": 2, "bee": 3, "cat": 9})
    with pytest.raises(ValueError, match=r"fewer images than folds \(4\); lower folds, or add images.*\n.*ant: 2\n.*bee: 3"):
        folder.open_split(root, "train", folds=4)
    with pytest.raises(ValueError, match="fold: got 2, expected 0 to 1, the fold of 2 that is tested on"):
        folder.open_split(root, "train", folds=2, fold=2)
    with pytest.raises(ValueError, match="folds: got 1, expected 2 or more, or 0"):
        folder.prepare(root, path="data/folder", image_size=4, test_fraction=0.2, folds=1, fold=0, max_corrupt=0.0)
    fill(tmp_path, {"ant": 1, "bee": 1, "cat": 1}, part="test")
    with pytest.raises(ValueError, match="folds: got 2, and .*test is the test part; expected 0, or no such folder"):
        folder.open_split(root, "test", folds=2)


def test_folder_takes_a_test_folder_as_it_is(tmp_path):
    root = fill(tmp_path, {"a": 3, "b": 1})  # a class with one image is fine where nothing is carved
    fill(tmp_path, {"a": 2, "b": 1}, part="test")
    train, test = folder.open_split(root, "train"), folder.open_split(root, "test")
    assert np.bincount(train.labels).tolist() == [3, 1] and np.bincount(test.labels).tolist() == [2, 1]
    assert len(folder.raw_files(root, "data/folder")) == 7


def test_folder_path_may_be_absolute(tmp_path):
    fill(tmp_path, {"a": 2, "b": 2})
    train = folder.open_split(Path("data"), "train", path=str(tmp_path / "data/folder"))
    assert len(train.labels) == 2


def test_folder_leaves_out_hidden_files_and_other_kinds(tmp_path):
    root = fill(tmp_path, {"a": 2, "b": 2})
    for name in (".DS_Store", "a/.hidden.png", "a/labels.csv", "README.txt"):
        (root / "folder/train" / name).write_text("")
    save(root / "folder/train/b/LAST.JPG")
    assert sorted(folder.raw_files(root, "data/folder")) == [
        "train/a/000.png", "train/a/001.png", "train/b/000.png", "train/b/001.png", "train/b/LAST.JPG",
    ]


def break_layout(root: Path, how: str) -> None:
    train = root / "data/folder/train"
    if how == "no train":
        train.rename(root / "data/folder/training")
    elif how == "empty class":
        (train / "c").mkdir(), (train / "d").mkdir(), (train / "d/notes.txt").write_text("")
    elif how == "one class":
        for file in (train / "b").iterdir():
            file.unlink()
        (train / "b").rmdir()
    elif how == "no labels":
        save(train / "1.png"), save(train / "2.gif")
    elif how == "one image":
        fill(root, {"c": 1, "d": 1})
    elif how == "deep":
        save(train / "a/more/1.png")
    elif how == "heic":
        (train / "a/1.heic").write_bytes(b"heic")
    elif how == "test has more":
        fill(root, {"a": 1, "b": 1, "c": 1, "d": 1}, part="test")
    elif how == "train has more":
        fill(root, {"a": 1}, part="test")
    elif how == "linked file":
        (train / "a/passwd.png").symlink_to("/etc/passwd")
    elif how == "linked class":
        (train / "c").symlink_to("/etc")
    elif how == "linked part":
        train.rename(root / "elsewhere")
        train.symlink_to(root / "elsewhere")


@pytest.mark.parametrize(
    "how, message",
    [
        ("no train", r"train is no folder; expected .*/train/<class>/<image>"),
        ("empty class", r"2 class folders hold no image[^\n]*\n  .*/train/c\n  .*/train/d$"),
        ("one class", "got 1 class folder"),
        ("no labels", r"(?s)2 files or folders.*1\.png: an image without a label.*2\.gif: an image without a label"),
        ("one image", r"(?s)2 classes of .* have one image.*\n  c\n  d$"),
        ("deep", "more: a folder; images stand right in their class folder"),
        ("heic", r"1\.heic: convert it"),
        ("test has more", r"(?s)2 classes of .* are in test but not in train.*\n  c\n  d$"),
        ("train has more", r"(?s)1 classes of .* are in train but not in test.*\n  b$"),
        ("linked file", r"(?s)links lead out of .*passwd\.png"),
        ("linked class", r"(?s)links lead out of .*train/c"),
        ("linked part", r"(?s)links lead out of .*/train"),
    ],
)
def test_folder_refuses_a_wrong_layout(tmp_path, how, message):
    root = fill(tmp_path, {"a": 2, "b": 2})
    assert len(folder.open_split(root, "train").labels) == 2
    break_layout(tmp_path, how)
    with pytest.raises(ValueError, match=message):
        folder.open_split(root, "train")


def test_folder_follows_links_that_stay_inside(tmp_path):
    root = fill(tmp_path, {"a": 2, "b": 2})
    (root / "folder/train/a/z.png").symlink_to(root / "folder/train/b/001.png")
    assert "train/a/z.png" in folder.raw_files(root, "data/folder")


# decoding


def half_transparent(mode: str) -> Image.Image:
    """Left half opaque red (grey 255 in mode LA), right half fully transparent."""
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    image.paste((0, 0, 255, 0), (4, 0, 8, 8))
    if mode == "P":
        palette = Image.new("P", (8, 8), 0)
        palette.putpalette([*RED, 0, 0, 255])
        palette.paste(1, (4, 0, 8, 8))
        palette.info["transparency"] = 1
        return palette
    return image.convert(mode)


@pytest.mark.parametrize(
    "name, image, left, right",
    [
        ("grey.png", Image.new("L", (8, 8), 77), [77] * 3, [77] * 3),
        ("bilevel.bmp", Image.new("1", (8, 8), 1), WHITE, WHITE),
        ("grey16.png", Image.fromarray(np.full((8, 8), 0x4DFF, dtype=np.uint16)), [0x4D] * 3, [0x4D] * 3),
        ("palette.png", half_transparent("P"), RED, WHITE),
        ("rgba.png", half_transparent("RGBA"), RED, WHITE),
        ("rgba.webp", half_transparent("RGBA"), RED, WHITE),
        ("grey_alpha.png", half_transparent("LA"), [76] * 3, WHITE),
        ("cmyk.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), RED, RED),
        ("colour.bmp", Image.new("RGB", (8, 8), (1, 2, 3)), [1, 2, 3], [1, 2, 3]),
    ],
)
def test_every_kind_of_image_becomes_rgb(tmp_path, name, image, left, right):
    options = {"lossless": True} if name.endswith("webp") else {}
    pixels = decode(save(tmp_path / name, image, **options), 8)
    assert pixels.shape == (8, 8, 3) and pixels.dtype == np.uint8
    for found, expected in ((pixels[4, 1], left), (pixels[4, 6], right)):
        assert np.abs(found.astype(int) - expected).max() <= 2, (found, expected)


def test_exif_orientation_is_honoured(tmp_path):
    image = Image.new("RGB", (16, 16), "black")
    image.paste((255, 255, 255), (0, 0, 16, 8))  # stored with white above; orientation 6 turns it by 90 degrees to the right
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode(save(tmp_path / "turned.jpg", image, exif=exif, quality=95), 16)
    assert pixels[:, 12:].min() > 240 and pixels[:, :4].max() < 15


def test_long_side_is_cut_evenly_and_short_side_scaled(tmp_path):
    image = Image.new("RGB", (40, 16), "black")
    image.paste((255, 255, 255), (12, 0, 28, 16))
    wide = decode(save(tmp_path / "wide.png", image), 8)
    assert wide[:, 1:-1].min() == 255 and wide[:, [0, -1]].min() > 200  # the scaling's filter reaches a little beyond the cut
    assert np.array_equal(wide, wide[:, ::-1])
    tall = decode(save(tmp_path / "tall.png", image.transpose(Image.Transpose.ROTATE_90)), 8)
    assert np.array_equal(tall, wide.transpose(1, 0, 2))
    assert decode(save(tmp_path / "tiny.png", Image.new("RGB", (1, 3), (9, 9, 9))), 8).tolist() == [[[9, 9, 9]] * 8] * 8


def test_images_are_read_by_position(tmp_path):
    root = fill(tmp_path, {"a": 4, "b": 4})
    fill(tmp_path, {"a": 1, "b": 1}, part="test")
    train = folder.open_split(root, "train", image_size=4)
    assert isinstance(train, Split) and train.images.shape == (8, 4, 4, 3)
    pixels = train.read(np.array([7, 0, 2, 7]))
    assert pixels.dtype == np.uint8 and pixels[:, 0, 0, 0].tolist() == [30, 0, 20, 30]
    assert train.read(np.array([], dtype=np.int64)).shape == (0, 4, 4, 3)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp"])
def test_truncated_images_are_listed_together(tmp_path, ending):
    root = fill(tmp_path, {"a": 3, "b": 3})
    noise = Image.fromarray(np.random.RandomState(0).randint(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = save(root / f"folder/train/a/cut.{ending}", noise)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (root / "folder/train/b/empty.png").write_bytes(b"")
    (root / "folder/train/b/gone.png").symlink_to(root / "folder/train/b/nothing.png")
    options = {"path": "data/folder", "image_size": 8, "test_fraction": 0.2, "folds": 0, "fold": 0, "max_corrupt": 0.0}
    with pytest.raises(ValueError) as at_index:
        folder.prepare(root, **options)
    names = [f"cut.{ending}: ", "empty.png: ", "gone.png: "]
    assert "3 images cannot be decoded" in str(at_index.value) and all(name in str(at_index.value) for name in names)
    with pytest.raises(ValueError) as in_reading:
        for split in ("train", "test"):
            part = folder.open_split(root, split, **options)
            bad = [i for i, file in enumerate(part.images.files) if file.name.split(".")[0] in ("cut", "empty", "gone")]
            part.read(np.array(bad + [0]))
    assert f"{len(bad)} images cannot be decoded" in str(in_reading.value)


def test_of_many_bad_images_twenty_are_shown(tmp_path):
    root = fill(tmp_path, {"a": 2, "b": 2})
    for i in range(25):
        (root / f"folder/train/a/bad{i:02d}.png").write_bytes(b"no image")
    with pytest.raises(ValueError) as error:
        folder.prepare(root, path="data/folder", image_size=8, test_fraction=0.2, folds=0, fold=0, max_corrupt=0.0)
    assert "25 images" in str(error.value) and str(error.value).count(".png: ") == 20 and "... and 5 more" in str(error.value)


def test_all_findings_come_in_one_round(tmp_path):
    root = fill(tmp_path, {"a": 3, "b": 1})
    fill(tmp_path, {"a": 1, "b": 1, "d": 1}, part="test")
    break_layout(tmp_path, "empty class")  # c and d, whose folder in test has an image
    break_layout(tmp_path, "heic")
    break_layout(tmp_path, "linked file")
    for part in ("train", "test"):
        (root / f"folder/{part}/a/bad.png").write_bytes(b"no image")
    with pytest.raises(ValueError) as error:
        folder.prepare(root, path="data/folder", image_size=8, test_fraction=0.2, folds=0, fold=0, max_corrupt=0.0)
    told = str(error.value)
    for line in ("1.heic: convert it", "2 class folders hold no image", "in train but not in test", "passwd.png", "train/a/bad.png", "test/a/bad.png"):
        assert line in told, line


@pytest.mark.parametrize("ending", [ending for ending in folder.ENDINGS])
def test_every_ending_is_indexed_and_read(ending, tmp_path):
    if ending not in Image.registered_extensions():
        pytest.skip(f"this Pillow has no {ending}")
    root = fill(tmp_path, {"a": 2, "b": 2})
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".jp2": "JPEG2000"}.get(ending, ending[1:].upper())
    save(root / f"folder/train/a/9{ending}", Image.new("RGB", (8, 8), (200, 100, 50)), format=kind)
    options = {"path": "data/folder", "image_size": 4, "test_fraction": 0.2, "folds": 0, "fold": 0, "max_corrupt": 0.0}
    folder.prepare(root, **options)
    parts = [folder.open_split(root, split, **options) for split in ("train", "test")]
    (image,) = [part.read(np.array([i]))[0] for part in parts for i, file in enumerate(part.images.files) if file.name == f"9{ending}"]
    assert np.abs(image.astype(int) - [200, 100, 50]).max() <= 12


def test_some_images_may_be_corrupt_where_that_is_allowed(tmp_path, capsys):
    root = fill(tmp_path, {"a": 10, "b": 10})
    (root / "folder/train/a/bad.png").write_bytes(b"no image")
    options = {"path": "data/folder", "image_size": 4, "test_fraction": 0.2, "folds": 0, "fold": 0, "max_corrupt": 0.3}
    folder.prepare(root, **options)
    assert "images cannot be decoded (max_corrupt 0.3); grey squares stand for them" in capsys.readouterr().out
    parts = [folder.open_split(root, split, **options) for split in ("train", "test")]
    (image,) = [part.read(np.array([i]))[0] for part in parts for i, file in enumerate(part.images.files) if file.name == "bad.png"]
    assert (image == 128).all()
    with pytest.raises(ValueError, match="(?s)1 images cannot be decoded, more than max_corrupt 0.01.*bad.png"):
        folder.prepare(root, **options | {"max_corrupt": 0.01})
