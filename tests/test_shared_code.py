"""The hashes of shared code: which files a stage needs, and that an edit of one of them shows."""

from pathlib import Path

from lt import shared_code

STAGES = Path(__file__).parent.parent / "stages"


def names(script: str) -> set[str]:
    return {path.name for path in shared_code.closure([STAGES / script])}


def test_imports_are_followed_through_other_files():
    assert {"counts.py", "metrics.py", "params.py"} <= names("evaluate.py")
    assert "engine.py" not in names("evaluate.py")
    assert {"engine.py", "sgd.py", "keys.py"} <= names("base.py")
    assert "distill.py" in names("distill.py") and "distill.py" not in names("base.py")


def test_every_form_of_import_counts(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import lt.core.counts\nfrom lt import keys\nfrom lt.data.split import Split\ndef f():\n    from lt import options\n")
    assert {path.name for path in shared_code.imported(script)} == {"counts.py", "keys.py", "data.py", "options.py"}


def test_the_fingerprint_changes_with_a_file_that_is_needed(tmp_path, monkeypatch):
    folder = tmp_path / "lt"
    folder.mkdir()
    (folder / "a.py").write_text("from lt import b\n")
    (folder / "b.py").write_text("ONE = 1\n")
    (folder / "c.py").write_text("TWO = 2\n")
    monkeypatch.setattr(shared_code, "FOLDER", folder)
    script = tmp_path / "script.py"
    script.write_text("from lt.a import x\n")
    before = shared_code.fingerprint([script])
    assert [line.split("  ")[1] for line in before.splitlines()] == ["lt/a.py", "lt/b.py", "script.py"]
    (folder / "c.py").write_text("TWO = 3\n")
    assert shared_code.fingerprint([script]) == before
    (folder / "b.py").write_text("ONE = 2\n")
    edited = shared_code.fingerprint([script])
    script.write_text("from lt.a import y\n")
    assert len({before, edited, shared_code.fingerprint([script])}) == 3


def test_files_and_folders_of_plugins_count_with_what_they_import():
    root = STAGES.parent
    found = {str(path.relative_to(root)) for path in shared_code.closure([root / "lt/heads", root / "lt/losses/ce.py"])}
    assert {"lt/heads/linear.py", "lt/heads/causal.py", "lt/losses/ce.py", "lt/training/loss.py"} <= found
    assert "lt/losses/focal.py" not in found
