"""Each damage that a kill leaves is made in a real project of DVC's, found, mended or told, and `dvc repro` works afterwards."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lt.doctor.processes import is_alive, is_tool
from tests.conftest import ROOT, Project

pytestmark = pytest.mark.pipeline

SCRIPT = """
import sys, time
from pathlib import Path
from lt.core import artifacts
Path("started").touch()
time.sleep(float(Path("wait_s").read_text()))
with artifacts.writing(Path("artifacts", *sys.argv[1:])) as folder:
    artifacts.write_text(folder / "a.txt", Path("params.yaml").read_text())
"""
GRAPH = """
stages:
  subsample: {cmd: python make.py data, deps: [make.py], params: [x], outs: [artifacts/data]}
  base: {cmd: python make.py base 0, deps: [make.py, artifacts/data], params: [x], outs: [artifacts/base/0]}
"""


class Small(Project):
    """Two stages that write artifacts."""

    def dvc(self, *arguments, ok=True, **env):
        return super().dvc(*arguments, ok=ok, PYTHONPATH=str(ROOT), **env)

    def doctor(self, *arguments, left=0):
        done = self.run(sys.executable, "-m", "stages.doctor", *arguments, ok=False, PYTHONPATH=str(ROOT))
        assert done.returncode == bool(left), done.stdout + done.stderr
        assert not done.stderr
        return done.stdout

    def wait(self, seconds):
        (self.folder / "wait_s").write_text(str(seconds))

    def broken(self):
        """What `dvc repro` says, which fails."""
        done = self.dvc("repro", ok=False)
        assert done.returncode
        return done.stderr

    def mend(self, told):
        """Is found without a change, mended, and gone; then `dvc repro` works and trains nothing."""
        assert told in self.doctor(left=1)
        assert "mended" in self.doctor("--mend")
        assert self.doctor() == ""
        done = self.dvc("repro").stdout
        assert "> python" not in done and "up to date" in self.dvc("status").stdout


def make(folder, git):
    small = Small(folder)
    for name, text in {"make.py": SCRIPT, "dvc.yaml": GRAPH, "params.yaml": "x: 1\n", ".gitignore": "/artifacts/\n/started\n/wait_s\n"}.items():
        (folder / name).write_text(text)
    small.wait(0)
    if git:
        small.git("init", "-q", "-b", "main")
        small.git("config", "user.name", "test")
        small.git("config", "user.email", "test@example.org")
    small.dvc("init", "-q", *([] if git else ["--no-scm"]))
    small.dvc("repro", "-q")
    if git:
        small.git("add", "-A")
        small.git("commit", "-qm", "start")
    return small


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """made(kind): a project that was run, with git or without, which is made once."""
    return functools.cache(lambda kind: make(tmp_path_factory.mktemp(kind), kind == "git"))


@pytest.fixture(params=["git", pytest.param("no_scm", marks=pytest.mark.slow)])
def small(request, made, tmp_path):
    return Small(Path(shutil.copytree(made(request.param).folder, tmp_path / "small", symlinks=True)))


@pytest.fixture
def with_git(made, tmp_path):
    return Small(Path(shutil.copytree(made("git").folder, tmp_path / "small", symlinks=True)))


def test_nothing_is_found_where_nothing_is_wrong(small):
    assert small.doctor() == small.doctor("--mend") == ""


@pytest.mark.slow
@pytest.mark.parametrize("cut_at", [b"schema", b"sh: md5", b" md5\n"])
def test_dvc_lock_cut_short(small, cut_at):
    path = small.folder / "dvc.lock"
    whole = path.read_bytes()
    cut = whole[: whole.index(cut_at)]
    path.write_bytes(cut)
    assert small.broken() is not None
    small.mend("dvc.lock: cut short")
    assert path.read_bytes() == whole and (small.folder / ".dvc/tmp/dvc.lock.damaged").read_bytes() == cut


@pytest.mark.slow
def test_what_was_made_after_the_last_commit_comes_from_the_run_cache(with_git):
    (with_git.folder / "params.yaml").write_text("x: 2\n")
    with_git.dvc("repro", "-q")
    newer = (with_git.folder / "dvc.lock").read_bytes()
    (with_git.folder / "dvc.lock").write_bytes(newer[:400])
    with_git.mend("dvc.lock: cut short")
    assert (with_git.folder / "dvc.lock").read_bytes() == newer


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", '{"write": {"/x": {"pid"', "[]"])
def test_a_lock_that_cannot_be_read(with_git, content):
    (with_git.folder / ".dvc/tmp/rwlock").write_text(content)
    assert content == "[]" or "Unable to read RWLock-file" in with_git.broken()
    with_git.mend(".dvc/tmp/rwlock: empty or cut short")


@pytest.mark.slow
def test_a_lock_of_a_process_whose_number_another_one_has_got(small):
    """DVC looks at the number alone, and would wait for this test."""
    path = small.folder / ".dvc/tmp/rwlock"
    path.write_text(json.dumps({"write": {str(small.folder / "artifacts/data"): {"pid": os.getpid(), "cmd": "/usr/bin/dvc repro"}}}))
    assert "is busy" in small.broken()
    small.mend(f".dvc/tmp/rwlock: names process {os.getpid()}, which is gone")


def test_a_lock_of_a_living_process_is_left():
    me, now_s = " ".join(sys.argv), time.time()
    started = subprocess.Popen([sys.executable, "-c", "input()", "dvc"], stdin=subprocess.PIPE)
    try:
        assert is_alive(started.pid, "/usr/bin/dvc repro", now_s + 5)
        assert is_alive(started.pid, "/lib/dvc/__main__.py repro", now_s + 5)
        assert not is_alive(started.pid, "/usr/bin/else repro", now_s + 5)
        assert not is_alive(started.pid, "/usr/bin/dvc repro", now_s - 60), "the file is older than the process"
        started.kill()
        os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(started.pid, "/usr/bin/dvc repro", now_s + 5), "a zombie"
    finally:
        started.communicate()
    assert not is_alive(started.pid, me, now_s + 5)


@pytest.mark.slow
def test_an_empty_folder_in_the_run_cache(small):
    """Seen where the stage is run anew: the entries of both are taken out, and one folder is left."""
    for entry in small.folder.glob(".dvc/cache/runs/*/*/*"):
        entry.unlink()
    (small.folder / "dvc.lock").rename(small.folder / "kept")
    assert "NoneType" in small.broken()
    (small.folder / "kept").rename(small.folder / "dvc.lock")
    small.mend("an empty folder of the run cache")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index.lock", "refs/exps/stash.lock", "refs/heads/main.lock"])
def test_locks_of_git(with_git, name):
    path = with_git.folder / ".git" / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.touch()
    with_git.mend(f".git/{name}: a lock of git")
    (with_git.folder / "params.yaml").write_text("x: 1 # as before\n")
    with_git.dvc("exp", "run", "-S", "x=3")
    with_git.git("commit", "-qam", "more")


def kill_an_experiment(small):
    """Kills `dvc exp run -S x=15` and the stage when that is at work."""
    small.wait(60)
    (small.folder / "started").unlink(missing_ok=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "dvc", "exp", "run", "-S", "x=15"]
    process = subprocess.Popen(
        command, cwd=small.folder, env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": path}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    while not (small.folder / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    return process


@pytest.mark.slow
def test_a_killed_experiment(with_git):
    (with_git.folder / "dvc.yaml").write_text(GRAPH + "# edit of mine\n")
    process = kill_an_experiment(with_git)
    told = with_git.run(sys.executable, "-m", "stages.doctor", "--mend", ok=False, PYTHONPATH=str(ROOT)).stderr
    assert "nothing was mended: what is at work" in told and f"process {process.pid}" in told
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert "HEAD of git: on no branch, at the commit of main" in with_git.doctor(left=1)
    with_git.doctor("--mend")
    assert with_git.git("branch", "--show-current") == "main\n"
    changed = with_git.git("diff")
    assert "+x: 15" in changed and "+# edit of mine" in changed, "the files are as the kill left them"
    assert with_git.doctor() == ""
    with_git.wait(0)
    assert "> python make.py data" in with_git.dvc("repro").stdout


@pytest.mark.slow
def test_edits_that_were_put_aside_are_told(with_git):
    (with_git.folder / "dvc.yaml").write_text(GRAPH + "# edit of mine\n")
    with_git.git("stash")
    told = with_git.doctor("--mend")
    assert "git's stash@{0}: WIP on main" in told and "git stash pop --index stash@{0}" in told
    with_git.dvc("repro")


@pytest.mark.slow
def test_edits_that_only_dvc_has_are_told(with_git):
    """A kill between the checkout of HEAD and the return of the edits, which DVC has in a ref of its own."""
    (with_git.folder / "dvc.yaml").write_text(GRAPH + "# edit of mine\n")
    with_git.git("stash")
    with_git.git("update-ref", "refs/exps/exec/EXEC_MERGE", "stash@{0}")
    with_git.git("stash", "drop")
    told = with_git.doctor("--mend")
    assert "git's refs/exps/exec/EXEC_MERGE: edits" in told
    with_git.git("checkout", "refs/exps/exec/EXEC_MERGE", "--", "dvc.yaml")
    assert with_git.doctor() == "" and "edit of mine" in (with_git.folder / "dvc.yaml").read_text()


def test_a_head_that_the_user_has_moved_is_left(with_git):
    (with_git.folder / "more").touch()
    with_git.git("add", "more")
    with_git.git("commit", "-qm", "more")
    with_git.git("checkout", "-q", "HEAD~1")
    assert "git switch main goes back" in with_git.doctor("--mend")
    assert with_git.git("branch", "--show-current") == ""


def test_leftovers(with_git):
    base = with_git.folder / "artifacts/base"
    (base / ".0.x1.part").mkdir()
    (with_git.folder / ".resume").mkdir()
    (with_git.folder / ".resume/base-0.12.part").touch()
    (base / "0").rename(base / ".0.old.part")
    assert "0 as it was, of a stage that was killed while it replaced it" in with_git.doctor(left=1)
    with_git.doctor("--mend")
    assert [path.name for path in base.iterdir()] == ["0"] and not any((with_git.folder / ".resume").iterdir())
    assert with_git.doctor() == "" and "up to date" in with_git.dvc("repro").stdout


@pytest.mark.slow
def test_an_artifact_that_is_not_as_its_manifest_says(with_git):
    (with_git.folder / "artifacts/base/0/a.txt").write_text("x: 9\n")
    told = with_git.doctor("--mend", left=1)
    assert "artifacts/base/0: a.txt is damaged: its sha256" in told and "dvc checkout --force artifacts/base/0" in told
    with_git.dvc("checkout", "--force", "artifacts/base/0")
    assert with_git.doctor() == ""


@pytest.mark.slow
def test_an_artifact_without_a_manifest(with_git):
    (with_git.folder / "artifacts/base/0/manifest.json").unlink()
    assert "artifacts/base/0: has no manifest.json" in with_git.doctor("--mend", left=1)
    with_git.dvc("repro", "base")
    assert with_git.doctor() == ""


def test_workspaces_of_tables_are_looked_at(with_git):
    space = with_git.folder / "runs/some"
    (space / ".dvc/tmp").mkdir(parents=True)
    (space / ".dvc/tmp/rwlock").touch()
    assert "runs/some/.dvc/tmp/rwlock: empty" in with_git.doctor("--mend")
    assert with_git.doctor() == ""


@pytest.mark.parametrize(
    "words, expected",
    [
        (["python", "-m", "dvc", "repro"], True), (["/usr/bin/python", "/venv/bin/dvc", "exp", "run"], True), (["git", "add"], True),
        (["python", "-m", "stages.base", "--seed", "0"], True), (["python", "-m", "pytest"], False), (["vi", "notes.git"], False), ([], False),
    ],
)  # fmt: skip
def test_what_is_a_tool(words, expected):
    assert is_tool(words) == expected


def test_outside_of_a_project(tmp_path):
    done = Project(tmp_path).run(sys.executable, "-m", "stages.doctor", ok=False, PYTHONPATH=str(ROOT))
    assert done.returncode == 1 and "has no dvc.yaml" in done.stderr and "Traceback" not in done.stderr
