"""Kills workers, schedulers and stages of tables on a cluster at random moments, fills the cache's disk, lets the remote answer with
errors, gives the same command again, and compares what comes out with a table without a cluster, byte by byte.

python -m benchmarks.cluster_storm --kills 20 [--seed 0] [--only kills disk remote]

Of small copies of this project, in a temporary folder, with two workers on this machine, whose scheduler is in the command itself:
killing that is killing both. After every command that has failed `python -m stages.doctor --mend` clears what DVC was left with.
disk needs root and Linux (a tmpfs), remote needs pip install -e '.[s3,test_engines]'. The exit code is 1 where something was lost.
"""

import contextlib
import http.server
import logging
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Callable, Iterator

import psutil

from benchmarks.storm import hashes
from benchmarks.storm_project import Copy, prepare
from lt.core.command import command_line
from lt.published import lock

TABLE = [sys.executable, "-m", "stages.table", "digits_causal", "--rows", "base", "--budget", "0.05", "--seeds", "0", "1"]
CLUSTER = ["--cluster", "local:2"]
SPACE = "runs/digits_causal_budget0.05"
MADE = [f"{SPACE}/{name}" for name in ("artifacts", "results")]
# Words that the command line of a process has, by what is killed; of the command, all that it has not started counts.
VICTIMS = {"worker": "spawn_main", "stage": "stages.", "scheduler": "stages.table"}
GOES_ON = "give the same command again"
# Until the next kill at most, as a part of the time that an undisturbed table takes.
PAUSE = 0.25
# Seconds until what a killed command has left at work has saved its state.
LEFT_S = 120.0
# Times that the command is given again before it counts as lost.
TRIES = 6
FILLED_MIB = 64


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=("kills", "disk", "remote"), default=["kills", "disk", "remote"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cluster-storm-") as folder:
        plain = prepare(Path(folder) / "plain")
        whole = plain.copy(Path(folder) / "whole")
        began_s = time.monotonic()
        whole.run(TABLE)
        took_s = time.monotonic() - began_s
        expected = made(whole.folder)
        lost = []
        if "kills" in args.only:
            lost += kills(plain, expected, args.kills, random.Random(args.seed), took_s)
        if "disk" in args.only:
            lost += full_disk(plain.copy(Path(folder) / "disk"), expected)
        if "remote" in args.only:
            lost += bad_remote(plain.copy(Path(folder) / "remote"), expected)
    print(f"{' '.join(args.only)}, seed {args.seed}: " + ("; ".join(lost) if lost else "nothing lost, the same bytes everywhere"))
    sys.exit(bool(lost))


def kills(plain: Copy, expected: dict[str, str], count: int, draw: random.Random, took_s: float) -> list[str]:
    """Kills this many, of each kind as many, in as many tables as that takes; returns what was lost. took_s: an undisturbed table"""
    hits, lost, tables = Counter(dict.fromkeys(VICTIMS, 0)), [], 0
    while hits.total() < count and not lost:
        place = plain.copy(plain.folder.with_name(f"kills-{tables}"))
        tables += 1
        for _ in range(TRIES + count):
            status, told = disturbed(place, draw, hits, count, took_s)
            if status == 0:
                break
            lost += [] if status < 0 or GOES_ON in told else [f"no clear last line: {told[-300:]!r}"]
            tidy(place)
        lost += compare(f"table {tables}", place, expected)
    print(f"{tables} tables, an undisturbed one took {took_s:.0f} s; killed: " + ", ".join(f"{kind} {number}" for kind, number in hits.items()))
    return lost


def disturbed(place: Copy, draw: random.Random, hits: Counter, most: int, took_s: float) -> tuple[int, str]:
    """Runs the command while its parts are killed, one at a time and at random moments: its status, below 0 where it was killed itself,
    and what it said."""
    with open(place.folder / "told", "w+", encoding="utf-8") as told:
        process = subprocess.Popen([*TABLE, *CLUSTER], cwd=place.folder, env=place.environment({}), stdout=told, stderr=told, start_new_session=True)
        due_s, kind = time.monotonic() + draw.uniform(0, PAUSE * took_s), min(hits, key=hits.get)
        while process.poll() is None and hits.total() < most:
            time.sleep(0.2)
            if time.monotonic() < due_s:
                continue
            with contextlib.suppress(psutil.NoSuchProcess):
                found = victims(psutil.Process(process.pid), kind)
                if not found:
                    continue
                draw.choice(found).kill()
                hits[kind] += 1
                print(f"killed {kind}, {hits.total()} of {most}", flush=True)
                due_s, kind = time.monotonic() + draw.uniform(0, PAUSE * took_s), min(hits, key=hits.get)
        process.wait()
        told.seek(0)
        return process.returncode, told.read()


def victims(command: psutil.Process, kind: str) -> list[psutil.Process]:
    """What there is of a kind to be killed, in the order of its processes: of workers those that have a task."""
    if kind == "scheduler":
        return [command]
    found = []
    for process in command.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            is_one = any(word.startswith(VICTIMS[kind]) or f"import {VICTIMS[kind]}" in word for word in words)
            if is_one and (kind == "stage" or process.children()):
                found.append(process)
    return found


def full_disk(place: Copy, expected: dict[str, str]) -> list[str]:
    """A cache on a disk that is full after the first minutes: the command says so, and goes on when there is room."""
    if os.name != "posix" or os.geteuid() or not sys.platform.startswith("linux"):
        print("disk: left out, it takes root on Linux to mount a tmpfs")
        return []
    cache = place.folder / "cache"
    cache.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={FILLED_MIB}m", "tmpfs", cache], check=True)
    try:
        place.run([sys.executable, "-m", "dvc", "cache", "dir", "--local", str(cache)])
        with open(cache / "filler", "wb") as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(2**16))
                filler.flush()
        os.truncate(cache / "filler", (cache / "filler").stat().st_size - 2**17)
        return recovers("disk", place, expected, "No space left", (cache / "filler").unlink)
    finally:
        subprocess.run(["umount", "--lazy", cache], check=True)


