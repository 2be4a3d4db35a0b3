"""The cluster that --cluster names, of dask.distributed: processes here, a scheduler that runs already, or jobs of a batch system.

local:2                          two workers on this machine
tcp://host:8786, tls://..        the workers of a scheduler that was started with `dask scheduler`
slurm, slurm:8, slurm:file.yaml  jobs of a batch system, by dask-jobqueue: with its own configuration, that and a number of workers,
                                 or the arguments of its SLURMCluster in a YAML file; also pbs, lsf and sge
"""

import contextlib
import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator

from lt.core.yaml_file import read_yaml
from lt.published import likeness, task
from lt.published.engine import EngineError

BATCH = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}
ADDRESSES = ("tcp://", "tls://")
LOOPBACK = "127.0.0.1"
# Of a cluster that is started here. A worker that dies says nothing against its task: jobs end at their time limit, machines are taken away.
ALLOWED_FAILURES = 20
# What jobs print, unless the YAML file says otherwise.
LOGS = Path("runs/.log")
EXPECTED = "local:N, tcp://host:port, tls://host:port, or one of slurm, pbs, lsf and sge, alone, with :N or with :options.yaml"


@dataclass(frozen=True)
class Crew:
    """A cluster at work. client: of distributed    devices: of this machine's GPUs, which its workers share, [] where they see to that

    replace: asks for as many workers as there should be
    """

    client: Any
    devices: list[str]
    replace: Callable[[], None]


def check(where: str) -> str:
    """What --cluster got; ValueError where it names no cluster, or the packages are missing."""
    kind, _, rest = where.partition(":")
    fits = {"local": rest.isdecimal() and int(rest) > 0, **dict.fromkeys(("tcp", "tls"), len(rest) > len("//")), **dict.fromkeys(BATCH, rest != "0")}
    if not fits.get(kind):
        raise ValueError(f"--cluster: got {where!r}, expected {EXPECTED}")
    if kind in BATCH and rest and not rest.isdecimal():
        read_yaml(Path(rest))
    for package in ("distributed", *(["dask_jobqueue"] if kind in BATCH else [])):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"--cluster {kind} needs {package.replace('_', '-')}: pip install -e '.[cluster]'")
    return where


@contextlib.contextmanager
def connected(where: str) -> Iterator[Crew]:
    """The cluster that --cluster names, started where it has to be, and ended again."""
    import dask
    from distributed import Client

    kind, _, rest = where.partition(":")
    with dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_FAILURES, "distributed.scheduler.worker-saturation": 1.0}):
        if where.startswith(ADDRESSES):
            with _reached(where) as client:
                yield Crew(client, [], lambda: None)
        elif kind == "local":
            devices = _devices()
            with _local(int(rest), bool(devices)) as cluster, Client(cluster) as client:
                yield Crew(client, devices, lambda: None)
        else:
            count, arguments = _arguments(kind, rest)
            with _batch(kind, arguments) as cluster, Client(cluster) as client:
                cluster.scale(count)
                yield Crew(client, [], lambda: cluster.scale(count))


def _reached(address: str) -> Any:
    from distributed import Client

    try:
        return Client(address)
    except (OSError, ValueError) as error:
        raise EngineError(f"no scheduler answers at {address} ({str(error).splitlines()[0]}); start one: dask scheduler") from None


def _local(count: int, on_gpus: bool) -> Any:
    """Workers on this machine, which nobody else reaches."""
    from distributed import LocalCluster

    try:
        return LocalCluster(
            n_workers=count, threads_per_worker=1, host=LOOPBACK, dashboard_address=f"{LOOPBACK}:0", memory_limit=0,
            resources={"GPU": 1} if on_gpus else {},
        )  # fmt: skip
    except RuntimeError as error:
        raise EngineError(f"the workers did not start ({error}); give the same command again to continue") from None


def _devices() -> list[str]:
    """Numbers of this machine's GPUs, those of CUDA_VISIBLE_DEVICES where that is set; [] where there is none."""
    if shutil.which("nvidia-smi") is None:  # it comes with the driver, and importing torch takes seconds
        return []

    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def _arguments(kind: str, rest: str) -> tuple[int, dict[str, Any]]:
    """How many workers, and further arguments for dask-jobqueue, of what follows slurm: on the command line."""
    if not rest or rest.isdecimal():
        return int(rest or 1), {}
    found = {key.replace("-", "_"): value for key, value in read_yaml(Path(rest)).items()}
    count = found.pop("n_workers", 1)
    if type(count) is not int or count < 1:
        raise ValueError(f"{rest}, n_workers: got {count!r}, expected how many workers {kind} shall run at a time")
    return count, found


def _batch(kind: str, arguments: dict[str, Any]) -> Any:
    """A cluster of dask-jobqueue, without workers yet."""
    import dask
    import dask_jobqueue

    found = getattr(dask_jobqueue, BATCH[kind])
    program = found.job_cls.submit_command.split()[0]
    if shutil.which(program) is None:
        raise EngineError(f"--cluster {kind}: there is no {program} on this machine; give the command where jobs are submitted")
    if "log_directory" not in arguments and not dask.config.get(f"jobqueue.{kind}.log-directory", None):
        LOGS.mkdir(parents=True, exist_ok=True)
        arguments = arguments | {"log_directory": str(LOGS.resolve())}
    try:
        return found(**arguments)
    except TypeError as error:
        raise ValueError(f"--cluster {kind}: {error}") from None


def check_workers(crew: Crew, dataset: str) -> bool:
    """Compares the workers that are there with this command; returns whether they have GPUs as a resource.

    dataset: whose index counts. EngineError where a worker has no, or another, package, or other versions.
    """
    code, wanted = likeness.digest(Path(), dataset), likeness.versions()
    try:
        found = crew.client.run(task.describe, dataset)
    except Exception as error:  # distributed raises what the worker did, or a plain Exception with its words
        raise EngineError(f"a worker cannot do this project's work: {error}; install the project there: pip install -e '.[cluster]'") from None
    for worker in found.values():
        likeness.check_versions(wanted, worker["versions"], worker["where"])
        if worker["code"] != code:
            raise likeness.other_code(worker["where"], dataset)
    return any(worker["gpus"] for worker in found.values())
