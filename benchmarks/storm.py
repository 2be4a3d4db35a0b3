"""Kills commands at random moments, gives them again, and compares what comes out with undisturbed runs, byte by byte.

python -m benchmarks.storm --kills 20 [--seed 0] [--only repro restore exp stage nproc table pack predict]

Of small copies of this project, in a temporary folder. Every kind of command gets its share of the kills; the moment is drawn over
the time that the command takes when it is left alone. After every kill `python -m stages.doctor --mend` clears what DVC and git were
left with, and the same command is given again, until it ends by itself. A line per kill tells the count so far. The exit code is 1
where a byte, or an edit of the user's, was lost, or a command did not work again. Linux and macOS.
"""

import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import jpeg_tree
from benchmarks.storm_project import Copy, prepare
from lt.core.command import command_line

PACK = """
from pathlib import Path
import numpy as np
from lt.data import packed
from lt.data.decode import ImageFiles
if __name__ == "__main__":
    packed.CHUNK = 16
    files = sorted(Path("images").rglob("*.jpg"))
    packed.PackedImages(ImageFiles(files, 64), Path("packs"), "storm", "").read(np.arange(1))
"""
PYTHON = [sys.executable, "-m"]
REPRO = [*PYTHON, "dvc", "repro"]
BASE = [*PYTHON, "stages.base", "--seed", "0"]
TABLE = [*PYTHON, "stages.table", "digits_causal", "--rows", "base", "--budget", "0.05", "--seeds", "0"]
SPACE = "runs/digits_causal_budget0.05"
MADE = ("dvc.lock", "artifacts", "results")


@dataclass(frozen=True)
class Kind:
    """What is killed: the command, its further environment, and what it makes, of which every byte counts.

    start: the project that it begins in: plain, without results; built, with them; cleared, whose artifacts are in DVC's cache alone
    is_experiment: begins with an edit of the user's, and is followed by the way back, to what was there before
    """

    command: list[str]
    made: tuple[str, ...]
    start: str = "built"
    further: dict[str, str] = field(default_factory=dict)
    is_experiment: bool = False


KINDS = {
    "repro": Kind(REPRO, MADE, "plain"),
    "restore": Kind(REPRO, MADE, "cleared"),
    "exp": Kind([*PYTHON, "dvc", "exp", "run", "-S", "methods.crt.lr=0.05"], MADE, is_experiment=True),
    "stage": Kind(BASE, ("artifacts/base",)),
    "nproc": Kind(BASE, ("artifacts/base",), further={"LT_NPROC": "2"}),
    "table": Kind(TABLE, (f"{SPACE}/dvc.lock", f"{SPACE}/artifacts"), "plain"),
    "pack": Kind([sys.executable, "pack.py"], ("packs",), "plain", {"LT_WORKERS": "2"}),
    "predict": Kind([*PYTHON, "stages.predict", "--row", "base", "images", "--output", "predictions.csv"], ("predictions.csv",)),
}
# Starts per kill: a command that goes on after a kill may end before it is to be killed again.
TRIES = 4


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=[*KINDS])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        found = storm(Path(folder), args.only, args.kills, random.Random(args.seed))
    print(f"{found.hits.total()} kills, seed {args.seed}: " + ("; ".join(found.lost) or "nothing lost, the same bytes everywhere"))
    sys.exit(bool(found.lost))


@dataclass
class Found:
    """hits: kills at work, by kind    ended: chains of kills that were then left alone and compared, by kind
    files: of them, with the same bytes    doctor: what it mended and told, by name    lost: in words"""

    hits: Counter = field(default_factory=Counter)
    ended: Counter = field(default_factory=Counter)
    files: int = 0
    doctor: Counter = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    def tell(self, now: str) -> None:
        """Prints what has just happened and all so far."""
        by_kind = ", ".join(f"{kind} {count}" for kind, count in self.hits.items())
        print(f"{time.strftime('%H:%M:%S')} {now}; {self.hits.total()} kills ({by_kind}), {self.ended.total()} compared, "
              f"{self.files} files the same, {len(self.lost)} lost", flush=True)  # fmt: skip


