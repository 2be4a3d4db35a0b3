"""docs/architecture.md tells the rooms, and who uses them, as dvc.yaml and lt/ have it."""

import re

import yaml

from lt.core.plugins import FUNCTIONS
from tests.conftest import ROOT
from tests.docs.test_commands import modules
from tests.test_architecture import FLOORS, files, imports_of

PAGE = ROOT / "docs/architecture.md"
TEXT = PAGE.read_text(encoding="utf-8")
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def users(room):
    """Stages that depend on a room, or a file of it; the three kinds of evaluation are one."""
    place = re.compile(rf"lt/{room}(\.py|/.*)?")
    deps = {name: (stage.get("do") or stage)["deps"] for name, stage in STAGES.items()}
    return {name.split("_")[0] for name, found in deps.items() if any(place.fullmatch(dep) for dep in found)}


def test_rooms_and_their_users():
    names = {name.split("_")[0] for name in STAGES}
    rows = re.findall(r"^\| (`lt/.*?) \|.*\| (.*?) \|$", TEXT, re.MULTILINE)
    told = {room: used for rooms, used in rows for room in re.findall(r"`lt/(\w+)", rooms)}
    assert told.keys() == {*FLOORS}
    for room, used in told.items():
        without_files = re.sub(r"`[^`]*`", "", used)
        assert users(room) == (names if used == "all" else names & {*re.findall(r"\w+", without_files)}), room


def test_the_picture():
    """Every room stands in it once; none imports one that stands above it, or to its right in its line."""
    lines = re.findall(r"^    (?:beside stages|stages|training|examples|data, numbers|ground) +(.*)$", TEXT, re.MULTILINE)
    order = [room.removesuffix(".py") for line in reversed(lines) for room in line.split()]
    assert sorted(order) == sorted(FLOORS)
    for number, room in enumerate(order):
        for path in files(f"lt/{room}") or [ROOT / f"lt/{room}.py"]:
            later = {found for found in imports_of(path) for other in order[number + 1 :] if re.match(rf"lt\.{other}(\.|$)", found)}
            assert not later, path
    kinds = re.search(r"^    plug-ins +(.*)$", TEXT, re.MULTILINE)[1]
    assert sorted(kinds.split()) == sorted(FUNCTIONS)


def test_every_stage_has_a_line():
    told = re.findall(r"^\| (\w+) \|", TEXT.split("## Rooms")[0], re.MULTILINE)
    assert told == ["stage", *dict.fromkeys(name.split("_")[0] for name in STAGES)]
    assert ("stages.base", ["--seed", "0"]) in modules(PAGE)
