"""The versions that pyproject.toml allows include those of constraints.txt, which names every package that is asked for."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip("tomllib")
ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINNED = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in LINES}
EXTRAS = PROJECT["optional-dependencies"]


@pytest.mark.parametrize("wanted", [*PROJECT["dependencies"], *EXTRAS["test"], *EXTRAS["timm"], *EXTRAS["parquet"]])
def test_the_exact_versions_are_allowed(wanted):
    requirement = Requirement(wanted)
    assert PINNED[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("wanted", [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)])
def test_every_package_has_a_lower_bound(wanted):
    assert [clause.operator for clause in Requirement(wanted).specifier] == [">="]


def test_versions_are_exact_and_sorted():
    assert list(PINNED) == sorted(PINNED) and len(PINNED) == len(LINES) and all(line.count("==") == 1 for line in LINES)
