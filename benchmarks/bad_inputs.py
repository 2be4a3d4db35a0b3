"""Gives every command bad inputs, and counts what becomes of them.

python -m benchmarks.bad_inputs --count 3000 [--seed 0] [--only params artifacts ...] [--processes 20]

Each input is put into a fresh copy of a small project; the command's own entry point is run in it, in this process, and some of them
once more in a process of their own. Outcomes:
    refused    an exit code that is not 0, and words that name the file, key or argument
    same       taken, and every byte that comes out is that of the good input; or another value that is as good (marked so where made)
    SILENT, UNNAMED, TRACEBACK, HANG    taken without a word and something else came out; words that do not say where; the others as named
The exit code is 1 where one of the last four was found.
"""

import contextlib
import hashlib
import importlib
import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from benchmarks import bad_cases
from benchmarks.bad_case import Case
from benchmarks.bad_project import make
from benchmarks.stage import run_stage
from lt.core import manifest
from lt.core.command import command_line
from lt.core.files import inside

ROOT = Path(__file__).parent.parent
FAULTS = ("SILENT", "UNNAMED", "TRACEBACK", "HANG")
# Seconds of CPU, and of waiting, after which a command hangs: those that train, and the others.
HANG_CPU_S, HANG_WAIT_S, TRAINING_S = 5.0, 30.0, 60.0
# What a command notes of itself.
NOTED = (".cost", ".resume", "__pycache__")


@dataclass(frozen=True)
class Outcome:
    """status: None or 0 where the command ended well, else its words or its number    files: sha256 of all files, by name"""

    status: str | int | None
    printed: str
    files: dict[str, str]
    problem: str = ""

    @property
    def ended_well(self) -> bool:
        return self.status in (None, 0)

    @property
    def words(self) -> str:
        return f"{self.status if isinstance(self.status, str) else ''}\n{self.printed}"


class Hangs(BaseException):
    """A command takes longer than it may."""


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=bad_cases.KINDS, default=[*bad_cases.KINDS])
    parser.add_argument("--processes", type=int, default=0, help="cases that are tried once more in a process of their own")
    parser.add_argument(
        "--good", type=Path, help="folder in which the good projects are kept for another run; none: they are not"
    )
    args = parser.parse_args()
    args.good = args.good and args.good.resolve()
    with tempfile.TemporaryDirectory(prefix="bad-inputs-") as folder, inside(folder):
        good = args.good or Path(folder) / "good"
        if not good.is_dir():
            with contextlib.redirect_stdout(io.StringIO()):
                make(good)
        cases = bad_cases.draw(good, args.only, args.count, args.seed)
        print(f"{len(cases)} bad inputs, seed {args.seed}", flush=True)
        for stage in sorted({case.argv[0] for case in cases}):
            importlib.import_module(f"stages.{stage}")  # torch among them: it is not what a case takes
        trial = Trial(good)
        counts, faults = Counter(), []
        for number, case in enumerate(cases, 1):
            if not number % 100:
                print(f"{number} of {len(cases)}, {len(faults)} faults", flush=True)
            verdict, told = trial.judge(case)
            counts[case.kind, verdict] += 1
            if verdict in FAULTS:
                faults.append(fault(verdict, case, told))
                print(faults[-1], flush=True)
        sample = random.Random(args.seed).sample(cases, min(args.processes, len(cases)))
        for case in sample:
            if told := trial.differs_in_a_process(case):
                faults.append(fault("TRACEBACK", case, told))
                print(faults[-1], flush=True)
    print(f"\n{table(counts)}\n\n{len(faults)} faults; {len(sample)} tried in processes of their own")
    sys.exit(bool(faults))


def fault(verdict: str, case: Case, told: str) -> str:
    """One fault in words."""
    env = "".join(f"{key}={value!r} " for key, value in case.env.items())
    return f"{verdict} {case.kind}: {case.what}: {env}{' '.join(map(repr, case.argv))[:200]}\n    {told.strip()[-600:]}"


def table(counts: Counter) -> str:
    """Counts by kind and outcome."""
    kinds, verdicts = sorted({kind for kind, _ in counts}), ("refused", "same", *FAULTS)
    lines = [[kind, *(str(counts[kind, verdict]) for verdict in verdicts)] for kind in kinds]
    lines.append(["all", *(str(sum(counts[kind, verdict] for kind in kinds)) for verdict in verdicts)])
    return "\n".join(
        "".join(f"{cell:>11}" if i else f"{cell:14}" for i, cell in enumerate(line)) for line in [["kind", *verdicts], *lines]
    )