def bad_remote(place: Copy, expected: dict[str, str]) -> list[str]:
    """A remote that answers with errors: the command says so, and goes on when it is well again."""
    try:
        from moto.server import ThreadedMotoServer
    except ImportError:
        print("remote: left out, it needs pip install -e '.[s3,test_engines]'")
        return []
    with failing_server() as (port, stop):
        settings = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "2"}
        os.environ.update(settings)
        for arguments in (["add", "--default", "store", "s3://longtail/store"], ["modify", "store", "endpointurl", f"http://127.0.0.1:{port}"]):
            place.run([sys.executable, "-m", "dvc", "remote", *arguments])
        server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # or each request is told

        def mend() -> None:
            stop()
            server.start()
            import boto3

            boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}").create_bucket(Bucket="longtail")

        try:
            return recovers("remote", place, expected, "500", mend)
        finally:
            server.stop()


@contextlib.contextmanager
def failing_server() -> Iterator[tuple[int, Callable[[], None]]]:
    """A server that answers everything with status 500: its port, and how it is stopped."""

    class Failing(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    yield server.server_port, stop


def recovers(what: str, place: Copy, expected: dict[str, str], reason: str, mend: Callable[[], None]) -> list[str]:
    """Runs the command into a failure, mends the cause, and gives it again; returns what was wrong with that."""
    done = place.run([*TABLE, *CLUSTER], check=False)
    said = done.stdout + done.stderr
    wrong = [f"{what}: status {done.returncode}"] * (done.returncode != 1)
    wrong += [f"{what}: {word!r} is not in what was said: {said[-500:]}" for word in (reason, GOES_ON) if word not in said]
    mend()
    tidy(place)
    done = place.run([*TABLE, *CLUSTER], check=False)
    print(f"{what}: failed with a clear last line, and went on" if not wrong else f"{what}: {wrong}")
    return wrong + compare(what, place, expected) if done.returncode == 0 else [*wrong, f"{what}: did not go on: {done.stderr[-500:]}"]


def tidy(place: Copy) -> None:
    """Waits until what a command has left at work has ended, and lets doctor mend what DVC was left with."""
    end = time.monotonic() + LEFT_S
    while at_work(place.folder) and time.monotonic() < end:
        time.sleep(0.5)
    place.doctor()


def at_work(folder: Path) -> list[psutil.Process]:
    """Processes in a folder or below."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def compare(what: str, place: Copy, expected: dict[str, str]) -> list[str]:
    """What differs from a table without a cluster, and what is left half written."""
    found = made(place.folder)
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    half = [str(path) for path in (place.folder / "runs").rglob("*.part")]
    return ([f"{what}: {len(differing)} files differ, such as {differing[0]}"] if differing else []) + [f"{what}: {path} is half written" for path in half]


def made(folder: Path) -> dict[str, str]:
    """sha256 of all that a table's numbers are made of, and of what dvc.lock says of it, whose order is that in which things were made."""
    entries = lock.read(folder / SPACE)
    return hashes(folder, MADE) | {f"{SPACE}/dvc.lock": lock.key(entries)}


if __name__ == "__main__":
    main()
