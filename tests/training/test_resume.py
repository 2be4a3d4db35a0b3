"""Training states: whole or not there, of this training or not used; stages killed at any moment end in the same bytes."""

import hashlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from benchmarks import jpeg_tree
from benchmarks.stage import run_stage as run_here
from lt.training import checkpoint
from tests.conftest import ROOT, Project

# Small enough for a few seconds, long enough to be killed twenty times. One process imports torch, and is forked for each run.
SETTINGS = {
    "train.epochs": 5, "train.batch_size": 16, "train.warmup_epochs": 0, "features.views": 1,
    "distill.epochs": 2, "distill.warmup_epochs": 0,
}
FORKS = multiprocessing.get_context("forkserver")
STAGES = ("base", "distill", "features", "index", "retrain", "subsample")
FORKS.set_forkserver_preload(["torch", *(f"stages.{stage}" for stage in STAGES)])
CONTENT = {
    "model": {"weight": torch.arange(1000.0)}, "optimizer": {}, "epoch": 3, "step": 2, "log": [{"epoch": 1, "loss": 0.1 + 0.2}],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path / ".resume"


def test_a_state_is_read_as_it_was_saved_and_goes_when_cleared(folder):
    state = checkpoint.Checkpoint("base-0", {"lr": 0.1})
    assert state.read() is None
    assert state.save(CONTENT)
    found = checkpoint.Checkpoint("base-0", {"lr": 0.1}).read()
    assert torch.equal(found["model"].pop("weight"), torch.arange(1000.0))
    assert found == {**CONTENT, "model": {}}
    state.clear()
    state.clear()
    assert not list(folder.iterdir())


def test_the_fingerprint_tells_parts_threads_and_compilers_apart(monkeypatch):
    marks = {checkpoint.fingerprint({"lr": 0.1}), checkpoint.fingerprint({"lr": 0.2})}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    marks.add(checkpoint.fingerprint({"lr": 0.1}))
    monkeypatch.setattr(checkpoint, "can_compile", lambda: "no")
    marks.add(checkpoint.fingerprint({"lr": 0.1}))
    assert len(marks) == 4


DAMAGES = {
    "cut short": lambda content: content[:-1],
    "one bit": lambda content: content[:900] + bytes([content[900] ^ 1]) + content[901:],
    "empty": lambda content: b"",
    "other": lambda content: b"x",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state_is_told_and_not_used(damage, folder, capsys):
    state = checkpoint.Checkpoint("base-0", {})
    state.save(CONTENT)
    state.path.write_bytes(damage(state.path.read_bytes()))
    assert state.read() is None
    assert f"{state.path} is damaged; training starts from the beginning" in capsys.readouterr().out


@pytest.mark.parametrize("content", [[1], {"epoch": 3}, {**CONTENT, "epoch": "3"}], ids=["a list", "a key less", "another type"])
def test_a_state_of_another_shape_is_told_and_not_used(content, folder, capsys):
    state = checkpoint.Checkpoint("base-0", {})
    state.save(content)
    assert state.read({"epoch": int, "model": dict}) is None
    assert f"{state.path} is of another shape (" in capsys.readouterr().out


def test_a_pipe_in_place_of_a_state_is_told_and_not_waited_for(folder, capsys):
    state = checkpoint.Checkpoint("base-0", {})
    state.save(CONTENT)
    state.path.unlink()
    os.mkfifo(state.path)
    assert state.read() is None
    assert f"{state.path} cannot be read (it is no regular file); training starts from the beginning" in capsys.readouterr().out


def test_a_whole_file_that_torch_did_not_write_is_told(folder, capsys):
    state = checkpoint.Checkpoint("base-0", {})
    state.save(CONTENT)
    state.path.write_bytes(hashlib.sha256(b"x").digest() + b"x")
    assert state.read() is None and "is of another shape (" in capsys.readouterr().out


def test_a_state_that_cannot_be_removed_is_told(folder, capsys, monkeypatch):
    def denied(path, missing_ok):
        raise PermissionError(13, "Permission denied")

    state = checkpoint.Checkpoint("base-0", {})
    monkeypatch.setattr(Path, "unlink", denied)
    state.clear()
    assert f"could not remove {state.path} (Permission denied)" in capsys.readouterr().out


def test_a_full_disk_keeps_the_old_state_and_tells(folder, capsys, monkeypatch):
    state = checkpoint.Checkpoint("base-0", {})
    state.save(CONTENT)

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert not state.save({**CONTENT, "epoch": 4})
    assert "No space left on device); training goes on, the last saved state is kept" in capsys.readouterr().out
    assert state.read()["epoch"] == 3
    assert [*folder.iterdir()] == [state.path]


def test_a_state_that_cannot_be_written_at_all_is_told(folder, capsys):
    folder.write_text("a file where the folder should be")
    assert not checkpoint.Checkpoint("base-0", {}).save(CONTENT)
    assert "could not save the training state" in capsys.readouterr().out


def test_an_interrupt_while_saving_keeps_the_old_state(folder, monkeypatch):
    state = checkpoint.Checkpoint("base-0", {})
    state.save(CONTENT)

    def interrupted(number):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        state.save({**CONTENT, "epoch": 4})
    assert state.read()["epoch"] == 3
    assert [*folder.iterdir()] == [state.path]


def test_states_of_other_settings_are_bounded_and_those_of_other_trainings_stay(folder):
    for number, lr in enumerate((0.1, 0.2, 0.3, 0.4)):
        state = checkpoint.Checkpoint("base-1", {"lr": lr})
        state.save(CONTENT)
        os.utime(state.path, ns=(number, number))
    other = checkpoint.Checkpoint("base-10", {})
    other.save(CONTENT)
    (folder / f"{state.path.stem}.123.part").write_bytes(b"half")
    checkpoint.Checkpoint("base-1", {"lr": 0.4})
    kept = {folder / f"base-1-{checkpoint.fingerprint({'lr': lr})}.pt" for lr in (0.2, 0.3, 0.4)}
    assert {*folder.iterdir()} == {*kept, other.path}


def run_stage(
    folder: str, name: str, arguments: list[str], save_every_s: float, limit: tuple[int, int] | None, environment: dict[str, str]
) -> None:
    """A stage in a process of its own. limit: largest file in bytes, and what SIGXFSZ, at a larger one, does."""
    os.environ.update(environment)
    out = os.open(f"{folder}/out.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.pop("DVC_ROOT", None)
    os.chdir(folder)
    torch.set_num_threads(1)
    checkpoint.SAVE_EVERY_S = save_every_s
    checkpoint.__file__ = f"{folder}/lt/training/checkpoint.py"  # no code there: editing the project's in the meantime changes no fingerprint
    if limit:
        signal.signal(signal.SIGXFSZ, limit[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit[0], limit[0]))
    run_here(name, *arguments)


class Scratch:
    """A project folder without code, to run stages in and kill them."""

    def __init__(self, folder: Path):
        self.folder = folder

    def start(self, name, *arguments, save_every_s=-1.0, limit=None, environment={}):
        process = FORKS.Process(target=run_stage, args=(str(self.folder), name, [*arguments], save_every_s, limit, environment))
        process.start()
        return process

    def run(self, name, *arguments, code=0, **options) -> str:
        """Runs a stage to its end; returns what it printed."""
        process = self.start(name, *arguments, **options)
        process.join(120)
        printed = (self.folder / "out.txt").read_text()
        assert process.exitcode == code, printed
        return printed

    def states(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.glob(".resume/*")}

    def wait_for_saves(self, count: int, process) -> None:
        """Waits until a state was written `count` times, or the process has ended."""
        seen = set(self._marks())
        wanted = len(seen) + count
        while len(seen) < wanted and process.is_alive():
            seen |= self._marks()
            time.sleep(0.001)

    def _marks(self) -> set:
        marks = set()
        for path in self.folder.glob(".resume/*.pt"):
            status = path.stat()
            marks.add((status.st_ino, status.st_mtime_ns))
        return marks

    def kill(self, process) -> None:
        process.kill()
        process.join(20)
        assert process.exitcode == -signal.SIGKILL, (self.folder / "out.txt").read_text()

    def artifact(self, stage) -> dict[str, bytes]:
        """Files of a stage's output, and of half-written ones."""
        root = self.folder / "artifacts" / stage
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A project after stages that ran without a stop."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "data").mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copy(ROOT / "data/digits.json", folder / "data")
    Project(folder).set(SETTINGS)
    scratch = Scratch(folder)
    scratch.run("subsample")
    for stage in (["base"], ["features"], ["retrain", "pc"], ["distill", "pc"]):
        assert "continues" not in scratch.run(*stage, "--seed", "0", save_every_s=1e9)
    assert not scratch.states()
    return scratch


@pytest.fixture
def scratch(whole, tmp_path):
    """A project of which base and distill are still to run."""
    for name in ("artifacts", "data", "params.yaml"):
        source = whole.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    shutil.rmtree(tmp_path / "artifacts/distill")
    return Scratch(tmp_path)


@pytest.fixture
def base(scratch):
    """How to start the base stage, whose output is not there yet."""
    shutil.rmtree(scratch.folder / "artifacts/base")
    return "base", "--seed", "0"


@pytest.mark.slow
def test_a_base_training_killed_at_twenty_moments_ends_in_the_same_bytes(whole, scratch, base):
    moments = random.Random(0)
    for _ in range(20):
        process = scratch.start(*base)
        scratch.wait_for_saves(moments.randrange(4), process)
        time.sleep(moments.uniform(0, 0.03))
        scratch.kill(process)
        assert not scratch.artifact("base")
    assert "continues in epoch" in scratch.run(*base, save_every_s=1e9)
    assert scratch.artifact("base") == whole.artifact("base")
    assert not scratch.states()


@pytest.mark.slow
def test_streamed_images_give_the_same_bytes_also_after_kills(whole, scratch, base):
    streamed = {"LT_IN_MEMORY_MIB": "0"}
    for saves in (1, 4):
        process = scratch.start(*base, environment=streamed)
        scratch.wait_for_saves(saves, process)
        scratch.kill(process)
    told = scratch.run(*base, save_every_s=1e9, environment=streamed)
    assert "are streamed" in told and "continues in epoch" in told
    scratch.run("features", "--seed", "0", environment=streamed)
    for stage in ("base", "features"):
        assert scratch.artifact(stage) == whole.artifact(stage)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A project whose images are JPEG files in lists, one of them corrupt, with a base model trained from memory."""
    folder = tmp_path_factory.mktemp("photographs")
    sizes = jpeg_tree.Sizes(classes=3, train=60, imbalance=4, val_per_class=2, test_per_class=3)
    jpeg_tree.write(folder / "data/listfile", sizes, corrupt=1)
    shutil.copy(ROOT / "params.yaml", folder)
    Project(folder).set(SETTINGS | {
        "dataset": "listfile", "imbalance": 4.0, "augment": "resized_crop", "augments.resized_crop.size": 12,
        "datasets.listfile.image_size": 16, "datasets.listfile.packed": False, "datasets.listfile.max_corrupt": 0.05,
        "subset.profile": "none",
    })
    scratch = Scratch(folder)
    for stage in (["index", "listfile"], ["subsample"], ["base", "--seed", "0"]):
        assert "are streamed" not in scratch.run(*stage, save_every_s=1e9)
    return scratch


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_streamed_photographs_give_the_same_bytes_after_kills_within_an_epoch(photographs, tmp_path, packed):
    folder = tmp_path / "project"
    shutil.copytree(photographs.folder, folder)
    shutil.rmtree(folder / "artifacts/base")
    scratch, streamed, base = Scratch(folder), {"LT_IN_MEMORY_MIB": "0"}, ("base", "--seed", "0")
    Project(folder).set({"datasets.listfile.packed": packed})
    scratch.run("subsample")
    for saves in (2, 3):  # of three or four batches in an epoch
        process = scratch.start(*base, environment=streamed)
        scratch.wait_for_saves(saves, process)
        scratch.kill(process)
        assert not scratch.artifact("base") and scratch.states()
    told = scratch.run(*base, save_every_s=1e9, environment=streamed)
    assert "are streamed" in told and "continues in epoch" in told and "max_corrupt" in told
    assert scratch.artifact("base") == photographs.artifact("base")
    assert (folder / "data/.packed").is_dir() == packed


@pytest.mark.slow
def test_a_kill_inside_a_state_write_keeps_the_state_before_it(whole, scratch, base):
    process = scratch.start(*base)
    scratch.wait_for_saves(2, process)
    scratch.kill(process)
    before = scratch.states()
    size = len(next(iter(before.values())))
    scratch.run(*base, code=-signal.SIGXFSZ, limit=(size // 2, signal.SIG_DFL))
    after = scratch.states()
    (half,) = (content for name, content in after.items() if name.endswith(".part"))
    assert len(half) == size // 2
    assert {name: content for name, content in after.items() if name.endswith(".pt")} == before
    assert "continues in epoch 1" in scratch.run(*base, save_every_s=1e9)
    assert scratch.artifact("base") == whole.artifact("base")
    assert not scratch.states()


@pytest.mark.slow
def test_a_full_disk_is_told_and_leaves_the_state_and_no_half_artifact(whole, scratch, base):
    process = scratch.start(*base)
    scratch.wait_for_saves(2, process)
    scratch.kill(process)
    before = scratch.states()
    printed = scratch.run(*base, code=1, save_every_s=0.3, limit=(10_000, signal.SIG_IGN))
    assert "could not save the training state" in printed and "File too large" in printed
    assert "error: could not write" in printed and "free some space" in printed and "Traceback" not in printed
    assert scratch.states() == before
    assert not scratch.artifact("base")
    scratch.run(*base, save_every_s=1e9)
    assert scratch.artifact("base") == whole.artifact("base")


@pytest.mark.slow
def test_ctrl_c_ends_soon_with_the_state_saved(whole, scratch, base):
    process = scratch.start(*base)
    scratch.wait_for_saves(3, process)
    os.kill(process.pid, signal.SIGINT)
    process.join(20)
    printed = (scratch.folder / "out.txt").read_text()
    assert process.exitcode == 1
    assert "stopped in epoch 1; the state is saved; run the same command to continue" in printed and "Traceback" not in printed
    assert "continues in epoch 1" in scratch.run(*base, save_every_s=1e9)
    assert scratch.artifact("base") == whole.artifact("base")


@pytest.mark.slow
def test_a_state_of_other_settings_is_not_used_and_is_there_for_the_way_back(whole, scratch, base):
    process = scratch.start(*base)
    scratch.wait_for_saves(2, process)
    scratch.kill(process)
    Project(scratch.folder).set({"train.lr": 0.05})
    assert "continues" not in scratch.run(*base, save_every_s=1e9)
    assert scratch.artifact("base")["0/weights.safetensors"] != whole.artifact("base")["0/weights.safetensors"]
    Project(scratch.folder).set({"train.lr": 0.1})
    assert "continues in epoch 1" in scratch.run(*base, save_every_s=1e9)
    assert scratch.artifact("base") == whole.artifact("base")
    assert not scratch.states()


@pytest.mark.slow
def test_a_diverged_training_writes_nothing(scratch, base):
    Project(scratch.folder).set({"train.lr": 1.0e30})
    printed = scratch.run(*base, code=1, save_every_s=1e9)
    for part in ("error: base, seed 0: the loss is nan in batch", "of epoch 1, at learning rate", "try a lower lr"):
        assert part in printed
    assert not scratch.artifact("base")


@pytest.mark.slow
def test_a_student_killed_now_and_then_ends_in_the_same_bytes(whole, scratch):
    student = "distill", "pc", "--seed", "0"
    for saves in (0, 2, 7):
        process = scratch.start(*student)
        scratch.wait_for_saves(saves, process)
        scratch.kill(process)
    assert "continues in epoch" in scratch.run(*student, save_every_s=1e9)
    assert scratch.artifact("distill") == whole.artifact("distill")
    assert not scratch.states()
