"""Files of another shape than is read now: told with the file, the key, what was got, and the command; never a traceback."""

import json

import pytest
from hypothesis import given

from lt.core import artifacts, schemas
from lt.core.artifacts import ArtifactError
from lt.core.subset import read_subset
from lt.network.classifier import read_classifier, read_rule
from tests.core.test_any_input import JSON, any_input

NETWORK = {
    "model": {"name": "resnet8", "options": {}}, "head": {"name": "linear", "options": {}}, "num_classes": 2,
    "mean": [0.5] * 3, "std": [0.5] * 3,
}
HEAD = {"name": "linear", "options": {}, "feature_dim": 64, "num_classes": 2, "num_experts": 1}
CONTEXT = dict.fromkeys(schemas.Context.model_fields, "x")
DETAILS = {
    "row": "crt", "context": {}, "classes": ["a", "b"], "train_counts": [2, 1], "test_counts": [1, 1], "val_size": 0,
    "mean": {"top1": 0.5, "few": None}, "sd": {}, "seeds": {"0": {
        "metrics": {"top1": 0.5}, "per_class": {"recall": [1.0, None], "precision": [1.0, None], "f1": [1.0, None], "predicted": [1, 0]},
        "reliability": dict.fromkeys(("before", "after"), {"count": [2], "confidence": [0.5], "accuracy": [0.5]}), "test_prior": [], "correct": "80",
    }},
}
JUDGED = ("row", "context", "classes", "train_counts", "test_counts", "val_size")
MEASURED = {key: DETAILS[key] for key in JUDGED} | {"result": DETAILS["seeds"]["0"]}
FILES = {
    "artifacts/base/0/row.json": (schemas.ClassifierRow, {"classifier": NETWORK, "logit_prior": [0.5, 0.5], "context": CONTEXT}, "run: dvc repro base@0"),
    "artifacts/retrain/crt/1/row.json": (
        schemas.RuleRow, {"head": HEAD, "balanced_view": False, "logit_prior": [0.5, 0.5], "context": CONTEXT}, "run: dvc repro retrain@crt-1"
    ),
    "results/details/crt.json": (schemas.Details, DETAILS, "run: dvc repro (without DVC: python -m stages.report)"),
    "artifacts/evaluate/xerm_pc/1/measured.json": (schemas.Measured, MEASURED, "run: dvc repro evaluate_xerm@pc-1"),
    "data/own.json": (
        schemas.IndexFile, {"dataset": "own", "files": [{"path": "a", "size": 1, "sha256": "0"}]}, "run: python -m stages.index own"
    ),
}


def keys_of(content, above=()):
    for key, value in content.items():
        yield (*above, key)
        if isinstance(value, dict) and key in ("classifier", "context", "head", "model") and value:
            yield from keys_of(value, (*above, key))


def changed(content, keys, value):
    """A copy with another value at a key; the key left out where the value is ...."""
    first, *rest = keys
    if rest:
        return content | {first: changed(content[first], rest, value)}
    return {key: old for key, old in content.items() if key != first} | ({} if value is ... else {first: value})


CASES = [(name, keys) for name, (_, content, _) in FILES.items() for keys in keys_of(content)]


@pytest.mark.parametrize("name", FILES)
def test_what_the_stages_write_is_read(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LT_VERIFY", "0")  # no manifests here
    kind, content, _ = FILES[name]
    artifacts.write_json(artifacts.Path(name), content)
    assert artifacts.read_json(name, kind) == content


@pytest.mark.parametrize("value", [..., "other type"])
@pytest.mark.parametrize("name, keys", CASES, ids=[f"{name}-{'.'.join(keys)}" for name, keys in CASES])
def test_a_key_that_is_missing_or_of_another_type_is_told(name, keys, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LT_VERIFY", "0")
    kind, content, again = FILES[name]
    artifacts.write_json(artifacts.Path(name), changed(content, keys, {"x": ["y"]} if value != ... else ...))
    if (keys[-1] == "options" or kind in (schemas.Details, schemas.Measured) and keys == ("context",)) and value != ...:
        artifacts.read_json(name, kind)  # any mapping
        return
    with pytest.raises(ArtifactError) as error:
        artifacts.read_json(name, kind)
    told = str(error.value)
    first = (*keys, "dataset") if keys == ("context",) and value != ... else keys
    assert told.startswith(f"{name}: {'.'.join(first)}") and again in told
    assert ("got nothing" in told) == (value is ...) or value != ...


READERS = {
    "row.json": lambda path: read_classifier(path.parent),
    "rule/row.json": lambda path: read_rule(path.parent),
    "subset.json": lambda path: read_subset(path.parent),
    "details.json": lambda path: artifacts.read_json(path, schemas.Details),
}


@any_input
@given(JSON)
@pytest.mark.parametrize("name", READERS)
def test_any_json(tmp_path, name, content):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError) as error:
        READERS[name](path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"9" * 5000, b"", b"[1]", b"null"])
