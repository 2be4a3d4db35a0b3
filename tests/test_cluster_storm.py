"""The storm of tables on a cluster: that it finds what it kills, sees what is lost and half written, and that nothing is."""

import subprocess
import sys
from importlib.util import find_spec
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
import pytest

from benchmarks import cluster_storm
from benchmarks.storm_project import Copy
from tests.conftest import ROOT

PARENT = """
import subprocess, sys, time
sleep = "import time; time.sleep(60)"
idle = "from multiprocessing.spawn import spawn_main; " + sleep
busy = f"import subprocess; from multiprocessing.spawn import spawn_main; subprocess.Popen(['sleep', '60']); print(flush=True); {sleep}"
idler = subprocess.Popen([sys.executable, "-c", idle])
worker = subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE)
worker.stdout.readline()
stage = subprocess.Popen([sys.executable, "-c", sleep, "stages.base", "--seed", "0"])
other = subprocess.Popen([sys.executable, "-c", sleep, "dvc"])
print(worker.pid, stage.pid, other.pid, idler.pid, flush=True)
time.sleep(60)
"""


def test_workers_and_stages_are_found_among_what_a_command_has_started():
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    family = [psutil.Process(process.pid)]
    try:
        worker, stage, *others = map(int, process.stdout.readline().split())
        family += [psutil.Process(worker).children()[0], *(psutil.Process(pid) for pid in (worker, stage, *others))]
        found = {kind: [victim.pid for victim in cluster_storm.victims(family[0], kind)] for kind in cluster_storm.VICTIMS}
        assert found == {"worker": [worker], "stage": [stage], "scheduler": [process.pid]}
    finally:
        for one in family:
            one.kill()
        process.stdout.close()
        process.wait()


def test_what_differs_or_is_half_written_is_told(tmp_path):
    made = tmp_path / cluster_storm.SPACE / "results/base.json"
    made.parent.mkdir(parents=True)
    made.write_text("right")
    expected = cluster_storm.made(tmp_path)
    assert len(expected) == 2 and cluster_storm.compare("table 1", Copy(tmp_path), expected) == []
    made.write_text("wrong")
    assert cluster_storm.compare("table 1", Copy(tmp_path), expected) == [f"table 1: 1 files differ, such as {made.relative_to(tmp_path)}"]
    (made.parent / "few.json.part").write_text("")
    assert cluster_storm.compare("table 1", Copy(tmp_path), expected)[1:] == [f"table 1: {made.parent / 'few.json.part'} is half written"]


def test_the_remote_that_fails_answers_with_errors_until_it_is_stopped():
    with cluster_storm.failing_server() as (port, stop):
        with pytest.raises(HTTPError, match="500"):
            urlopen(f"http://127.0.0.1:{port}/longtail")
        stop()
        with pytest.raises(OSError, match="refused"):
            urlopen(f"http://127.0.0.1:{port}/longtail")


@pytest.mark.slow
@pytest.mark.pipeline
@pytest.mark.skipif(find_spec("distributed") is None, reason="pip install -e '.[cluster]'")
def test_twenty_kills_a_full_disk_and_a_bad_remote_lose_nothing():
    done = subprocess.run([sys.executable, "-m", "benchmarks.cluster_storm", "--kills", "20"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills disk remote, seed 0: nothing lost, the same bytes everywhere" in done.stdout
