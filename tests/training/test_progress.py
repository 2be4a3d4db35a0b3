"""What a training tells where there is no terminal."""

import io

import pytest

from lt.training import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock to be set, for progress."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_line_comes_each_thirty_seconds_with_the_time_left(clock, capsys):
    with progress.Progress("base, seed 0", epochs=10, done=2, silent=False) as told:
        for seconds in (10, 10, 15, 1, 60, 10):
            clock[0] += seconds
            told.epoch(0.5, 0.25)
    assert capsys.readouterr().err.splitlines() == [
        "base, seed 0: epoch 5 of 10, loss 0.500, accuracy 0.250, 00:58 left",  # 35 s for three epochs, five to go
        "base, seed 0: epoch 7 of 10, loss 0.500, accuracy 0.250, 00:57 left",
    ]


def test_other_processes_and_terminals_have_no_lines(clock, capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for silent, stream in ((True, io.StringIO()), (False, Terminal())):
        monkeypatch.setattr(progress.sys, "stderr", stream)
        with progress.Progress("base", epochs=2, done=0, silent=silent) as told:
            clock[0] += 100
            told.epoch(0.5, 0.25)
        assert ("base: epoch" in stream.getvalue()) is False
        assert bool(stream.getvalue()) != silent  # a bar on the terminal alone
