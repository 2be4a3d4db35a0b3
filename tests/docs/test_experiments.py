"""The block of docs/experiments.md, pasted into a project that has its first table."""

import json

import pytest

from tests.conftest import ROOT
from tests.docs.markdown import blocks

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


@pytest.fixture(scope="module")
def pasted(project):
    """A project of the rows that the block names, the reported one as in params.yaml, after it; stops at a command that fails."""
    project.keep(["crt", "balms"], [])
    project.set({"report.row": "balms"})
    project.git("commit", "-qam", "rows")
    project.dvc("repro")
    project.git("config", "user.name", "test")
    project.git("config", "user.email", "test@example.org")
    project.printed = project.run("bash", "-ec", blocks(ROOT / "docs/experiments.md", "sh")[0]).stdout
    return project


def test_every_experiment_has_what_its_line_says_and_no_more(pasted):
    shown = json.loads(pasted.dvc("exp", "show", "--json").stdout)
    found = {}
    for revision in shown:
        for experiment in revision.get("experiments") or []:
            state = experiment["revs"][0]
            found[state["name"]] = state["data"]
    values = {name: data["params"]["params.yaml"]["data"] for name, data in found.items()}
    told = {name: (each["loss"], each["report"]["row"], each["methods"]["crt"]["lr"], each["seeds"]) for name, each in values.items()}
    assert told == {
        "crt": ("ce", "crt", 0.1, [0]), "bayias": ("bayias", "balms", 0.1, [0]), "crt_lr": ("ce", "balms", 0.05, [0]),
        "seeds": ("ce", "balms", 0.1, [0, 1, 2]),
    }
    reported = {name: data["metrics"]["results/metrics.json"]["data"] for name, data in found.items()}
    assert {name: (row["loss"], row["row"]) for name, row in reported.items()} == {
        "crt": ("ce", "crt"), "bayias": ("bayias", "balms"), "crt_lr": ("ce", "balms"), "seeds": ("ce", "balms")
    }


def test_it_ends_at_the_first_table(pasted):
    """dvc.lock may still name the stages of seeds that are gone."""
    assert pasted.git("status", "--porcelain", "params.yaml", "results") == ""
    assert "Running stage 'base@0'" not in pasted.printed.split("Running stage 'base@2'")[1]
