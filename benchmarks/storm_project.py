"""Small copies of this project in which the storm kills commands."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).parent.parent
EDIT = "# an edit of the user's"
DOCTOR = [sys.executable, "-m", "stages.doctor", "--mend"]
MENDED = "  mended: "


def prepare(folder: Path) -> "Copy":
    """The files that git tracks or would track, committed; two rows, a few epochs."""
    told = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in told.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("results/", "tests/", "docs/")) and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    content = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    content["train"] |= {"epochs": 6, "warmup_epochs": 0}
    content["features"]["views"] = 2
    content |= {"methods": {"crt": content["methods"]["crt"] | {"steps": 20}}, "teachers": {}, "report": {"row": "crt"}}
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    copy = Copy(folder)
    copy.run(["git", "init", "-q", "-b", "main"])
    for key, value in {"user.name": "storm", "user.email": "storm@example.org", "gc.auto": "0"}.items():
        copy.run(["git", "config", key, value])
    copy.commit("start")
    return copy


@dataclass
class Copy:
    """A copy of the project. lost_edits: edits that were nowhere to be found after a kill"""

    folder: Path
    lost_edits: int = 0

    def copy(self, folder: Path) -> "Copy":
        """Another one like it."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Copy(folder)

    def environment(self, further: dict[str, str]) -> dict[str, str]:
        """One thread, a state saved after every step, and the copy's own code."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "LT_"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}"
        return clean | {"PATH": path, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1", "LT_SAVE_EVERY_S": "0"} | further

    def run(self, command: list[str], further: dict[str, str] = {}, check: bool = True) -> subprocess.CompletedProcess:
        """Runs a command to its end."""
        return subprocess.run(command, cwd=self.folder, env=self.environment(further), capture_output=True, text=True, check=check)

    def kill(self, command: list[str], after_s: float, further: dict[str, str]) -> bool:
        """Starts a command, and kills it with all that it has started; whether it was still at work."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
        process = subprocess.Popen(command, cwd=self.folder, env=self.environment(further), start_new_session=True, **quiet)
        try:
            process.wait(after_s)
            return False
        except subprocess.TimeoutExpired:
            pass
        # Stopped first: none of them starts another one, or notices that its child has ended, while they are counted.
        family = [psutil.Process(process.pid)]
        for one in family:
            try:
                one.send_signal(signal.SIGSTOP)
                family += one.children()
            except psutil.NoSuchProcess:
                continue
        for one in family:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait()
        psutil.wait_procs(family, timeout=30)
        return True

    def doctor(self) -> list[str]:
        """Mends what can be mended; what that was, by the name of the file."""
        done = self.run(DOCTOR, check=False)
        lines = done.stdout.splitlines()
        return [line.split(": ")[0].rsplit("/", 1)[-1] for line, mended in zip(lines, lines[1:]) if mended.startswith(MENDED)]

    def commit(self, message: str) -> None:
        """Commits everything."""
        self.run(["git", "add", "-A"])
        self.run(["git", "commit", "-qm", message])

    def edit(self) -> None:
        """The user edits a tracked file, from a clean start."""
        self.back()
        path = self.folder / "README.md"
        path.write_text(f"{path.read_text(encoding='utf-8')}{EDIT}\n", encoding="utf-8")

    def find_edit(self) -> None:
        """Looks for the edit in the file, in git's stash and in DVC's copy of it, which doctor tells of."""
        places = (["git", "diff", "HEAD"], ["git", "stash", "show", "-p"], ["git", "diff", "HEAD", "refs/exps/exec/EXEC_MERGE"], ["git", "diff", "HEAD", "refs/exps/stash"])
        self.lost_edits += not any(EDIT in self.run(place, check=False).stdout for place in places)

    def back(self) -> None:
        """Everything as it was committed; no edit is left anywhere."""
        for command in (["git", "checkout", "-q", "-f", "main"], ["git", "stash", "clear"]):
            self.run(command)
        for ref in ("refs/exps/exec/EXEC_MERGE", "refs/exps/stash"):
            self.run(["git", "update-ref", "-d", ref], check=False)
        time.sleep(0.01)  # git looks at the time of a file