class Trial:
    """Runs cases on copies of a good project, and judges them beside the good input's outcome."""

    def __init__(self, good: Path):
        self.good, self.place = good, Path("tried").resolve()
        self._expected: dict[tuple[str, ...], Outcome] = {}

    def judge(self, case: Case) -> tuple[str, str]:
        """The verdict, and what speaks for it."""
        found = self.run(case)
        if found.problem:
            return found.problem.split()[0], found.problem
        if not found.ended_well:
            if re.search(r"^Traceback \(most recent call last\)", found.words, re.MULTILINE):
                return "TRACEBACK", found.words
            is_named = not case.named or any(name in found.words for name in case.named)
            return (
                ("refused", "") if is_named and found.words.strip() else ("UNNAMED", f"exit code {found.status!r}, {found.words}")
            )
        if case.valid() if callable(case.valid) else case.valid:
            return "same", ""
        expected = self.expected(case)
        differing = {name for name in found.files.keys() & expected.files.keys() if found.files[name] != expected.files[name]}
        differing |= expected.files.keys() - found.files.keys() - self._touched(case)
        differing -= self._touched(case)
        said = case.named and any(name in found.printed for name in case.named)
        if differing or (found.printed != expected.printed and not said):
            return "SILENT", f"taken, and differs: {', '.join(sorted(differing)) or 'what is printed'}\n{found.printed}"
        return "same", ""

    def expected(self, case: Case) -> Outcome:
        """What the good input gives."""
        key = (case.project, *case.argv)
        if key not in self._expected:
            self._expected[key] = self.run(Case("good", "", case.argv, trains=True, project=case.project))
        return self._expected[key]

    def _touched(self, case: Case) -> set[str]:
        """Files that the change itself makes other."""
        self._copy(case)
        before = hashes(self.place)
        case.change(self.place)
        after = hashes(self.place)
        return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}

    def _copy(self, case: Case) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.good / case.project, self.place, symlinks=True)

    def run(self, case: Case) -> Outcome:
        """One case, in this process."""
        self._copy(case)
        case.change(self.place)
        manifest.forget()
        printed, problem, status = io.StringIO(), "", None
        before = dict(os.environ)
        with inside(self.place), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            os.environ.update(case.env)
            try:
                with limit(TRAINING_S if case.trains else HANG_CPU_S):
                    run_stage(*case.argv)
            except SystemExit as ended:
                status = ended.code
            except Hangs:
                problem = f"HANG {printed.getvalue()[-200:]}"
            except BaseException:
                problem = f"TRACEBACK {traceback.format_exc()}"
            finally:
                os.environ.clear()
                os.environ.update(before)
        return Outcome(status, printed.getvalue(), {} if problem or status not in (None, 0) else hashes(self.place), problem)

    def differs_in_a_process(self, case: Case) -> str:
        """What a process of its own does otherwise: a traceback, another exit code, or it hangs."""
        here = self.run(case)
        self._copy(case)
        case.change(self.place)
        env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | case.env
        words = [sys.executable, "-m", f"stages.{case.argv[0]}", *case.argv[1:]]
        try:
            done = subprocess.run(words, cwd=self.place, env=env, capture_output=True, text=True, errors="replace", timeout=300)
        except subprocess.TimeoutExpired:
            return "hangs in a process"
        except ValueError:  # no command line can hold a NUL
            return ""
        if "Traceback (most recent call last)" in done.stderr or (done.returncode == 0) != here.ended_well:
            return f"exit code {done.returncode}, here {here.status!r}: {done.stderr}"
        return ""


@contextlib.contextmanager
def limit(cpu_s: float) -> Iterator[None]:
    """Raises Hangs where the block takes more CPU, or waits longer, than it may."""

    def stop(number, frame):
        raise Hangs

    for number, timer, seconds in (
        (signal.SIGPROF, signal.ITIMER_PROF, cpu_s),
        (signal.SIGALRM, signal.ITIMER_REAL, HANG_WAIT_S + 5 * cpu_s),
    ):
        signal.signal(number, stop)
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of all regular files but notes, by name."""
    files = (path for path in folder.rglob("*") if path.is_file() and not set(path.parts) & {*NOTED})
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    main()
