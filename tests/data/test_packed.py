"""Packed images: the same pixels as decoded ones, made once, taken up again after a kill, bound to their index."""

import json
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lt.core.artifacts import ArtifactError
from lt.data.decode import GREY, ImageFiles, decode
from lt.data.packed import PackedImages
from lt.data import dataset, index, packed
from tests.data.test_listfile import OPTIONS, made, root, settings  # noqa: F401  (fixtures)

COUNT = 24


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Images of mixed sizes, one of them broken."""
    random, found = np.random.default_rng(0), []
    for i in range(COUNT):
        found.append(tmp_path / f"{i:02d}.png")
        Image.fromarray(random.integers(0, 256, (6 + i % 5, 7, 3), dtype=np.uint8)).save(found[-1])
    found[5].write_bytes(found[5].read_bytes()[:40])
    return found


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(packed, "CHUNK", 4)
    monkeypatch.setenv("LT_WORKERS", "1")


def source_of(files: list[Path], max_corrupt: float = 0.1) -> ImageFiles:
    return ImageFiles(files, 8, max_corrupt, packed=True)


def test_packed_pixels_are_those_that_are_decoded(files, tmp_path, capsys):
    images = PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64)
    order = np.array([5, 0, 23, 0])
    pixels, decoded = images.read(order), source_of(files).read(order)
    assert pixels.dtype == np.uint8 and type(pixels) is np.ndarray and np.array_equal(pixels, decoded)
    assert (pixels[0] == GREY).all() and np.array_equal(pixels[1], decode(files[0], 8))
    told = capsys.readouterr().out
    assert told.count("1 of 24 images cannot be decoded (max_corrupt 0.1)") == 2 and f"{files[5]}: " in told
    assert {path.name for path in images.folder.iterdir()} == {"images.npy", "crc32.npy", "pack.json"}
    assert json.loads((images.folder / "pack.json").read_text())["corrupt"].keys() == {"5"}


def test_images_are_packed_once(files, tmp_path, monkeypatch, capsys):
    pixels = PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64).read(np.arange(COUNT))
    for file in files:
        file.unlink()
    monkeypatch.setattr(packed, "fill", None)
    again = PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64)
    capsys.readouterr()
    assert np.array_equal(again.read(np.arange(COUNT)), pixels)
    assert "1 of 24 images cannot be decoded" in capsys.readouterr().out  # told by every process that reads them


def test_another_index_size_or_decoder_is_another_pack(files, tmp_path, monkeypatch):
    folders = {PackedImages(source_of(files), tmp_path, "own-train", name * 64).folder for name in "ab"}
    folders.add(PackedImages(ImageFiles(files, 9, packed=True), tmp_path, "own-train", "a" * 64).folder)
    folders.add(PackedImages(source_of(files[:-1]), tmp_path, "own-train", "a" * 64).folder)
    folders.add(PackedImages(ImageFiles(files, 10, crop=8, packed=True), tmp_path, "own-train", "a" * 64).folder)
    monkeypatch.setattr(packed, "VERSION", 0)
    folders.add(PackedImages(source_of(files), tmp_path, "own-train", "a" * 64).folder)
    assert len(folders) == 6


def test_a_killed_packing_is_taken_up_again(files, tmp_path, monkeypatch):
    whole, fill, calls = source_of(files).read(np.arange(COUNT)), packed.fill, []

    def killed(path, start, *arguments):
        calls.append(start)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return fill(path, start, *arguments)

    monkeypatch.setattr(packed, "fill", killed)
    images = PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64)
    with pytest.raises(KeyboardInterrupt):
        images.read(np.array([0]))
    assert calls == [0, 4, 8, 12] and not images.folder.exists()
    progress = images.folder.with_name(f"{images.folder.name}.part") / "done.jsonl"
    assert progress.read_text().count("\n") == 3
    progress.write_text(progress.read_text()[:-9])  # the last line cut short: its images are decoded again
    assert np.array_equal(images.read(np.arange(COUNT)), whole)
    assert calls[4:] == [8, 12, 16, 20] and images.source.corrupt.found.keys() == {5}


def test_a_damaged_beginning_is_begun_anew(files, tmp_path):
    images = PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64)
    part = images.folder.with_name(f"{images.folder.name}.part")
    part.mkdir(parents=True)
    (part / "images.npy").write_bytes(b"half")
    assert np.array_equal(images.read(np.arange(COUNT)), source_of(files).read(np.arange(COUNT)))
    assert not part.exists()


def test_more_corrupt_files_than_may_be_stop_it(files, tmp_path):
    for file in files[10:12]:
        file.write_bytes(b"no image")
    images = PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64)
    with pytest.raises(ValueError, match=r"(?s)3 images cannot be decoded, more than max_corrupt 0.1.*05.png.*10.png.*11.png"):
        images.read(np.array([0]))
    assert not images.folder.exists()
    tolerant = PackedImages(source_of(files, 0.2), tmp_path / "packs", "own-train", "a" * 64)
    assert tolerant.folder == images.folder and (tolerant.read(np.array([10, 11])) == GREY).all()
    with pytest.raises(ValueError, match="3 images cannot be decoded"):  # a pack that was made with a larger share
        images.read(np.array([0]))


def test_a_file_that_is_corrupt_is_counted_once(files, capsys):
    source = source_of(files, max_corrupt=1 / COUNT)
    for _ in range(3):
        assert (source.read(np.array([5, 5, 0]))[:2] == GREY).all()
    assert capsys.readouterr().out.count("cannot be decoded") == 1
    with pytest.raises(ValueError, match="1 images cannot be decoded; replace"):
        source_of(files, max_corrupt=0.0).read(np.array([0, 5]))


def test_a_full_disk_is_told_before_anything_is_decoded(files, tmp_path, monkeypatch):
    monkeypatch.setattr(packed.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(ValueError, match="0.0 GiB free, expected .* for 24 images of 8 pixels; .*packed: false"):
        PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64).read(np.array([0]))


def test_a_pack_that_does_not_fit_is_refused(files, tmp_path):
    images = PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64)
    images.read(np.array([0]))
    facts = json.loads((images.folder / "pack.json").read_text())
    (images.folder / "pack.json").write_text(json.dumps(facts | {"index": "b" * 64}))
    with pytest.raises(ArtifactError, match="does not fit its folder's name"):
        PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64).read(np.array([0]))


@pytest.mark.parametrize("place", [-1, -3 * 8 * 8 * 20])
def test_a_flipped_bit_is_told_where_its_image_is_read(files, tmp_path, place, monkeypatch):
    PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64).read(np.array([0]))
    images = PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64)
    content = bytearray((images.folder / "images.npy").read_bytes())
    content[place] ^= 1
    (images.folder / "images.npy").write_bytes(content)
    position = 23 if place == -1 else 4
    images.read(np.setdiff1d(np.arange(COUNT), [position]))
    with pytest.raises(ArtifactError, match=f"image {position}, of .*{position:02d}.png, is not that in crc32.npy; delete .*packed again"):
        images.read(np.array([3, position]))
    monkeypatch.setenv("LT_VERIFY", "0")
    images.read(np.array([position]))


def test_a_pack_without_checksums_is_told(files, tmp_path):
    images = PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64)
    images.read(np.array([0]))
    (images.folder / "crc32.npy").unlink()
    with pytest.raises(ArtifactError, match="has no crc32.npy: an older version .* made it; delete the folder"):
        PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64).read(np.array([0]))


@pytest.mark.parametrize(
    "line", ["[]", "null", "{}", '{"start": 1, "corrupt": {}}', '{"start": 4000, "corrupt": {}}', '{"start": 4, "corrupt": {"99": "x"}}',
             '{"start": -4, "corrupt": {}}', '{"start": "4", "corrupt": {}}', "\xff"],
)  # fmt: skip
def test_progress_of_another_shape_is_decoded_again(files, tmp_path, monkeypatch, line):
    whole, fill = source_of(files).read(np.arange(COUNT)), packed.fill

    def killed(path, start, *arguments):
        if start == 8:
            raise KeyboardInterrupt
        return fill(path, start, *arguments)

    images = PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(packed, "fill", killed)
        images.read(np.array([0]))
    progress = images.folder.with_name(f"{images.folder.name}.part") / "done.jsonl"
    progress.write_bytes(progress.read_text().splitlines()[0].encode() + b"\n" + line.encode("latin-1") + b"\n")
    assert np.array_equal(images.read(np.arange(COUNT)), whole)


def test_corrupt_positions_beyond_the_pack_are_told(files, tmp_path):
    images = PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64)
    images.read(np.array([0]))
    facts = json.loads((images.folder / "pack.json").read_text())
    (images.folder / "pack.json").write_text(json.dumps(facts | {"corrupt": {"24": "x"}}))
    with pytest.raises(ArtifactError, match="positions beyond 24 images"):
        PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64).read(np.array([0]))


def test_several_processes_decode_what_one_does(files, tmp_path):
    one, two = (source_of(files) for _ in range(2))
    packed.pack(one, tmp_path / "packs/one", {}, workers=1)
    packed.pack(two, tmp_path / "packs/two", {}, workers=2)
    assert (tmp_path / "packs/one/images.npy").read_bytes() == (tmp_path / "packs/two/images.npy").read_bytes()
    assert one.corrupt.found == two.corrupt.found and one.corrupt.found.keys() == {5}


def _read_one(images: PackedImages) -> int:
    return int(images.read(np.array([23])).sum())


def test_a_reader_goes_to_other_processes_without_its_pixels(files, tmp_path):
    images = PackedImages(source_of(files), tmp_path / "packs", "own-train", "a" * 64)
    expected = _read_one(images)
    assert len(pickle.dumps(images)) < 10_000
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_read_one, [images, images]) == [expected, expected]


def test_a_data_set_opens_packed(root, monkeypatch):  # noqa: F811
    index.write(index.make("listfile", root, OPTIONS))
    content = settings().model_dump()
    content["datasets"]["listfile"]["packed"] = True
    plain, wanted = settings(), type(settings()).model_validate(content)
    packs = dataset.open_dataset(wanted, "train")
    assert not (root / ".packed").exists(), "opening alone reads no image"
    every = np.arange(21)
    assert np.array_equal(packs.read(every), dataset.open_dataset(plain, "train").read(every))
    assert [path.name.split("-")[:3] for path in (root / ".packed").iterdir() if path.is_dir()] == [["listfile", "train", "8px"]]
