"""The last sections: seconds and memory of each stage, and where the numbers come from."""

import subprocess
import sys
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lt.core import artifacts
from lt.core.files import sha256
from lt.core.params import AXES, PATH
from lt.core.schemas import IndexFile
from lt.core.subset import Subset
from lt.data import index
from lt.page.parts import plain_table
from lt.page.sources import Sources
from lt.report.words import in_words

LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "safetensors", "pydantic", "dvc")


def costs(sources: Sources) -> str:
    """Seconds, memory and device of every stage's last runs here, one line per stage."""
    found = sources.costs
    if not found:
        return '<p class="absent">No stage has run on this machine: seconds and memory are noted where a stage runs.</p>'
    lines = []
    longest = max(sum(cost["seconds"] for cost in runs) for runs in found.values())
    for stage, runs in found.items():
        total = sum(cost["seconds"] for cost in runs)
        slowest = max(runs, key=lambda cost: cost["seconds"])
        gpu = max((cost.get("peak_gpu_mib") or 0 for cost in runs), default=0)
        bar = f'<span class="meter" style="--share:{100 * total / max(longest, 1e-9):.1f}%">{in_words(total)}</span>'
        name = " ".join(part for part in slowest["arguments"] if not part.startswith("-"))
        detail = f"{in_words(slowest['seconds'])}{f' ({escape(name)})' if len(runs) > 1 else ''}"
        memory = f"{max(cost['peak_rss_mib'] for cost in runs):,}"
        devices = ", ".join(sorted({cost.get("device", "") for cost in runs}))
        lines.append([stage, str(len(runs)), bar, detail, memory, f"{gpu:,}" if gpu else "–", escape(devices)])
    note = (
        "<p>Last run of each stage on this machine, without its imports; of a run that continued a killed one, the last part. "
        "Where DVC took a result from its cache, the stage did not run, and the note is that of its last real run here.</p>"
    )
    return note + plain_table(["stage", "runs", "time in all", "slowest run", "memory, MiB", "GPU memory, MiB", "device"], lines)


def origins(sources: Sources) -> str:
    """Hashes, versions and the git commit, and params.yaml in full."""
    context, subset = sources.context, sources.subset
    data, drawn = context.get("data", "unknown"), context.get("subset", "unknown")
    if subset:
        data, drawn = subset.raw_sha256 + _index_depth(subset), subset.sha256
    entries = {
        "data set": f"{context['dataset']}, raw data {data}",
        "subset": f"{drawn}, imbalance {context['imbalance']}",
        "settings": ", ".join(f"{axis} {context[axis]}" for axis in AXES if axis != "dataset"),
        "seeds": context["seeds"],
        "git commit": commit(),
        "dvc.lock": _file_sha(Path("dvc.lock")),
        "versions, training": _training_versions(sources) or "not noted on this machine",
        "versions, here": ", ".join(f"{name} {number}" for name, number in here().items()),
    }
    items = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in entries.items())
    text = PATH.read_text(encoding="utf-8") if PATH.is_file() else ""
    return f"<dl>{items}</dl><details><summary>params.yaml</summary><pre>{escape(text)}</pre></details>"


def _index_depth(subset: Subset) -> str:
    """What the index of the raw data holds, where it is still that of the subset."""
    path = index.index_path(subset.dataset)
    try:
        found = artifacts.read_json(path, IndexFile) if index.fingerprint(subset.dataset) == subset.raw_sha256 else None
    except (ValueError, OSError):
        return ""
    return f", a hash of {index.depth(found)}" if found else ""


def commit() -> str:
    """Commit, its date, and whether tracked files differ from it; in words where there is no git repository."""
    try:
        last = _git("log", "-1", "--format=%H, %cs")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "not in a git repository"
    return last if not changed else f"{last}; tracked files differ from it"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def here() -> dict[str, str]:
    """Versions of Python and of the libraries in this environment, from their metadata: nothing is imported."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _training_versions(sources: Sources) -> str:
    runs = [cost for costs in sources.costs.values() for cost in costs if cost.get("torch")]
    return "; ".join(sorted({f"torch {cost['torch']}, python {cost.get('python')}" for cost in runs}))


def _file_sha(path: Path) -> str:
    return f"sha256 {sha256(path)}" if path.is_file() else "none: the stages were run without DVC"
