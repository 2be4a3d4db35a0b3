"""Artifacts: whole or not there, told when they cannot be written or are not what they should be."""

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from lt.core import artifacts
from lt.core.artifacts import ArtifactError

BIG = 100_000  # numbers, of which a full disk takes a part


@contextlib.contextmanager
def full_disk(at_bytes: int = 1000):
    """No file may grow beyond `at_bytes`: writes fail half-way, as on a full disk."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


WRITERS = {
    "an array": lambda folder: artifacts.write_array(folder / "a.npy", np.zeros(BIG)),
    "an array to fill": lambda folder: artifacts.new_array(folder / "a.npy", (BIG,), np.dtype("float32")),
    "weights": lambda folder: artifacts.write_weights(folder / "w.safetensors", nn.Linear(BIG, 1)),
    "a log": lambda folder: artifacts.write_log(folder / "log.csv", [{"epoch": epoch} for epoch in range(BIG // 10)]),
    "text": lambda folder: artifacts.write_text(folder / "a.txt", "x" * BIG),
    "JSON": lambda folder: artifacts.write_json(folder / "a.json", {"a": [0] * BIG}),
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_told_and_leaves_neither_a_half_artifact_nor_the_old_one_damaged(what, tmp_path):
    with artifacts.writing(tmp_path / "0") as folder:
        artifacts.write_text(folder / "old.txt", "old")
    with full_disk(), pytest.raises(ArtifactError, match="could not write .*; free some space, then run the stage again"):
        with artifacts.writing(tmp_path / "0") as folder:
            WRITERS[what](folder)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["0", "manifest.json", "old.txt"]
    assert artifacts.manifest.check(tmp_path / "0" / "old.txt") is None
    with artifacts.writing(tmp_path / "0") as folder:
        WRITERS[what](folder)
    assert "old.txt" not in [path.name for path in tmp_path.rglob("*")]


def test_another_error_of_the_system_is_told_as_it_is(tmp_path):
    with pytest.raises(ArtifactError, match="could not write .*Permission denied.*image.png") as error:
        with artifacts.writing(tmp_path / "0"):
            raise PermissionError(errno.EACCES, "Permission denied", "image.png")
    assert "free some space" not in str(error.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_an_error_or_an_interrupt_leaves_nothing(error, tmp_path):
    with pytest.raises(error), artifacts.writing(tmp_path / "0") as folder:
        artifacts.write_text(folder / "half.txt", "half")
        raise error
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_removed(tmp_path):
    (tmp_path / ".0.abc.part").mkdir()
    (tmp_path / ".0.old.part").mkdir()
    (tmp_path / ".10.abc.part").mkdir()
    with artifacts.writing(tmp_path / "0"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".10.abc.part", "0"]


@pytest.mark.parametrize("limit, is_file", [(24, False), (23, True)])
def test_blocks_of_rows_are_joined_in_memory_or_in_a_file(limit, is_file, monkeypatch):
    monkeypatch.setattr(artifacts, "IN_MEMORY_BYTES", limit)
    whole = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = artifacts.joined((whole[start : start + 2] for start in (0, 2)), 3)
    assert isinstance(found, np.memmap) == is_file and found.dtype == np.float32
    np.testing.assert_array_equal(found, whole)


def test_a_name_with_brackets_is_no_pattern(tmp_path):
    (tmp_path / ".1.csv.other.part").mkdir()
    (tmp_path / ".[1].csv.killed.part").mkdir()
    with artifacts.writing_together(tmp_path, "[1].csv") as folder:
        (folder / "[1].csv").write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".1.csv.other.part", "[1].csv"]


def test_a_temporary_array_takes_its_room_at_once():
    array = artifacts.temporary_array((2, 3), np.float32)
    array[1] = 5
    assert array.tolist() == [[0, 0, 0], [5, 5, 5]]
    with full_disk(), pytest.raises(ArtifactError, match="no room for 1 MiB in .*free some space.*TMPDIR"):
        artifacts.temporary_array((BIG, 2), np.float32)


def test_a_full_disk_keeps_an_old_small_file(tmp_path):
    artifacts.write_text(tmp_path / "a.json", "old")
    with full_disk(), pytest.raises(ArtifactError, match="free some space.*the old file, if any, is kept"):
        artifacts.write_text(tmp_path / "a.json", "new" * BIG)
    assert (tmp_path / "a.json").read_text() == "old"
    assert len(os.listdir(tmp_path)) == 1


def test_files_are_read_as_they_were_written(tmp_path):
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    artifacts.write_array(tmp_path / "a.npy", array.T)
    assert (artifacts.read_array(tmp_path / "a.npy", (3, None), "int64") == array.T).all()
    filled = artifacts.new_array(tmp_path / "b.npy", (2, 3), np.dtype("float16"))
    filled[:] = array
    filled.flush()
    assert (artifacts.read_array(tmp_path / "b.npy", (2, 3), "float", mmap=True) == array).all()
    rows = [{"epoch": 1, "loss": 0.125}, {"epoch": 2, "loss": 1 / 3}]
    artifacts.write_log(tmp_path / "log.csv", rows)
    assert (tmp_path / "log.csv").read_text() == "epoch,loss\n1,0.125\n2,0.333333333\n"
    assert artifacts.read_log(tmp_path / "log.csv") == [{"epoch": 1.0, "loss": 0.125}, {"epoch": 2.0, "loss": 0.333333333}]
    source, copy = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    source(torch.randn(4, 3))
    artifacts.write_weights(tmp_path / "w.safetensors", source)
    artifacts.read_weights(tmp_path / "w.safetensors", copy)
    assert all(torch.equal(a, b) for a, b in zip(source.state_dict().values(), copy.state_dict().values()))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def numbers(path):
    np.save(path, np.zeros(3))


def wide(path):
    artifacts.write_weights(path, nn.Linear(3, 1))


def double(path):
    artifacts.write_weights(path, nn.Linear(2, 1).to(torch.float64))


def infinite(path):
    from safetensors.torch import save_file

    save_file({"weight": torch.full((1, 2), float("inf")), "bias": torch.zeros(1)}, path)


def brace(path):
    path.write_text("{")


READERS = {
    "a.npy is missing; run the stage that writes it": (None, lambda path: artifacts.read_array(path)),
    r"got shape \(3,\), expected \(4,\)": (numbers, lambda path: artifacts.read_array(path, (4,))),
    "got dtype float64, expected int64": (numbers, lambda path: artifacts.read_array(path, None, "int64")),
    "not a whole .npy file .*; delete it and make it again": (lambda path: (numbers(path), cut(path)), lambda path: artifacts.read_array(path)),
    "not a whole .npy file.*pickle": (
        lambda path: np.save(path, np.array([{}]), allow_pickle=True), lambda path: artifacts.read_array(path)
    ),
    "not valid JSON": (brace, lambda path: artifacts.read_json(path)),
    "does not fit Linear": (brace, lambda path: artifacts.read_weights(path, nn.Linear(2, 1))),
    "bias is torch.float64, expected torch.float32": (double, lambda path: artifacts.read_weights(path, nn.Linear(2, 1))),
    "weight holds NaN or infinity": (infinite, lambda path: artifacts.read_weights(path, nn.Linear(2, 1))),
    "size mismatch": (wide, lambda path: artifacts.read_weights(path, nn.Linear(2, 1))),
}


@pytest.mark.parametrize("told", READERS)
def test_a_missing_damaged_or_other_file_is_told(told, tmp_path):
    path = tmp_path / "a.npy"
    prepare, read = READERS[told]
    if prepare:
        prepare(path)
    with pytest.raises(ArtifactError, match=told):
        read(path)


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError):
        artifacts.write_json(tmp_path / "a.json", {"a": float("nan")})


def test_rows_have_their_folders():
    found = [str(artifacts.row_dir(row, 3)) for row in ("base", "crt", "xerm_pc")]
    assert found == ["artifacts/base/3", "artifacts/retrain/crt/3", "artifacts/distill/pc/3"]


# Writes over an old output; before each operation on files in turn the process is killed, or the operation fails.
STORM = """
import errno, json, os, signal, sys
from pathlib import Path
from lt.core import artifacts, files

