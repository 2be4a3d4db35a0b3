"""Desks on which tables are made."""

import pytest

from tests.published.desk import TINY, Desk


@pytest.fixture
def desk(tmp_path, monkeypatch):
    return Desk(tmp_path, monkeypatch)


@pytest.fixture
def base_only(desk):
    """A desk whose recipe has a base and one method: fewer stages, where the others do not matter."""
    desk.recipe(TINY | {"overrides": TINY["overrides"] | {"methods": {"crt": {"steps": 20}}, "teachers": {}}})
    return desk
