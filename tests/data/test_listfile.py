"""Data sets of text lists: what is read, what is refused, the presets, and the compact index of very many files."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import jpeg_tree
from lt.core import params
from lt.core.options import options_of
from lt.core.plugins import FUNCTIONS, path_of
from lt.data.image_lists import Expected, Files, ListSet, read_list
from lt.data.index import RawDataError
from lt.data import compact_index, dataset, image_lists, index
from lt.datasets import imagenet_lt, inat18, listfile, places_lt
from stages import index as stage
from stages import subsample
from tests.core.test_any_input import JSON, any_input
from tests.data.test_datasets import PROJECT

SIZES = jpeg_tree.Sizes(classes=3, train=21, imbalance=4, val_per_class=2, test_per_class=3)
OPTIONS = {"val_list": "data/listfile/val.txt", "image_size": 8}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A tree of 36 images, written once."""
    folder = tmp_path_factory.mktemp("tree")
    jpeg_tree.write(folder / "data/listfile", SIZES, corrupt=0)
    return folder


@pytest.fixture
def root(made, tmp_path, monkeypatch) -> Path:
    """The data root of a project of one's own, as the working directory, whose images are links to those of `made`."""
    folder = tmp_path / "data/listfile"
    for source in sorted((made / "data/listfile").rglob("*.*")):
        target = folder / source.relative_to(made / "data/listfile")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(source) if source.suffix == ".jpg" else target.write_bytes(source.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path / "data"


def all_options(**changes) -> dict:
    defaults = {name: default for name, (_, default) in options_of(path_of("datasets", "listfile"), "open_split").items()}
    return defaults | OPTIONS | changes


def settings(**changes) -> params.Settings:
    content = params.read_yaml(PROJECT / "params.yaml") | {"dataset": "listfile", "imbalance": 1.0}
    content["subset"] = {"profile": "none", "seed": 0, "val_fraction": 0.0} | changes
    content["datasets"]["listfile"] = all_options()
    return params.Settings.model_validate(content)


def edit(root: Path, part: str, lines: list[str]) -> None:
    (root / f"listfile/{part}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def lines_of(root: Path, part: str) -> list[str]:
    return (root / f"listfile/{part}.txt").read_text().splitlines()


# lists


@pytest.mark.parametrize("at_once", [2, image_lists.LINES_AT_ONCE])
def test_a_list_is_read_in_file_order(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(image_lists, "LINES_AT_ONCE", at_once)
    file = tmp_path / "list.txt"
    file.write_bytes("\ufeffa/b c.jpg 1\r\n\n./x//y.jpg\t0\nü.jpg 12\n".encode())
    found = read_list(file)
    assert list(found.paths) == ["a/b c.jpg", "x/y.jpg", "ü.jpg"] and found.labels.tolist() == [1, 0, 12]
    assert found.labels.dtype == np.int64 and Files(Path("root"), found.paths)[2] == Path("root/ü.jpg")


@pytest.mark.parametrize("line", ["a.jpg", "7", "a.jpg -1", "a.jpg 1.0", "a.jpg cat", "a.jpg 12345678901234567890", "a.jpg,3"])
def test_a_malformed_line_is_told_by_its_number(tmp_path, line):
    (tmp_path / "list.txt").write_text(f"a.jpg 0\n\n{line}\nb.jpg 1\n")
    with pytest.raises(ValueError, match=r"1 lines of .*list\.txt are not a relative path, a blank and a label") as error:
        read_list(tmp_path / "list.txt")
    assert f"line 3: {line!r}" in str(error.value)


def test_of_many_malformed_lines_ten_are_shown(tmp_path):
    (tmp_path / "list.txt").write_text("wrong\n" * 35)
    with pytest.raises(ValueError) as error:
        read_list(tmp_path / "list.txt")
    assert str(error.value).count("line ") == 10 and "35 lines" in str(error.value) and "and 25 more" in str(error.value)


@pytest.mark.parametrize(
    "content, told", [(None, "is missing"), (b"", "is empty"), (b"\n \n", "is empty"), (b"\xff\xfe 1\n", "not UTF-8")]
)
def test_what_is_no_list_is_told(tmp_path, content, told):
    if content is not None:
        (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(ValueError, match=told):
        read_list(tmp_path / "list.txt")


# parts


def test_parts_are_those_of_the_lists(root):
    train, val, test = (listfile.open_split(root, part, **all_options()) for part in ("train", "val", "test"))
    assert np.bincount(train.labels).tolist() == SIZES.counts().tolist() == [12, 6, 3]
    assert np.bincount(val.labels).tolist() == [2] * 3 and np.bincount(test.labels).tolist() == [3] * 3
    assert train.classes == test.classes == ("0", "1", "2") and train.images.shape == (21, 8, 8, 3)
    assert listfile.parts(**all_options()) == ("train", "val", "test")
    assert listfile.parts(**all_options(val_list=None)) == ("train", "test")
    with pytest.raises(ValueError, match="got split 'val', expected one of train, test"):
        listfile.open_split(root, "val", **all_options(val_list=None))


def test_images_are_read_by_position(root):
    from lt.data.decode import decode

    train = listfile.open_split(root, "train", **all_options())
    pixels = train.read(np.array([20, 0, 20]))
    assert pixels.dtype == np.uint8 and np.array_equal(pixels[0], pixels[2])
    for row, position in ((0, 20), (1, 0)):
        assert np.array_equal(pixels[row], decode(root / "listfile" / lines_of(root, "train")[position].split()[0], 8))


def test_of_validation_and_test_images_the_centre_is_kept(root):
    whole, cut = (listfile.open_split(root, "test", **all_options(test_crop=crop)) for crop in (None, 6))
    assert cut.images.shape == (9, 6, 6, 3) and np.array_equal(cut.read(np.arange(9)), whole.read(np.arange(9))[:, 1:7, 1:7])
    assert listfile.open_split(root, "train", **all_options(test_crop=6)).image_size == 8
    with pytest.raises(ValueError, match=r"datasets.listfile.test_crop: got 9, expected at most image_size \(8\)"):
        listfile.open_split(root, "test", **all_options(test_crop=9))


def test_lists_and_images_may_lie_anywhere(root, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (root / "listfile").rename(elsewhere)
    (tmp_path / "my.txt").write_text((elsewhere / "train.txt").read_text())
    options = all_options(images=str(elsewhere), train_list="my.txt", val_list=None, test_list=str(elsewhere / "test.txt"))
    assert len(listfile.open_split(root, "train", **options).labels) == 21
    assert set(listfile.raw_files(root, **options)) == {"train_list/my.txt", "test_list/test.txt"}


def test_class_names_come_from_a_file(root):
    (root / "names.txt").write_text("ant\nbee\ncat\n")
    assert listfile.open_split(root, "test", **all_options(class_names="data/names.txt")).classes == ("ant", "bee", "cat")
    (root / "names.txt").write_text("ant\nbee\nant\n")
    with pytest.raises(ValueError, match="got 3 names, 2 of them different, expected 3"):
        listfile.open_split(root, "test", **all_options(class_names="data/names.txt"))
    with pytest.raises(ValueError, match="other.txt is missing"):
        listfile.open_split(root, "test", **all_options(class_names="other.txt"))
    (root.parent / "other.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="other.txt is not UTF-8 text .*expected a class name per line"):
        listfile.open_split(root, "test", **all_options(class_names="other.txt"))


# what is refused before any training


def test_a_label_gap_is_told(root):
    edit(root, "train", [line.replace(" 1", " 5") for line in lines_of(root, "train")])
    with pytest.raises(ValueError, match="got 3 labels from 0 to 5; 3 numbers from 0 to 5 have no image, such as 1, 3, 4"):
        listfile.open_split(root, "train", **all_options())


def test_labels_from_one_and_huge_ones_are_gaps(root):
    edit(root, "train", ["train/000/00000.jpg 1", "train/000/00001.jpg 999999999"])
    with pytest.raises(ValueError, match="999999998 numbers from 0 to 999999999 have no image, such as 0, 2, 3, 4, 5"):
        listfile.open_split(root, "train", **all_options())


def test_a_test_label_without_training_images_is_told(root):
    edit(root, "test", [*lines_of(root, "test"), "test/009/1.jpg 9"])
    with pytest.raises(ValueError, match="(?s)1 labels of .*test.txt are above 2, the largest of the train list.*test/009/1.jpg"):
        listfile.open_split(root, "test", **all_options())


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside.jpg", "train/../../outside.jpg"])
def test_paths_that_leave_the_folder_are_refused(root, path):
    edit(root, "test", [*lines_of(root, "test"), f"{path} 0"])
    with pytest.raises(ValueError, match="(?s)1 paths leave the images' folder.*test.txt \\(test\\): "):
        index.make("listfile", root, OPTIONS)


def test_paths_in_two_lists_or_twice_in_one_are_refused(root):
    train = lines_of(root, "train")
    edit(root, "train", [*train, f"./{train[0]}"])
    edit(root, "test", [*lines_of(root, "test"), *train[:15]])
    with pytest.raises(ValueError) as error:
        index.make("listfile", root, OPTIONS)
    path, (in_train, in_test) = train[0].split()[0], (f"{root}/listfile/{part}.txt ({part})" for part in ("train", "test"))
    assert "16 paths stand twice" in str(error.value) and f"{path}: twice in {in_train}" in str(error.value)
    assert f"{path}: in {in_train} and in {in_test}" in str(error.value) and "... and 6 more" in str(error.value)


def test_the_same_list_for_two_parts_is_refused(root):
    with pytest.raises(ValueError, match=r"(?s)6 paths stand twice.*val.txt \(val\) and in .*val.txt \(test\)"):
        index.make("listfile", root, OPTIONS | {"test_list": "data/listfile/val.txt"})


def test_missing_images_are_listed_with_their_number(root):
    for file in sorted((root / "listfile/train/000").iterdir())[:12]:
        file.unlink()
    (root / "listfile/test/001/00000.jpg").unlink()
    with pytest.raises(ValueError) as error:
        index.make("listfile", root, OPTIONS)
    assert "13 images of listfile are not where the lists have them" in str(error.value)
    assert str(error.value).count("missing: train/000/") == 10 and "... and 3 more" in str(error.value)


def test_links_may_not_lead_out(root, tmp_path):
    outside = tmp_path / "outside"
    (root / "listfile/test/002").rename(outside)
    (root / "listfile/test/002").symlink_to(outside)
    single = root / "listfile/test/001/00000.jpg"
    single.unlink()
    single.symlink_to(outside / "00000.jpg")
    with pytest.raises(ValueError, match=r"(?s)4 images.*a link leads out of the folder: test/001/00000.jpg.*test/002/00002.jpg"):
        index.make("listfile", root, OPTIONS)
    single.unlink()
    single.symlink_to("00001.jpg")
    (root / "listfile/test/002").unlink()
    outside.rename(root / "listfile/test/002")
    index.make("listfile", root, OPTIONS)


def test_a_missing_folder_of_images_names_the_option(root):
    with pytest.raises(ValueError, match=r"nowhere is no folder; .*datasets\.listfile\.images"):
        index.make("listfile", root, OPTIONS | {"images": "nowhere"})


# presets


@pytest.mark.parametrize(
    "module, images, classes, largest, smallest",
    [
        (imagenet_lt, {"train": 115_846, "val": 20_000, "test": 50_000}, 1000, 1280, 5),
        (places_lt, {"train": 62_500, "val": 7_300, "test": 36_500}, 365, 4980, 5),
        (inat18, {"train": 437_513, "test": 24_426}, 8142, None, None),
    ],
)
def test_presets_know_the_published_numbers(module, images, classes, largest, smallest):
    assert module.LISTS.expected == Expected(images, classes, largest, smallest)
    name = module.LISTS.name
    defaults = {option: default for option, (_, default) in options_of(path_of("datasets", name), FUNCTIONS["datasets"]).items()}
    assert module.parts(**defaults) == tuple(images)
    assert (defaults["image_size"], defaults["test_crop"], defaults["packed"]) == (256, 224, True)
    assert defaults["images"] == f"data/{name}" and list(defaults) == list(all_options())


def test_the_lists_of_another_set_are_refused(root):
    got = "got 3 classes, the largest of 12 images, the smallest of 3"
    with pytest.raises(ValueError, match=f"{got}; expected 1000, 1280 and 5: these are not the lists of imagenet_lt"):
        index.make("imagenet_lt", root, all_options())


def test_a_part_of_another_size_is_refused(root):
    own = ListSet("own", Expected({"train": 21, "test": 10}, classes=3, largest=12))
    assert len(own.open_split(root, "train", **all_options()).labels) == 21
    with pytest.raises(ValueError, match="test.txt: got 9 images, expected the 10 of the test part of own"):
        own.open_split(root, "test", **all_options())


# the index


def test_a_block_tells_sizes_and_one_image(root, monkeypatch):
    monkeypatch.setattr(compact_index, "BLOCK", 8)
    found = index.make("listfile", root, OPTIONS)
    assert [file["path"] for file in found["files"]] == ["test_list/test.txt", "train_list/train.txt", "val_list/val.txt"]
    parts = [(entry["part"], entry["first"], entry["files"]) for entry in found["images"]]
    assert parts == [("train", 0, 8), ("train", 8, 8), ("train", 16, 5), ("val", 0, 6), ("test", 0, 8), ("test", 8, 1)]
    sizes = [(root / "listfile" / line.split()[0]).stat().st_size for line in lines_of(root, "train")]
    assert [entry["bytes"] for entry in found["images"][:3]] == [sum(sizes[:8]), sum(sizes[8:16]), sum(sizes[16:])]
    path = index.write(found)
    assert json.loads(path.read_text()) == found and path.read_text().count("\n") == 12
    index.verify("listfile", root, OPTIONS, full=True), index.verify("listfile", root, OPTIONS, full=False)


def replaced(file: Path, content: bytes) -> None:
    """Writes a file anew: what other names link to stays as it was."""
    file.unlink()
    file.write_bytes(content)


@pytest.mark.parametrize("full", [True, False])
def test_changes_are_told(root, full):
    index.write(index.make("listfile", root, OPTIONS))
    first, second = (root / "listfile" / line.split()[0] for line in lines_of(root, "train")[:2])
    content = second.read_bytes()
    replaced(second, content + b"0")
    if full:
        with pytest.raises(RawDataError, match="changed: the sizes of images 1 to 21 of the train list"):
            index.verify("listfile", root, OPTIONS, full=True)
    else:
        index.verify("listfile", root, OPTIONS, full=False)  # one image in a thousand is looked at
    replaced(second, content)
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    replaced(first, bytes(content) if full else b"short")
    with pytest.raises(RawDataError, match="changed: train/000/00000.jpg"):
        index.verify("listfile", root, OPTIONS, full=full)
    first.unlink()
    with pytest.raises(RawDataError, match="missing: train/000/00000.jpg"):
        index.verify("listfile", root, OPTIONS, full=full)


def test_two_images_of_one_size_that_have_changed_places_are_told_where_the_index_is_full(root):
    first, second = (root / "listfile" / line.split()[0] for line in lines_of(root, "train")[1:3])
    longest = max(file.stat().st_size for file in (first, second))
    contents = [file.read_bytes().ljust(longest, b"0") for file in (first, second)]
    replaced(first, contents[0]), replaced(second, contents[1])
    for full in (False, True):
        found = index.make("listfile", root, OPTIONS, full)
        assert index.depth(found).startswith("the contents of every file" if full else "the sizes of all images")
        index.write(found)
        index.verify("listfile", root, OPTIONS)
        replaced(first, contents[1]), replaced(second, contents[0])
        if full:
            with pytest.raises(RawDataError, match="changed: the contents of images 1 to 21 of the train list"):
                index.verify("listfile", root, OPTIONS)
        else:
            index.verify("listfile", root, OPTIONS)
        replaced(first, contents[0]), replaced(second, contents[1])


def test_the_command_says_what_its_index_has(root, monkeypatch, capsys):
    monkeypatch.setattr(stage.params, "load", lambda: settings())
    for arguments, told in (([], "it has the sizes of all images and the contents of one in a thousand"), (["--full"], "it has the contents of every file")):
        monkeypatch.setattr(sys, "argv", ["index", "listfile", *arguments])
        stage.main()
        assert told in capsys.readouterr().out


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize(
    "change, told",
    [
        (lambda blocks: None, "the index has 0 images"),
        (lambda blocks: [], "the index has 0 images"),
        (lambda blocks: blocks[1:], "the index has 0 images"),
        (lambda blocks: [blocks[0] | {"files": 20}, *blocks[1:]], "the index has 20 images, .* the list's 21"),
        (lambda blocks: [blocks[0] | {"first": 1}, *blocks[1:]], "in blocks that are not those of the list"),
        (lambda blocks: [*blocks, blocks[0] | {"part": "other"}], "extra: images of a part 'other', which has no list"),
    ],
)
def test_an_index_that_does_not_have_the_images_of_the_lists_is_told(root, change, told, full):
    found = index.make("listfile", root, OPTIONS)
    blocks = change(found.pop("images"))
    index.index_path("listfile").write_text(json.dumps(found | ({} if blocks is None else {"images": blocks})))
    with pytest.raises(RawDataError, match=told):
        index.verify("listfile", root, OPTIONS, full)


@any_input
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="replace")))
def test_any_bytes_as_a_list_give_a_list_or_an_error_in_words(tmp_path, content):
    (tmp_path / "any.txt").write_bytes(content)
    try:
        found = read_list(tmp_path / "any.txt")
        assert len(found.paths) == len(found.labels) > 0
    except ValueError as error:
        assert str(tmp_path / "any.txt") in str(error)


@any_input
@given(key=st.sampled_from(["dataset", "files", "images"]), value=JSON)
def test_any_json_as_an_index_gives_an_error_in_words(root, key, value):
    found = index.make("listfile", root, OPTIONS)
    index.index_path("listfile").write_text(json.dumps(found | {key: value}))
    with pytest.raises(ValueError, match="listfile"):
        index.verify("listfile", root, OPTIONS, full=False)


@any_input
@given(key=st.sampled_from(["part", "first", "files", "bytes", "sizes", "sample", "sample_bytes", "contents"]), value=JSON, full=st.booleans())
def test_any_value_in_a_block_of_an_index_is_an_error_in_words_or_not_looked_at(root, key, value, full):
    found = index.make("listfile", root, OPTIONS)
    found["images"][0][key] = value
    index.index_path("listfile").write_text(json.dumps(found))
    try:
        index.verify("listfile", root, OPTIONS, full)
    except ValueError as error:
        assert "listfile" in str(error)


def test_other_lists_are_told_before_other_images(root):
    index.write(index.make("listfile", root, OPTIONS))
    edit(root, "train", lines_of(root, "train")[:-1])
    with pytest.raises(RawDataError, match="1 differences from data/listfile.json:\n  changed: train_list/train.txt\n"):
        index.verify("listfile", root, OPTIONS, full=False)


def test_one_image_in_a_thousand_is_decoded_for_the_index(root):
    replaced(root / "listfile/train/000/00000.jpg", b"no image")
    with pytest.raises(ValueError, match="(?s)1 images cannot be decoded, more than max_corrupt 0.001.*00000.jpg"):
        index.make("listfile", root, OPTIONS)
    index.make("listfile", root, OPTIONS | {"max_corrupt": 0.1})


# stages


def test_the_stages_use_the_given_validation_part(root, monkeypatch, capsys):
    monkeypatch.setattr(params, "load", settings)
    monkeypatch.setattr(sys, "argv", ["index", "listfile"])
    stage.main()
    assert "val: 6 images of 8 x 8 (datasets.listfile.image_size), 3 classes of 2 to 2 images" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["subsample"])
    subsample.main()
    assert "21 to train on, 6 to validate on, 9 to test on" in capsys.readouterr().out
    from lt.core.subset import read_subset

    subset = read_subset()
    assert subset.val_part == "val" and subset.val_index.tolist() == list(range(6))
    assert subset.val_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert subset.counts.tolist() == [12, 6, 3] == subset.drawn.tolist()
    assert len(dataset.open_dataset(settings(), subset.val_part, check="none").read(subset.val_index)) == 6


def test_two_sources_of_validation_images_are_one_too_many(root, monkeypatch):
    index.write(index.make("listfile", root, OPTIONS))
    monkeypatch.setattr(params, "load", lambda: settings(val_fraction=0.2))
    monkeypatch.setattr(sys, "argv", ["subsample"])
    with pytest.raises(ValueError, match="subset.val_fraction: got 0.2, expected 0: listfile has a validation part of its own"):
        subsample.main()


# size


def test_a_hundred_thousand_lines_are_read_and_checked_at_once(tmp_path, monkeypatch):
    """Linear in time and memory: a check that compared every pair would not end."""
    count = 100_000
    for part in ("train", "test"):
        lines = "".join(f"{part}/{i % 8142:04d}/{i:08d}.jpg {i % 8142}\n" for i in range(count))
        (tmp_path / f"{part}.txt").write_text(lines)
    found = ListSet("many")
    lists = {f"{part}_list": str(tmp_path / f"{part}.txt") for part in ("train", "test")}
    options = all_options(images=str(tmp_path), val_list=None, **lists)
    found.prepare(tmp_path, **options)
    part = found.open_split(tmp_path, "test", **options)
    assert len(part.labels) == count and len(part.classes) == 8142 and part.images.shape == (count, 8, 8, 3)
    assert part.images.files.names.nbytes < 20 * count