here, together, exchange = Path(sys.argv[1]), sys.argv[2] == "together", sys.argv[3] == "exchange"
os.chdir(here)
OPERATIONS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.scandir", "os.listdir", "ctypes.dlsym"}
point, fault, seen, armed = 0, None, 0, False

def hook(event, details):
    global seen
    if armed and event in OPERATIONS:
        seen += 1
        if seen == point:
            if fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(getattr(errno, fault), os.strerror(getattr(errno, fault)))

sys.addaudithook(hook)
if not exchange:
    files.swap = lambda new, old: False

def write(text):
    place = artifacts.writing_together(Path("out"), "x") if together else artifacts.writing(Path("out"))
    with place as folder:
        for name in ("a.txt", "deep/b.txt"):
            artifacts.write_text(folder / name, text * 100)

def state():
    paths = [Path("out", name) for name in ("a.txt", "deep/b.txt")]
    return [path.read_text()[:3] if path.is_file() else None for path in paths]

def debris():
    return sorted(str(path) for path in Path(".").rglob("*.part"))

write("old")
found = []
for fault in ("kill", "ENOSPC", "EIO"):
    for point in range(1, 1000):
        child = os.fork()
        if not child:
            seen, armed, told = 0, True, 3
            try:
                write("new")
                told = 0
            except artifacts.ArtifactError:
                told = 1
            except BaseException as error:
                print(repr(error), file=sys.stderr)
            if seen < point:
                told = 2
            os._exit(told)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        after = state()
        try:
            with artifacts.writing(Path("out")):
                raise KeyError
        except KeyError:
            restored = state()
        write("old")
        found.append([fault, point, code, after, restored, state(), debris()])
        if code == 2:
            break
json.dump(found, sys.stdout)
"""


@pytest.mark.parametrize("place, swap", [("folder", "exchange"), ("folder", "aside"), ("together", "exchange")])
def test_a_fault_at_any_operation_leaves_the_old_output_or_the_new_one_and_the_next_writer_succeeds(place, swap, tmp_path):
    command = [sys.executable, "-c", STORM, str(tmp_path), place, swap]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    found = json.loads(done.stdout)
    old, new, none = ["old"] * 2, ["new"] * 2, [None] * 2
    assert len(found) > 30 and not done.stderr
    for fault, point, code, after, restored, written, debris in found:
        where = f"{fault} at operation {point}: {after}, {restored}"
        assert code == 2 or code == -signal.SIGKILL if fault == "kill" else code in (0, 1, 2), where
        if place == "folder":
            assert after in (old, new) or (swap == "aside" and fault == "kill" and after == none), where
            assert restored in (old, new), where
            assert code != 1 or after == old, where
        else:
            assert set(after) <= {"old", "new"}, where
        assert written == old and not debris, where
    assert {code for _, _, code, *_ in found} == {-signal.SIGKILL, 0, 1, 2}
