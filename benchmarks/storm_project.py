"""Small copies of this project in which the storm kills commands."""

import os
import re
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
# Names that are hashes, or numbers of processes.
HEX = re.compile(r"[0-9a-f]{16,}|[0-9]+")
DVCS_REFS = ("refs/exps/exec/EXEC_MERGE", "refs/exps/stash")


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
    """A copy of the project."""

    folder: Path

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

    def kill(self, command: list[str], after_s: float, further: dict[str, str]) -> int | None:
        """Starts a command, and kills it with all that it has started; the exit code of one that had ended before."""
        with open(self._said(), "wb") as said:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment(further), start_new_session=True, stdin=subprocess.DEVNULL, stdout=said,
                stderr=subprocess.STDOUT,
            )
        try:
            return process.wait(after_s)
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
        return None

    def said(self) -> str:
        """The last words of the command that was to be killed."""
        return self._said().read_text(encoding="utf-8", errors="replace")[-500:]

    def _said(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.said")

    def doctor(self) -> list[str]:
        """Mends what can be mended; what it found in the way, by the name of the file, and what became of it."""
        done = self.run(DOCTOR, check=False)
        if done.stderr:
            raise RuntimeError(f"{' '.join(DOCTOR)} failed:\n{done.stderr}")
        lines = done.stdout.splitlines()
        names = (HEX.sub("*", line.split(": ")[0].rsplit("/", 1)[-1]) for line in lines[::2])
        return [f"{name} {did.split(':')[0].strip()}" for name, did in zip(names, lines[1::2])]

    def commit(self, message: str) -> None:
        """Commits everything."""
        self.run(["git", "add", "-A"])
        self.run(["git", "commit", "-qm", message])

    def edit(self) -> None:
        """The user edits a tracked file, from a clean start."""
        self.back()
        path = self.folder / "README.md"
        path.write_text(f"{path.read_text(encoding='utf-8')}{EDIT}\n", encoding="utf-8")

    def has_edit(self) -> bool:
        """Whether the edit is in the file, in git's stash or in DVC's copy of it, which doctor tells of."""
        places = (["git", "diff", "HEAD"], ["git", "stash", "show", "-p"], *(["git", "diff", "HEAD", ref] for ref in DVCS_REFS))
        return any(EDIT in self.run(place, check=False).stdout for place in places)

    def back(self) -> None:
        """Everything as it was committed; no edit is left anywhere."""
        for command in (["git", "checkout", "-q", "-f", "main"], ["git", "stash", "clear"]):
            self.run(command)
        for ref in DVCS_REFS:
            self.run(["git", "update-ref", "-d", ref], check=False)
        time.sleep(0.01)  # git looks at the time of a file
