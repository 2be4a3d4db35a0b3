"""Tables on a cluster, without one: what --cluster takes, which jobs there are and in which order, and what is told of them."""

import importlib.util
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from lt.core import params
from lt.core.yaml_file import read_yaml
from lt.published import cluster, crew, jobs, likeness, recipes, task
from lt.published.engine import EngineError, dvc, repro
from lt.published.hold import InUse, held
from lt.published.progress import Progress
from lt.published.workspace import Changes, Collected, Workspace
from tests.conftest import ROOT

RECIPES = recipes.read_all(ROOT / "recipes")
SHIPPED = params.read_yaml(ROOT / "params.yaml")
GRAPH = read_yaml(ROOT / "dvc.yaml")["stages"]


def content(name: str) -> dict:
    return recipes.expand(RECIPES[name], SHIPPED)


@pytest.fixture
def with_packages(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.parametrize("where", ["local:2", "tcp://host:8786", "tls://host:8786", "slurm", "slurm:8", "pbs", "lsf:2", "sge:1"])
def test_a_cluster_has_a_name(where, with_packages):
    assert cluster.check(where) == where


@pytest.mark.parametrize("where", ["", "local", "local:0", "local:two", "tcp:", "tcp://", "host:8786", "slurm:0", "kubernetes"])
def test_what_names_no_cluster_is_told(where, with_packages):
    with pytest.raises(ValueError, match="--cluster: got .*expected local:N"):
        cluster.check(where)


def test_a_file_of_options_is_read_and_a_missing_one_told(tmp_path, with_packages):
    path = tmp_path / "options.yaml"
    with pytest.raises(ValueError, match="options.yaml"):
        cluster.check(f"slurm:{path}")
    path.write_text("n_workers: 3\ncores: 1\njob-extra-directives: [--gres=gpu:1]\nwalltime: 01:00:00\n")
    wanted = {"cores": 1, "job_extra_directives": ["--gres=gpu:1"], "walltime": "01:00:00"}
    assert cluster._arguments("slurm", str(path)) == (3, wanted)
    assert cluster._arguments("slurm", "8") == (8, {}) and cluster._arguments("slurm", "") == (1, {})
    path.write_text("n_workers: none\n")
    with pytest.raises(ValueError, match="n_workers: got 'none', expected how many"):
        cluster._arguments("slurm", str(path))


def test_packages_that_are_missing_are_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "dask_jobqueue" else object())
    cluster.check("local:1")
    with pytest.raises(ValueError, match=r"needs dask-jobqueue: pip install -e '.\[cluster\]'"):
        cluster.check("slurm")


def test_a_table_has_a_job_for_each_recipe_and_seed(monkeypatch):
    monkeypatch.chdir(ROOT)
    names = ("cifar100_if100_plain", "cifar100_if100_balms", "cifar100_if100_over_balance")
    spaces = [Workspace(name, content(name)) for name in names]
    found = jobs.plan(spaces, {names[0]: [0, 1], names[1]: [0, 1], names[2]: [1, 2]}, ["base", "crt", "balms"])
    assert [(job.name, job.after) for job in found] == [
        ("cifar100_if100_plain@0", None), ("cifar100_if100_plain@1", None),
        ("cifar100_if100_balms@0", None), ("cifar100_if100_balms@1", None),
        ("cifar100_if100_over_balance@1", "cifar100_if100_balms@1"), ("cifar100_if100_over_balance@2", None),
    ]  # fmt: skip
    assert found[1].trained == {"base": "base@1", "crt": "retrain@crt-1", "balms": "retrain@balms-1"}
    assert [job.name for job in jobs.plan(spaces, dict.fromkeys(names, [0]), ["tau_norm"])] == ["cifar100_if100_plain@0"]


def test_recipes_have_the_same_base_where_all_that_it_depends_on_is_the_same():
    base = content("cifar100_if100_balms")
    assert jobs.base_of(base, GRAPH) == jobs.base_of(content("cifar100_if100_over_balance"), GRAPH)
    assert jobs.base_of(base | {"methods": {}, "features": {"views": 1}, "evaluate": {}}, GRAPH) == jobs.base_of(base, GRAPH)
    for other in ({"imbalance": 50}, {"train": base["train"] | {"lr": 1.0}}, {"losses": base["losses"] | {base["loss"]: {"tau": 9.0}}}):
        assert jobs.base_of(base | other, GRAPH) != jobs.base_of(base, GRAPH)


def entry(cmd: str, deps: list[str], outs: list[str]) -> dict:
    return {"cmd": f"python -m stages.{cmd}", "deps": [{"path": path} for path in deps], "outs": [{"path": path} for path in outs]}


