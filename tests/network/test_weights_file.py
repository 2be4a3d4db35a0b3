"""Files of weights: named with their content's hash, and refused, with the line to write, where name and content differ."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lt.check import weights
from lt.core import params
from lt.network import weights_file
from stages import check
from tests.conftest import ROOT

CONTENT = b"any bytes"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"other bytes").hexdigest()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with params.yaml, an index and a file of weights, data/r50.pth."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/r50.pth").write_bytes(CONTENT)
    (tmp_path / "data/digits.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def write_params(weights, model="resnet50", selected="resnet50", **changes):
    content = params.read_yaml(ROOT / "params.yaml") | {"model": selected} | changes
    content["models"][model]["weights"] = weights
    params.PATH.write_text(yaml.safe_dump(content))


def mistakes(weights, **changes) -> list[str]:
    """What the check tells, without its first and last line."""
    write_params(weights, **changes)
    with pytest.raises(params.ParamsError) as error:
        check.main()
    return [line.strip() for line in str(error.value).splitlines()[1:-1]]


# reading


def test_a_file_is_found_by_12_digits_and_more(project):
    """sha256 of b"abc": FIPS 180-2, appendix B.1."""
    (project / "abc.bin").write_bytes(b"abc")
    for digits in ("ba7816bf8f01", "ba7816bf8f01cfea", "BA7816BF8F01", hashlib.sha256(b"abc").hexdigest()):
        path, content = weights_file.read(f"abc.bin@sha256:{digits}", "weights")
        assert content == b"abc" and path.name == "abc.bin"


def test_a_file_is_absolute_or_relative_to_the_project(project, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("copy")
    monkeypatch.chdir(elsewhere)
    assert weights_file.read(f"{project}/data/r50.pth@sha256:{DIGEST}", "weights")[1] == CONTENT
    with pytest.raises(ValueError, match="data/r50.pth cannot be read"):
        weights_file.read(f"data/r50.pth@sha256:{DIGEST}", "weights")
    monkeypatch.setenv("DVC_ROOT", str(project))
    assert weights_file.read(f"data/r50.pth@sha256:{DIGEST}", "weights")[1] == CONTENT


@pytest.mark.parametrize("name", ["run@3.pth", "a #1.pth", "@", "old@sha256:0123456789ab", "x@sha256:1/r50.pth", "größe.pth"])
def test_only_what_ends_the_name_is_its_hash(project, name):
    (project / name).parent.mkdir(exist_ok=True)
    (project / name).write_bytes(CONTENT)
    assert weights_file.read(f"{name}@sha256:{DIGEST[:12]}", "weights") == (Path(name), CONTENT)


@pytest.mark.parametrize("name", ["data/r50.pth", "run@3.pth", "a #1.pth", "@", "x@sha256:1/r50.pth", "größe.pth", "a: b.pth"])
def test_the_line_to_write_is_right_as_yaml_and_then_accepted(project, name):
    (project / name).parent.mkdir(exist_ok=True)
    (project / name).write_bytes(CONTENT)
    with pytest.raises(ValueError, match="expected the file and its content's hash") as error:
        weights_file.read(name, "weights")
    line = str(error.value).split("; write ")[1]
    (project / "line.yaml").write_text(line, encoding="utf-8")
    weights = params.read_yaml(project / "line.yaml")["weights"]
    assert weights == f"{name}@sha256:{DIGEST[:12]}"
    assert weights_file.read(weights, "weights")[1] == CONTENT


# the check


@pytest.mark.parametrize("weights", [None, "torchvision", f"data/r50.pth@sha256:{DIGEST[:12]}", f"data/r50.pth@sha256:{DIGEST}"])
def test_the_check_passes(project, weights):
    write_params(weights)
    check.main()
    assert (project / "artifacts/check").is_file()


def test_a_missing_hash_is_told_with_the_whole_line(project):
    assert mistakes("data/r50.pth") == [
        "models.resnet50.weights: got 'data/r50.pth', expected the file and its content's hash; "
        f"write weights: data/r50.pth@sha256:{DIGEST[:12]}"
    ]


@pytest.mark.parametrize("wanted", [OTHER[:12], OTHER, DIGEST[:-1] + ("1" if DIGEST[-1] == "0" else "0")])
def test_another_hash_is_told_with_both(project, wanted):
    assert mistakes(f"data/r50.pth@sha256:{wanted}") == [
        f"models.resnet50.weights: got data/r50.pth with sha256 {DIGEST[:len(wanted)]}, expected {wanted}: this is another file; "
        f"put the right one in its place, or write weights: data/r50.pth@sha256:{DIGEST[:12]}"
    ]


@pytest.mark.parametrize("wanted", [DIGEST[:11], "", DIGEST + "0", "0123456789xy", DIGEST[:12] + ".pth"])
def test_what_is_no_hash_is_told(project, wanted):
    assert mistakes(f"data/r50.pth@sha256:{wanted}") == [
        f"models.resnet50.weights: got the hash {wanted!r}, expected 12 to 64 hex digits of the file's sha256; "
        f"write weights: data/r50.pth@sha256:{DIGEST[:12]}"
    ]


@pytest.mark.parametrize(
    "name, reason", [("data/r51.pth", "No such file or directory"), ("data", "Is a directory"), ("", "Is a directory")]
)
def test_what_is_no_file_is_told(project, name, reason):
    assert mistakes(f"{name}@sha256:{DIGEST[:12]}") == [
        f"models.resnet50.weights: {name or '.'} cannot be read ({reason}); expected torchvision, or a file, absolute or relative "
        "to the project, and its hash, such as data/r50.safetensors@sha256:1a2b3c4d5e6f"
    ]


def test_a_network_of_timm_is_told_its_own_word(project):
    assert weights.mistakes({"model": "timm", "models": {"timm": {"weights": "hub"}}}) == []
    (told,) = weights.mistakes({"model": "timm", "models": {"timm": {"weights": "torchvision"}}})
    assert told.startswith("models.timm.weights: torchvision cannot be read") and "expected hub, or a file" in told


def test_a_model_that_is_no_name_is_left_to_others(project):
    assert weights.mistakes({"model": {"a": 1}, "models": {"timm": {"weights": "hub"}}}) == []


def test_it_is_told_along_with_all_other_mistakes(project):
    told = mistakes("data/r50.pth", imbalance=-3, loss="bayes")
    assert len(told) == 3 and any(f"write weights: data/r50.pth@sha256:{DIGEST[:12]}" in line for line in told)
    assert len(mistakes(["data/r50.pth"])) == 1  # no text at all: its type is told, and nothing else


def test_a_file_that_changes_is_told_by_the_next_check(project):
    write_params(f"data/r50.pth@sha256:{DIGEST[:12]}")
    check.main()
    (project / "data/r50.pth").write_bytes(b"other bytes")
    with pytest.raises(params.ParamsError, match=f"got data/r50.pth with sha256 {OTHER[:12]}, expected {DIGEST[:12]}"):
        check.main()


def test_only_the_selected_model_s_file_is_looked_for(project):
    write_params("data/gone.pth", model="resnet152")
    check.main()
    assert "data/gone.pth cannot be read" in mistakes("data/gone.pth", model="resnet152", selected="resnet152")[0]


def test_torchvision_s_resnet10_is_refused_before_training(project):
    assert mistakes("torchvision", model="resnet10", selected="resnet10") == [
        "models.resnet10.weights: got 'torchvision', which has none of resnet10; expected a file, or null"
    ]


def test_other_stages_read_params_without_the_file(project):
    write_params(f"data/gone.pth@sha256:{DIGEST[:12]}")
    assert params.load().options("models", "resnet50")["weights"] == f"data/gone.pth@sha256:{DIGEST[:12]}"


def test_the_check_of_a_file_imports_no_torch(project):
    write_params("data/r50.pth")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from stages import check\n" \
        "try:\n    check.main()\nexcept ValueError as error:\n    print(error)\nsys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], check=True, capture_output=True, text=True)
    assert f"@sha256:{DIGEST[:12]}" in done.stdout
