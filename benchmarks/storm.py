"""Kills commands at random moments, gives them again, and compares what comes out with undisturbed runs, byte by byte.

python -m benchmarks.storm --kills 20 [--seed 0] [--only repro exp stage nproc table pack]

Of small copies of this project, in a temporary folder. After every kill `python -m stages.doctor --mend` clears what DVC and git
were left with. The exit code is 1 where a byte, or an edit of the user's, was lost. Linux and macOS.
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks import jpeg_tree
from benchmarks.storm_project import Copy, prepare

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
TABLE = [sys.executable, "-m", "stages.table", "digits_causal", "--rows", "base", "--budget", "0.05", "--seeds", "0"]
SPACE = "runs/digits_causal_budget0.05"
BASE = [sys.executable, "-m", "stages.base", "--seed", "0"]
REPRO = [sys.executable, "-m", "dvc", "repro"]
EXPERIMENT = [sys.executable, "-m", "dvc", "exp", "run", "-S", "train.lr=0.05"]
# What is killed: the command, its further environment, and what it makes, of which every byte counts.
KINDS = {
    "repro": (REPRO, {}, ["dvc.lock", "artifacts", "results"]),
    "exp": (EXPERIMENT, {}, ["dvc.lock", "artifacts", "results"]),
    "stage": (BASE, {}, ["artifacts/base"]),
    "nproc": (BASE, {"LT_NPROC": "2"}, ["artifacts/base"]),
    "table": (TABLE, {}, [f"{SPACE}/{name}" for name in ("dvc.lock", "artifacts", "results")]),
    "pack": ([sys.executable, "pack.py"], {"LT_WORKERS": "2"}, ["packs"]),
}
# Those that begin without results; the others in a project whose results are there.
FROM_NOTHING = ("repro", "table", "pack")
# Starts per kill: some commands end before they are to be killed.
TRIES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=[*KINDS])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        lost = storm(Path(folder), args.only, args.kills, random.Random(args.seed))
    print(f"{args.kills} kills, seed {args.seed}: " + ("; ".join(lost) if lost else "nothing lost, the same bytes everywhere"))
    sys.exit(bool(lost))


def storm(folder: Path, kinds: list[str], kills: int, draw: random.Random) -> list[str]:
    """Runs all of it; returns what was lost, in words."""
    plain = prepare(folder / "plain")
    jpeg_tree.write(plain.folder / "images", jpeg_tree.Sizes(classes=4, train=200, imbalance=4, val_per_class=1, test_per_class=5), corrupt=0)
    (plain.folder / "pack.py").write_text(PACK)
    starts = dict.fromkeys(FROM_NOTHING, plain)
    if {*kinds} - {*starts}:
        built = plain.copy(folder / "built")
        built.run(REPRO)
        built.commit("results")
        starts = dict.fromkeys(KINDS, built) | starts
    undisturbed, stormed, took_s = {}, {}, {}
    for kind in kinds:
        whole, stormed[kind] = starts[kind].copy(folder / f"{kind}-whole"), starts[kind].copy(folder / kind)
        began = time.monotonic()
        finish(kind, whole)
        took_s[kind] = time.monotonic() - began
        undisturbed[kind] = hashes(whole.folder, KINDS[kind][2])
        if absent := [name for name in KINDS[kind][2] if not hashes(whole.folder, [name])]:
            raise RuntimeError(f"{kind}: made nothing at {', '.join(absent)}")
    hits, mended, lost, limits_s = Counter(), Counter(), [], dict(took_s)
    for number in range(TRIES * kills):
        if hits.total() == kills:
            break
        kind = min(kinds, key=lambda kind: hits[kind])
        after_s = draw.uniform(0, limits_s[kind])
        hit, found = kill_once(kind, stormed[kind], after_s)
        hits[kind] += hit
        mended.update(found)
        if not hit:  # it has ended: it is compared, and begun anew
            limits_s[kind] = after_s
            lost += compare(kind, stormed[kind], undisturbed[kind])
            stormed[kind] = starts[kind].copy(folder / f"{kind}-{number}")
    lost += [told for kind in kinds for told in compare(kind, stormed[kind], undisturbed[kind])]
    for kind in kinds:
        print(f"{kind:6} killed {hits[kind]} times at work, undisturbed {took_s[kind]:.1f} s")
    print("mended by doctor: " + (", ".join(f"{what} ({count})" for what, count in sorted(mended.items())) or "nothing was to be"))
    return lost + ([f"only {hits.total()} of {kills} kills came in time"] if hits.total() < kills else [])


def kill_once(kind: str, place: Copy, after_s: float) -> tuple[bool, list[str]]:
    """Starts a kind's command, and kills it and all that it has started; whether it was still at work, and what doctor mended."""
    command, further, _ = KINDS[kind]
    if kind == "exp":
        place.edit()
    hit = place.kill(command, after_s, further)
    told = place.doctor()
    if kind == "exp":
        place.find_edit()
    return hit, told


def finish(kind: str, place: Copy) -> None:
    """Lets a kind's command end by itself. An experiment's is followed by the way back, to what was there before."""
    command, further, _ = KINDS[kind]
    place.run(command, further)
    if kind == "exp":
        place.back()
        place.run(REPRO)


def compare(kind: str, place: Copy, expected: dict[str, str]) -> list[str]:
    """What differs from the undisturbed run once the command has ended by itself."""
    try:
        finish(kind, place)
    except subprocess.CalledProcessError as error:
        return [f"{kind}: could not be finished: {(error.stderr or error.stdout)[-500:]}"]
    found = hashes(place.folder, KINDS[kind][2])
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    edits = [f"{kind}: an edit of the user's"] * place.lost_edits
    return edits + ([f"{kind}: {len(differing)} files differ, such as {differing[0]}"] if differing else [])


def hashes(folder: Path, names: list[str]) -> dict[str, str]:
    """sha256 of files, and of all files in folders."""
    files = [file for name in names for file in (folder / name, *(folder / name).rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


if __name__ == "__main__":
    main()