def storm(folder: Path, kinds: list[str], kills: int, draw: random.Random) -> Found:
    """Runs all of it."""
    starts = projects(folder, {KINDS[kind].start for kind in kinds})
    undisturbed, took_s, stormed, found = {}, {}, {}, Found()
    for kind in kinds:
        whole = begin(folder / f"{kind}-whole", kind, starts)
        began = time.monotonic()
        whole.run(KINDS[kind].command, KINDS[kind].further)
        took_s[kind] = time.monotonic() - began
        undisturbed[kind] = outcome(kind, whole)
        if absent := [name for name in KINDS[kind].made if not hashes(whole.folder, [name])]:
            raise RuntimeError(f"{kind}: made nothing at {', '.join(absent)}")
        print(f"{kind:7} undisturbed {took_s[kind]:.1f} s, {len(undisturbed[kind])} files", flush=True)
        shutil.rmtree(whole.folder)
        stormed[kind] = begin(folder / kind, kind, starts)
    for _ in range(TRIES * kills):
        if found.hits.total() == kills:
            break
        kind = min(kinds, key=lambda kind: found.hits[kind])
        after_s = draw.uniform(0, took_s[kind])
        if kill_once(kind, stormed[kind], after_s, found):
            found.hits[kind] += 1
            found.tell(f"{kind} killed after {after_s:.1f} s")
        else:  # it has ended: it is compared, and begun anew
            compare(kind, stormed[kind], undisturbed[kind], found)
            stormed[kind] = begin(folder / kind, kind, starts)
    for kind in kinds:
        finish(kind, stormed[kind], found)
        compare(kind, stormed[kind], undisturbed[kind], found)
    print("doctor: " + (", ".join(f"{what} ({count})" for what, count in sorted(found.doctor.items())) or "found nothing"))
    if found.hits.total() < kills:
        found.lost.append(f"only {found.hits.total()} of {kills} kills came in time")
    return found


def projects(folder: Path, wanted: set[str]) -> dict[str, Copy]:
    """The projects in which kinds begin, by name."""
    plain = prepare(folder / "plain")
    jpeg_tree.write(plain.folder / "images", jpeg_tree.Sizes(classes=4, train=200, imbalance=4, val_per_class=1, test_per_class=5), corrupt=0)
    (plain.folder / "pack.py").write_text(PACK)
    starts = {"plain": plain}
    if wanted - {*starts}:
        starts["built"] = built = plain.copy(folder / "built")
        built.run(REPRO)
        built.commit("results")
        starts["cleared"] = cleared = built.copy(folder / "cleared")
        shutil.rmtree(cleared.folder / "artifacts")
    return starts


def begin(folder: Path, kind: str, starts: dict[str, Copy]) -> Copy:
    """A new project for a kind's command, in the place of the last one."""
    shutil.rmtree(folder, ignore_errors=True)
    return starts[KINDS[kind].start].copy(folder)


def kill_once(kind: str, place: Copy, after_s: float, found: Found) -> bool:
    """Starts a kind's command, and kills it and all that it has started; whether it was still at work. What doctor found, what an
    ended command said that failed, and an edit that is gone, are noted."""
    if KINDS[kind].is_experiment:
        place.edit()
    status = place.kill(KINDS[kind].command, after_s, KINDS[kind].further)
    if status:
        found.lost.append(f"{kind}: failed after a kill, with exit code {status}: {place.said()}")
        found.tell(found.lost[-1])
    if status is None:
        found.doctor.update(place.doctor())
    if KINDS[kind].is_experiment and not place.has_edit():
        found.lost.append(f"{kind}: an edit of the user's")
    return status is None


def finish(kind: str, place: Copy, found: Found) -> None:
    """Lets a kind's command end by itself."""
    try:
        place.run(KINDS[kind].command, KINDS[kind].further)
    except subprocess.CalledProcessError as error:
        found.lost.append(f"{kind}: could not be finished: {(error.stderr or error.stdout)[-500:]}")


def compare(kind: str, place: Copy, expected: dict[str, str], found: Found) -> None:
    """Notes what differs from the undisturbed run, where the command has ended by itself, and what was left half written."""
    try:
        got = outcome(kind, place)
    except subprocess.CalledProcessError as error:
        found.lost.append(f"{kind}: no way back: {(error.stderr or error.stdout)[-500:]}")
        return
    differing = sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
    left = sorted(str(path.relative_to(place.folder)) for path in place.folder.rglob("*.part"))
    found.lost += [f"{kind}: {len(differing)} files differ, such as {differing[0]}"] if differing else []
    found.lost += [f"{kind}: left half written, {len(left)} in all, such as {left[0]}"] if left else []
    found.ended[kind] += 1
    found.files += len(expected.keys() & got.keys()) - sum(name in expected and name in got for name in differing)
    found.tell(f"{kind} ended and compared")


def outcome(kind: str, place: Copy) -> dict[str, str]:
    """sha256 of what a command has made; of an experiment also of what is there after the way back."""
    made = hashes(place.folder, KINDS[kind].made)
    if KINDS[kind].is_experiment:
        place.back()
        place.run(REPRO)
        made |= {f"{name}, back": value for name, value in hashes(place.folder, KINDS[kind].made).items()}
    return made


def hashes(folder: Path, names: list[str] | tuple[str, ...]) -> dict[str, str]:
    """sha256 of files, and of all files in folders."""
    files = [file for name in names for file in (folder / name, *(folder / name).rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


if __name__ == "__main__":
    main()
