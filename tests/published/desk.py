"""A project whose stages are stand-ins, for tests of tables; the command itself, and DVC, are real."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from lt.published import lock
from lt.published.engine import dvc
from tests.conftest import ROOT

TEACHER = {"gamma": 1.5, "eps": 1e-5, "temperature": 1.0, "weights": "xerm", "student": "warm", "student_loss": "ce"}
TINY = {
    "summary": "two epochs of the digits",
    "source": {"paper": "none", "table": "none"},
    "protocol": "Two epochs.",
    "differs": ["digits are no photographs"],
    "overrides": {
        "dataset": "digits", "imbalance": 50, "model": "resnet8", "loss": "ce", "features": {"views": 2},
        "train": {"epochs": 2, "warmup_epochs": 0, "schedule": "step"},
        "distill": {"epochs": 2, "warmup_epochs": 0, "schedule": "step"},
        "methods": {"pc": {}, "crt": {"steps": 20}}, "teachers": {"pc": TEACHER}, "report.row": "base",
    },
    "recipes": {
        "tiny_a": {"published": {
            "base": {"balanced": 0.41, "few": 0.1, "source": "a book"}, 
            "pc": [{"balanced": 0.6, "source": "a leaflet"}, {"balanced": 0.425, "few": 0.25, "source": "a letter"}],
        }},
        "tiny_b": {"overrides": {"methods": {"ncm": {}}, "teachers": {}}},
    },
}  # fmt: skip

# Stands in for every stage: notes that it ran, fails or waits where it is told to, and writes what its stage would.
STAND_IN = '''
import json, os, sys, time
from pathlib import Path
command = " ".join([Path(__file__).stem, *sys.argv[1:]])
here, project = Path.cwd(), Path.cwd().parent.parent
if command.split()[0] != "check":
    with open(project / "ran", "a") as file:
        file.write(command + "\\n")
if (project / "fail").is_file() and (project / "fail").read_text() == command:
    sys.exit("error: the raw data are missing")
if (project / "hold").is_file() and (project / "hold").read_text() == command:
    (project / "part").write_text(str(os.getpid()))
    (project / "part").rename(project / "held")
    time.sleep(60)
def write(path, text):
    (here / path).parent.mkdir(parents=True, exist_ok=True)
    (here / path).write_text(text)
stage, *arguments = command.replace("--seed ", "").split()
cost = {"seconds": 1.5, "torch": "2", "python": "3", "device": "abacus"}
write(f".cost/{command.replace('--', '').replace(' ', '_')}.json", json.dumps(cost))
if stage == "check":
    write("artifacts/check", "fine")
    (project / "checked").touch()
elif stage == "evaluate":
    row, seed = arguments
    metrics = {"balanced": 0.41 + 0.02 * int(seed), "train_prior": 0.6, "many": 0.5, "medium": None, "few": 0.25, "nll": 1.5, "ece": 0.1}
    facts = {"row": row, "context": {}, "classes": ["a"], "train_counts": [1], "test_counts": [1], "val_size": 0}
    scores = {"recall": [None], "precision": [None], "f1": [None], "predicted": [0]}
    reliability = dict.fromkeys(("before", "after"), {"count": [], "confidence": [], "accuracy": []})
    result = {"metrics": metrics, "per_class": scores, "reliability": reliability, "test_prior": [], "correct": ""}
    write(f"artifacts/evaluate/{row}/{seed}/measured.json", json.dumps(facts | {"result": result}))
else:
    salt = (project / "salt").read_text() if (project / "salt").is_file() else ""
    write("/".join(["artifacts", "data" if stage == "subsample" else stage, *arguments, "weights"]), command + salt)
'''


class Desk:
    """A project whose stages are stand-ins; the command itself, and DVC, are real."""

    def __init__(self, folder: Path, monkeypatch):
        self.folder, self.monkeypatch = folder, monkeypatch
        for name in ("params.yaml", "dvc.yaml", ".dvcignore"):
            shutil.copy(ROOT / name, folder / name)
        shutil.copytree(ROOT / "lt", folder / "lt", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("stages", "recipes", "data"):
            (folder / name).mkdir()
        (folder / "stages" / "__init__.py").write_text('"""Stand-ins."""\n')
        for name in ("check", "subsample", "base", "features", "retrain", "distill", "evaluate", "report"):
            (folder / "stages" / f"{name}.py").write_text(STAND_IN)
        shutil.copy(ROOT / "stages/start.py", folder / "stages/start.py")
        (folder / "data" / "digits.json").write_text("{}")
        self.recipe(TINY)
        monkeypatch.chdir(folder)
        for name in [name for name in os.environ if name.startswith("DVC_")]:
            monkeypatch.delenv(name)
        dvc(folder, "init", "--no-scm", "--quiet")

    def recipe(self, content: dict) -> None:
        (self.folder / "recipes" / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def edit(self, name: str) -> None:
        path = self.folder / name
        path.write_text(path.read_text() + "\n# edited\n")

    def table(self, *arguments: str) -> list[str]:
        """Runs the command; returns the stages that it ran, but for check, which takes no time."""
        ran = self.folder / "ran"
        ran.unlink(missing_ok=True)
        self.monkeypatch.setattr(sys, "argv", ["table", *arguments])
        importlib.import_module("stages.table").main()
        return self.ran()

    def ran(self) -> list[str]:
        path = self.folder / "ran"
        return path.read_text().splitlines() if path.is_file() else []

    def start(self, *arguments: str) -> subprocess.Popen:
        """The command as a process of its own, to be killed; what it says is in the file told."""
        path = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
        code = f"{path}; from lt.core.command import run; from stages import table; run(table.main)"
        command = [sys.executable, "-c", code, *arguments]
        with open(self.folder / "told", "w") as told:
            return subprocess.Popen(command, cwd=self.folder, stdout=told, stderr=told)

    def json(self, name: str = "tiny_a") -> dict:
        return json.loads((self.folder / f"results/tables/{name}.json").read_text())

    def rows(self) -> dict:
        return self.json()["recipes"]["tiny_a"]["rows"]

    def made(self, name: str = "tiny_a") -> dict:
        return lock.read(self.folder / "runs" / name)