def test_a_seed_is_due_where_a_training_is_missing_or_rests_on_what_has_changed():
    space = Workspace("a", {"methods": {"crt": {}}, "teachers": {}})
    made = {}
    for seed in "01":
        made[f"base@{seed}"] = entry(f"base --seed {seed}", [], [f"artifacts/base/{seed}"])
        made[f"retrain@crt-{seed}"] = entry(f"retrain crt --seed {seed}", [f"artifacts/base/{seed}"], [f"artifacts/retrain/crt/{seed}"])

    def due(rows, **changed):
        changes = {name.replace("_", "@"): Changes(what, [], []) for name, what in changed.items()}
        return jobs.due(space, Collected(made, {}, changes, [0, 1]), rows, [0, 1, 2])

    assert due(["base", "crt"]) == due(["base"]) == [2]
    assert due(["crt"], base_1=["train"]) == [1, 2], "it rests on a base that is out of date"
    assert due(["crt"], base_1=[]) == [2], "only its output is gone, which the cache has"
    del made["retrain@crt-0"]
    assert due(["crt"]) == [0, 2] and due(["base"]) == [2]


def test_what_is_told_of_jobs(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("lt.published.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    progress = Progress(["a@0", "a@1", "b@0"], "http://here/status")

    def told():
        return capsys.readouterr().out.splitlines()

    assert told() == ["3 trainings on the cluster; dashboard: http://here/status"]
    for name, worker in (("a@0", "tcp://one"), ("a@1", "tcp://two")):
        progress.note({"what": "began", "job": name, "worker": worker})
    progress.note({"what": "told", "job": "a@1", "worker": "tcp://two", "line": "base@1 3.0 s"})
    assert told() == ["a@0: begins on tcp://one", "a@1: begins on tcp://two", "a@1: base@1 3.0 s"]
    progress.look({"tcp://one", "tcp://two"})
    now[0] = 60.0
    progress.end("a@0", failed=False)
    assert told() == ["a@0 done (1 done, 1 running, 0 failed, 1 waiting; about 1 min 0 s left)"], "one is due, the other waits"
    progress.look({"tcp://one"})
    assert told() == ["a@1: its worker tcp://two is gone, another one takes it up (1 done, 0 running, 0 failed, 2 waiting; about 2 min 0 s left)"]
    progress.end("a@1", failed=True)
    assert told() == ["a@1 failed (1 done, 0 running, 1 failed, 1 waiting; about 1 min 0 s left)"]
    progress.end("b@0", failed=False)
    assert told() == ["b@0 done (1 done, 0 running, 1 failed, 0 waiting)"]


def test_a_job_that_begins_again_before_anyone_looks_is_told(capsys):
    progress = Progress(["a@0"], "http://here/status")
    for worker in ("tcp://one", "tcp://one", "tcp://two"):
        progress.note({"what": "began", "job": "a@0", "worker": worker})
    gone = "a@0: its worker tcp://one is gone, another one takes it up (0 done, 0 running, 0 failed, 1 waiting)"
    assert capsys.readouterr().out.splitlines()[1:] == [*["a@0: begins on tcp://one"] * 2, gone, "a@0: begins on tcp://two"]
    progress.look({"tcp://two"})
    assert not capsys.readouterr().out


def test_workers_that_do_not_start_are_told(monkeypatch):
    distributed = pytest.importorskip("distributed", reason="pip install -e '.[cluster]'")

    def fail(**options):
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(distributed, "LocalCluster", fail)
    with pytest.raises(EngineError, match=r"did not start \(Nanny failed to start.\); give the same command again to continue"):
        cluster._local(2, on_gpus=False)


def test_a_lost_scheduler_and_a_task_that_no_worker_survives_are_told():
    job = jobs.Job(Workspace("a", {}), 0, {})
    with pytest.raises(EngineError, match="scheduler is gone; give the same command again"):
        crew._outcome(job, SimpleNamespace(status="cancelled"))
    killed = SimpleNamespace(status="error", exception=lambda: RuntimeError("21 workers died"))
    assert crew._outcome(job, killed) == {"job": "a@0", "made": [], "notes": {}, "failed": {"": "  21 workers died"}}


def test_a_job_whose_base_has_failed_for_another_recipe_does_not_train_it_again():
    before = {"job": "a@1", "made": [], "failed": {"base@1": "  no memory"}, "notes": {}}
    found = task.run({"name": "b@1", "seed": 1}, before)
    assert found["failed"] == {"base@1": "  it failed for a@1, which has the same base"} and found["made"] == []


def test_a_training_has_the_commands_variables_a_share_of_the_cpus_and_a_gpu_of_its_own(monkeypatch):
    system = pytest.importorskip("dask.system", reason="pip install -e '.[cluster]'")
    monkeypatch.setattr(system, "CPU_COUNT", 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as dask's nanny sets it
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    worker = SimpleNamespace(name="3", state=SimpleNamespace(nthreads=2))
    found = task._environment({"environment": {"LT_NPROC": "2"}, "devices": ["4", "5"]}, worker)
    assert (found["OMP_NUM_THREADS"], found["LT_NPROC"], found["CUDA_VISIBLE_DEVICES"]) == ("4", "2", "5") and "MKL_NUM_THREADS" not in found
    given = task._environment({"environment": {"OMP_NUM_THREADS": "3"}, "devices": []}, worker)
    assert given["OMP_NUM_THREADS"] == "3" and given.get("CUDA_VISIBLE_DEVICES") == os.environ.get("CUDA_VISIBLE_DEVICES")


def test_of_a_killed_job_only_states_costs_and_logs_are_kept(tmp_path):
    for name in (".resume/base.pt", ".cost/base.json", ".log/repro.txt", ".lock", "dvc.lock", ".dvc/tmp/rwlock", "artifacts/base/0/weights"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    task._clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".resume", ".cost", ".log", ".lock"} == {*task.KEPT}
    assert (tmp_path / ".resume/base.pt").is_file()


def test_a_worker_takes_the_code_of_the_tables_workspace_or_of_its_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place, text in (("runs/a", "then"), (".", "now")):
        Path(place, "lt").mkdir(parents=True)
        Path(place, "lt/x.py").write_text(text)
    job = {"table": "a", "content": {"dataset": "digits"}}
    assert task._source(job | {"code": likeness.digest(Path("runs/a"), "digits")}, "here") == Path("runs/a")
    assert task._source(job | {"code": likeness.digest(Path(), "digits")}, "here") == Path()
    with pytest.raises(EngineError, match="node7 has other code than the command, or another data/digits.json"):
        task._source(job | {"code": "0123"}, "node7")


def test_a_worker_is_like_the_command_or_told_how_it_differs(tmp_path):
    folder, index = tmp_path / "project", "data/digits.json"
    for name in ("lt/core", "stages", "data"):
        (folder / name).mkdir(parents=True)
    for name in ("lt/core/a.py", "stages/b.py", "dvc.yaml", ".dvcignore", index, "lt/page.css"):
        (folder / name).write_text(name)
    same = shutil.copytree(folder, tmp_path / "same")
    (same / "lt/__pycache__").mkdir()
    (same / "lt/__pycache__/a.pyc").write_text("compiled")
    (same / "README.md").write_text("edited")
    assert likeness.digest(same, "digits") == likeness.digest(folder, "digits")
    for name in ("lt/core/a.py", "lt/page.css", "dvc.yaml", index):
        other = shutil.copytree(folder, tmp_path / name.replace("/", "_"))
        (other / name).write_text("edited")
        assert likeness.digest(other, "digits") != likeness.digest(folder, "digits"), name
    ours = likeness.versions()
    likeness.check_versions(ours, ours, "worker 1")
    with pytest.raises(EngineError, match="worker 1 has other versions than the command: torch 1.0 instead of"):
        likeness.check_versions(ours, ours | {"torch": "1.0"}, "worker 1")


def test_a_folder_that_was_removed_while_one_waited_for_it_is_not_held(tmp_path, monkeypatch):
    folder = tmp_path / "runs/a@0"
    with held(folder):
        with pytest.raises(InUse, match="is in use by another command"), held(folder):
            pass
    with held(folder):
        pass
    import fcntl

    # Between the opening of the file and its lock, another command has ended and has taken the folder away.
    monkeypatch.setattr(fcntl, "flock", lambda file, how: shutil.rmtree(folder))
    with pytest.raises(InUse), held(folder):
        pass


@pytest.mark.slow
@pytest.mark.pipeline
def test_stages_that_fail_leave_those_that_do_not_need_them(tmp_path, monkeypatch):
    def stage(cmd, *deps):
        return {"cmd": cmd, "deps": list(deps), "outs": [cmd.rsplit(" ", 1)[-1]]}

    stages = {
        "a": stage("echo a > a"), "b": stage("echo bad news >&2; exit 3; > b", "a"), "c": stage("echo c > c", "b"),
        "d": stage("echo d > d", "a"), "e": stage("echo worse; exit 4; > e", "a"),
    }  # fmt: skip
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    dvc(tmp_path, "init", "--no-scm", "--quiet")
    told = []
    with pytest.raises(EngineError, match="b failed; the last lines of .*repro.txt:\n(.*\n)*.*bad news") as failure:
        repro(tmp_path, "--keep-going", "c", "d", "e", show=told.append)
    assert [line.split()[0] for line in told] == ["a", "d"]
    assert {stage: (" news" in last, "worse" in last) for stage, last in failure.value.failed.items()} == {"b": (True, False), "e": (False, True)}
    assert (tmp_path / "d").is_file() and not (tmp_path / "c").exists()