def test_bytes_that_are_no_object_are_told(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ArtifactError, match="a.json.*delete it and make it again"):
        artifacts.read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    "content, told", [('{"a": 1, "b": 2, "a": 3}', "the key 'a' stands twice"), ('{"a": [NaN]}', "got NaN"), ('{"a": -Infinity}', "got -Infinity")]
)
def test_what_a_reader_would_have_to_guess_is_told(tmp_path, content, told):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ArtifactError, match=f"a.json is not valid JSON .{told}"):
        artifacts.read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    "kind, content, keys",
    [
        (schemas.Details, DETAILS, ("train_counts",)), (schemas.Details, DETAILS, ("test_counts",)),
        (schemas.Details, DETAILS, ("seeds", "0", "per_class", "f1")), (schemas.Measured, MEASURED, ("result", "per_class", "f1")),
    ],
)
def test_lists_of_another_length_than_the_classes_are_told(tmp_path, kind, content, keys):
    path = tmp_path / "details.json"
    artifacts.write_json(path, changed(content, keys, [1]))
    with pytest.raises(ArtifactError, match=rf"details.json: .*{'.'.join(keys)}: got 1 values, expected 2, one per class"):
        artifacts.read_json(path, kind)


@pytest.mark.parametrize("mean", [[0.5], [0.5, 0.5]])
def test_colours_that_do_not_fit_are_told(tmp_path, mean):
    path = tmp_path / "row.json"
    artifacts.write_json(path, {"classifier": NETWORK | {"mean": mean}, "logit_prior": [0.5, 0.5], "context": CONTEXT})
    with pytest.raises(ArtifactError, match=f"row.json: classifier: .*mean and std: got {len(mean)} and 3 numbers"):
        artifacts.read_json(path, schemas.ClassifierRow)


@pytest.mark.parametrize("kind, network", [(schemas.ClassifierRow, {"classifier": NETWORK}), (schemas.RuleRow, {"head": HEAD, "balanced_view": False})])
def test_a_prior_of_another_number_of_classes_is_told(tmp_path, kind, network):
    path = tmp_path / "row.json"
    artifacts.write_json(path, network | {"logit_prior": [0.2, 0.3, 0.5], "context": CONTEXT})
    with pytest.raises(ArtifactError, match="row.json: .*logit_prior: got 3 weights, expected 2, one per class"):
        artifacts.read_json(path, kind)
    artifacts.write_json(path, network | {"logit_prior": [0.0, 1.0], "context": CONTEXT})
    with pytest.raises(ArtifactError, match="row.json: logit_prior.0: .* greater than 0"):
        artifacts.read_json(path, kind)


def test_a_digit_that_is_another_than_was_written_is_told(tmp_path):
    path = tmp_path / "details.json"
    artifacts.write_json(path, DETAILS, sealed=True)
    assert artifacts.read_json(path, schemas.Details) == DETAILS
    path.write_text(json.dumps(json.loads(path.read_text())))  # laid out otherwise
    assert artifacts.read_json(path, schemas.Details) == DETAILS
    path.write_text(path.read_text().replace("0.5", "0.6", 1))
    with pytest.raises(ArtifactError, match="details.json is damaged, or was edited"):
        artifacts.read_json(path, schemas.Details)


def array_file(header):
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 a zip", b"", b"\x93NUMPY", b"\x93NUMPY\x09\x00", b"\x80\x04.", array_file(b"{'descr': '<f4'}\n"), array_file(b"((((\n"),
        array_file(b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,), }\n"),
        array_file(b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999,), }\n"),
        array_file(b"{'descr': 'zz', 'fortran_order': False, 'shape': (1,), }\n"),
        array_file(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }\n"),
    ],
)
@pytest.mark.parametrize("mmap", [False, True])
def test_bytes_that_are_no_array_are_told(tmp_path, content, mmap):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ArtifactError, match="a.npy"):
        artifacts.read_array(tmp_path / "a.npy", (3,), "float", mmap)


@pytest.mark.parametrize("text", ["a,b\n1\n", "a\nx\n", "a\n1,2\n", "a\n\x00\n", b"a\n\xff\n", "a\n1e400\n", "a\n-inf\n"])
def test_a_log_of_something_else_is_told(tmp_path, text):
    (tmp_path / "log.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ArtifactError, match="log.csv is not a log of numbers"):
        artifacts.read_log(tmp_path / "log.csv")
