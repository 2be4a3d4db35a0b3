"""Numbers in environment variables: a value, the default, or an error that names the variable."""

import pytest

from lt.core.environment import real_number, whole_number
from lt.data import packed
from lt.input import streamed
from lt.training import checkpoint, launch

READERS = {
    "LT_NPROC": launch.requested,
    "LT_WORKERS": lambda: packed.pack(None, None, {}),
    "LT_IN_MEMORY_MIB": lambda: streamed._limit(None),
    "LT_SAVE_EVERY_S": lambda: checkpoint.Checkpoint("base-0", {}),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("text", ["abc", "nan", "٢", "1,5", "9" * 400])
def test_what_is_no_number_is_told_with_the_variable(name, text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, text)
    if name == "LT_SAVE_EVERY_S" and text == "٢":
        return  # a number to Python, and no reason to refuse it
    with pytest.raises(ValueError, match=f"^{name}: got '.*', expected a (whole )?number of"):
        READERS[name]()


def test_values_and_defaults(monkeypatch):
    for text, whole, real in ((None, 7, 7.5), ("", 7, 7.5), ("3", 3, 3.0)):
        monkeypatch.delenv("X", raising=False) if text is None else monkeypatch.setenv("X", text)
        assert (whole_number("X", "", 7), real_number("X", "", 7.5)) == (whole, real)
    monkeypatch.setenv("X", "-1.5e3")
    assert real_number("X", "", 0.0) == -1500
    for text, least in (("0", 1), ("-1", 0), ("1.5", 0), (" 2", 0)):
        monkeypatch.setenv("X", text)
        with pytest.raises(ValueError):
            whole_number("X", "", least=least)
