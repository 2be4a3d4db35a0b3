"""Any bytes, any YAML, any JSON: a value or an error in words, soon, and never a traceback."""

import json
import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lt.check import mistakes
from lt.core import files, params
from lt.core.yaml_file import YamlError
from lt.evaluate import label_shift
from lt.network import weights_file
from tests.conftest import ROOT

any_input = settings(deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
SHIPPED = (ROOT / "params.yaml").read_text()
CONTENT = params.read_yaml(ROOT / "params.yaml")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4), max_leaves=12,
)
TAGS = ("int", "float", "bool", "null", "timestamp", "binary", "set", "omap", "pairs", "seq", "map", "str", "merge", "value", "python/none")
TEXTS = st.text(max_size=12) | st.sampled_from(["''", "maybe", "2020-99-99", "[1]", "{a: 1}"])
YAML = st.builds(lambda tag, text: f"a: !!{tag} {text}\n", st.sampled_from(TAGS), TEXTS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


@any_input
@given(st.binary(max_size=60) | YAML.map(str.encode) | st.text(max_size=60).map(lambda text: text.encode(errors="replace")))
def test_any_yaml(path, content):
    path.write_bytes(content)
    try:
        assert isinstance(params.read_yaml(path), dict)
    except YamlError as error:
        assert str(path) in str(error) and len(str(error).splitlines()) == 1


@any_input
@given(st.integers(0, len(SHIPPED)), st.integers(0, 30), st.text(max_size=10))
def test_any_edit_of_the_shipped_params(path, place, length, text):
    path.write_text(SHIPPED[:place] + text + SHIPPED[place + length :], encoding="utf-8", errors="replace")
    try:
        mistakes.load(path)
    except YamlError as error:
        assert str(path) in str(error)


@any_input
@given(st.sampled_from([line.strip().split(":")[0] for line in SHIPPED.splitlines() if line and line[0].isalpha()]), JSON)
def test_any_value_of_any_key_of_params(path, key, value):
    path.write_text(json.dumps(CONTENT | {key: value}))
    try:
        mistakes.load(path)
    except YamlError as error:
        assert str(path) in str(error)


@any_input
@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40))
def test_any_prior(path, content):
    path.write_bytes(content)
    try:
        assert abs(label_shift.read_prior(path, ("a", "b")).sum() - 1) < 1e-9
    except ValueError as error:
        assert str(path) in str(error)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    "text, told",
    [
        (BOMB, "line 6: .*more than 100000 values"),
        ("a: &a [*a]", "line 1: .*an alias inside what it stands for"),
        ("a: 1\nb: 2\na: 3\n", "line 3: .*key 'a' stands twice, first in line 1"),
        ("{a: 1, a: 2}", "line 1: .*key 'a' stands twice"),
        ("b:\n  c: 1\n  c: 1\n", "line 3: .*key 'c' stands twice, first in line 2"),
        ("x: 1\n2: 1", "line 2: .*got the key '2', which is no text"),
        ("null: 1", "line 1: .*got the key 'None', which is no text"),
        ("? [a]\n: 1", "line 1: .*which is no text"),
        ("x: 1\na: !!float ''", "line 2: .*got '', which is no float"),
        ("a: !!bool maybe", "line 1: .*'maybe', which is no bool"),
        ("a: !!timestamp 2020-99-99", "line 1: .*which is no timestamp"),
        ("a: !!timestamp x", "line 1: .*which is no timestamp"),
        ("a: " + "9" * 5000, "line 1: .*which is no int"),
        ("a: [1", "line 1: not valid YAML"),
        ("a: !!python/object:os.system {}", "line 1: not valid YAML"),
        ("[" * 3000, "too deep"),
        ("a: \x07", "character 4"),
    ],
)
def test_traps_of_yaml_are_told_with_their_line(path, text, told):
    path.write_text(text)
    start = time.monotonic()
    with pytest.raises(YamlError, match=told) as error:
        mistakes.load(path)
    assert time.monotonic() - start < 10  # a hang, not a speed bar
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_aliases_of_a_reasonable_size_are_read(path):
    path.write_text("a: &a {x: 1}\nb: *a\nc: [*a, *a]\n")
    assert params.read_yaml(path) == {"a": {"x": 1}, "b": {"x": 1}, "c": [{"x": 1}] * 2}


READERS = {
    "params": params.read_yaml,
    "a prior": lambda path: label_shift.read_prior(path, ("a",)),
    "weights": lambda path: weights_file.read(f"{path}@sha256:123456789abc", "models.resnet50.weights"),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a folder"])
def test_only_regular_files_are_opened(path, make, read):
    make(path)
    with pytest.raises(ValueError, match="no regular file|Is a directory"):
        read(path)


def test_a_pipe_among_what_a_stage_depends_on_is_told(path):
    from lt.core import attest

    path.mkdir()
    os.mkfifo(path / "manifest.json")
    with pytest.raises(OSError, match="no regular file"):
        attest.Seen.of(path)


def test_a_pipe_in_the_place_of_dvcs_settings_does_not_stop_the_doctor(path):
    from lt.doctor import dvc_files

    os.mkfifo(path)
    assert dvc_files._settings(path) == {}
    path.unlink()
    path.write_text("[cache]\n    dir = /somewhere\n")
    assert dvc_files._settings(path) == {"dir": "/somewhere"}


def test_a_pipe_is_neither_an_image_nor_hashed(path):
    from lt.data import decode

    os.mkfifo(path)
    assert "no regular file" in decode.attempt(path, 8)
    with pytest.raises(OSError, match="no regular file"):
        files.sha256(path)
