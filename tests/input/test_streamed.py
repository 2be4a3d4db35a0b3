"""Streamed images: the same as those in memory, read ahead in the order that was expected, and out of it."""

import threading

import numpy as np
import pytest
import torch

from lt.data.split import Split
from lt.input import streamed
from lt.input.streamed import Streamed, images_of

CPU = torch.device("cpu")


class Source:
    """Lazily decoded images; notes what was read, and in which thread."""

    def __init__(self, images):
        self.images, self.shape, self.reads = images, images.shape, []

    def read(self, index):
        self.reads.append((index.tolist(), threading.current_thread() is threading.main_thread()))
        return self.images[index]


@pytest.fixture
def split():
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
    return Split(Source(images), np.arange(30) % 3, ("a", "b", "c"), (0.5,) * 3, (0.2,) * 3)


INDEX = np.arange(29, 4, -1)


def in_memory(split):
    return streamed.to_device(split.images.images[INDEX], CPU)


def test_batches_are_those_of_the_images_in_memory(split):
    images, wanted = Streamed(split, INDEX, CPU), in_memory(split)
    assert images.shape == tuple(wanted.shape) and len(images) == len(wanted)
    for chosen in (torch.tensor([3, 0, 24, 3]), slice(0, 7), slice(20, 40), slice(0, 0), torch.tensor([], dtype=torch.int64)):
        assert torch.equal(images[chosen], wanted[chosen]) and images[chosen].dtype == torch.uint8
    assert torch.equal(images.only(np.array([5, 2]))[0:2], wanted[torch.tensor([5, 2])])


def test_expected_batches_are_read_ahead_by_another_thread_and_others_at_once(split):
    images, wanted = Streamed(split, INDEX, CPU), in_memory(split)
    batches = [torch.tensor([i, i + 1]) for i in range(0, 20, 2)]
    images.expect(batches)
    for number, batch in enumerate(batches):
        assert torch.equal(images[batch], wanted[batch])
        if number == 4:  # such as a development batch
            assert torch.equal(images[torch.tensor([24])], wanted[24:25])
    reads = split.images.reads
    assert [index for index, is_main in reads if not is_main] == [INDEX[batch.numpy()].tolist() for batch in batches]
    assert [index for index, is_main in reads if is_main] == [[INDEX[24]]]


def test_what_is_expected_takes_the_place_of_what_was(split):
    images, wanted = Streamed(split, INDEX, CPU), in_memory(split)
    images.expect([torch.tensor([i]) for i in range(10)])
    images.expect([torch.tensor([20]), torch.tensor([21])])
    assert torch.equal(images[torch.tensor([20])], wanted[20:21]) and torch.equal(images[torch.tensor([21])], wanted[21:22])
    assert len([index for index, _ in split.images.reads if index[0] in INDEX[:10]]) <= streamed.AHEAD


def test_the_slice_after_a_slice_is_read_ahead(split):
    images, wanted = Streamed(split, INDEX, CPU), in_memory(split)
    for _ in range(2):
        assert torch.equal(torch.cat([images[start : start + 10] for start in range(0, 25, 10)]), wanted)
    assert [is_main for _, is_main in split.images.reads] == 2 * [True, False, False]


def test_an_error_while_reading_ahead_reaches_who_asks(split):
    images = Streamed(split, INDEX, CPU)
    split.images.images = split.images.images[:10]
    images.expect([torch.tensor([0])])
    with pytest.raises(IndexError):
        images[torch.tensor([0])]


@pytest.mark.parametrize("limit, kind", [("0", Streamed), ("1", torch.Tensor)])
def test_images_above_the_limit_are_streamed(limit, kind, split, monkeypatch, capsys):
    monkeypatch.setenv("LT_IN_MEMORY_MIB", limit)
    images = images_of(split, INDEX, CPU)
    assert isinstance(images, kind) and torch.equal(images[0:25], in_memory(split))
    assert ("are streamed" in capsys.readouterr().out) == (kind is Streamed)


def test_without_a_limit_small_sets_are_held_in_memory(split, monkeypatch):
    monkeypatch.delenv("LT_IN_MEMORY_MIB", raising=False)
    assert isinstance(images_of(split, INDEX, CPU), torch.Tensor)
    monkeypatch.setenv("LT_IN_MEMORY_MIB", "lots")
    with pytest.raises(ValueError, match="LT_IN_MEMORY_MIB: got 'lots', expected a whole number of MiB"):
        images_of(split, INDEX, CPU)
