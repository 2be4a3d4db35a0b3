"""Samplers: what they draw, how often, and that the same generator gives the same batches."""

import math

import numpy as np
import pytest
import torch

from lt.core.plugins import load, names
from lt.samplers import class_aware

COUNTS = np.array([60, 21, 8, 3])
SAMPLERS = names("samplers")


@pytest.fixture
def labels():
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(COUNTS)), COUNTS)).astype(np.int64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def image_frequencies(sampler, num_examples, epochs, progress):
    """How often each image came, over several epochs."""
    shared = generator(1)
    drawn = torch.cat([torch.cat(sampler.epoch(shared, progress)) for _ in range(epochs)])
    return np.bincount(drawn.numpy(), minlength=num_examples)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("batch_size", [1, 16, 1000])
def test_batches_are_indices_in_range_and_as_many_as_promised(name, batch_size, labels):
    sampler = load("samplers", name)(labels, COUNTS, batch_size)
    batches = sampler.epoch(generator(), 0.5)
    assert len(batches) == sampler.steps
    assert all(batch.dtype == torch.int64 and batch.ndim == 1 for batch in batches)
    assert all(len(batch) == batch_size for batch in batches[:-1]) and 1 <= len(batches[-1]) <= batch_size
    index = torch.cat(batches)
    assert index.min() >= 0 and index.max() < len(labels)
    assert len(index) == (COUNTS.max() * len(COUNTS) if name == "class_aware" else len(labels))


@pytest.mark.parametrize("name", SAMPLERS)
def test_same_generator_same_batches(name, labels):
    make = load("samplers", name)
    first, second = make(labels, COUNTS, 16), make(labels, COUNTS, 16)
    first.epoch(generator(5), 0.2)  # an epoch must not depend on the epochs before it
    same = torch.cat(first.epoch(generator(3), 0.5))
    assert torch.equal(same, torch.cat(second.epoch(generator(3), 0.5)))
    assert not torch.equal(same, torch.cat(second.epoch(generator(4), 0.5)))


@pytest.mark.parametrize("name", SAMPLERS)
def test_class_frequencies_follow_class_prior(name, labels):
    sampler = load("samplers", name)(labels, COUNTS, 32)
    assert sampler.class_prior.shape == (len(COUNTS),) and sampler.class_prior.dtype == np.float64
    assert sampler.class_prior.sum() == pytest.approx(1)
    seen = image_frequencies(sampler, len(labels), epochs=300, progress=1.0)
    shares = np.bincount(labels, weights=seen) / seen.sum()
    five_sigma = 5 * np.sqrt(sampler.class_prior * (1 - sampler.class_prior) / seen.sum())
    assert (np.abs(shares - sampler.class_prior) < five_sigma + 1e-12).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_images_of_a_class_come_equally_often(name, labels):
    sampler = load("samplers", name)(labels, COUNTS, 32)
    seen = image_frequencies(sampler, len(labels), epochs=300, progress=1.0)
    for number in range(len(COUNTS)):
        of_class = seen[labels == number]
        assert np.abs(of_class - of_class.mean()).max() < 5 * math.sqrt(of_class.mean())


@pytest.mark.parametrize("name", SAMPLERS)
def test_empty_class_is_refused(name, labels):
    with pytest.raises(ValueError, match=r"classes \[4\] have no training example"):
        load("samplers", name)(labels, np.append(COUNTS, 0), 16)


def test_instance_takes_every_image_once(labels):
    sampler = load("samplers", "instance")(labels, COUNTS, 16)
    index = torch.cat(sampler.epoch(generator(), 0.0))
    assert torch.equal(index.sort().values, torch.arange(len(labels)))
    np.testing.assert_allclose(sampler.class_prior, COUNTS / COUNTS.sum())


def test_instance_can_drop_the_last_batch(labels):
    sampler = load("samplers", "instance")(labels, COUNTS, 30, drop_last=True)
    batches = sampler.epoch(generator(), 0.0)
    assert sampler.steps == len(batches) == 3 and all(len(batch) == 30 for batch in batches)
    with pytest.raises(ValueError, match="at most the 92"):
        load("samplers", "instance")(labels, COUNTS, 93, drop_last=True)


def test_class_priors(labels):
    priors = {name: load("samplers", name)(labels, COUNTS, 16).class_prior for name in SAMPLERS}
    for name in ("class_balanced", "class_aware", "progressive"):
        np.testing.assert_allclose(priors[name], [0.25] * 4)
    counts = np.array([100, 25, 4])
    square_root = load("samplers", "square_root")(np.repeat(np.arange(3), counts), counts, 16)
    np.testing.assert_allclose(square_root.class_prior, [10 / 17, 5 / 17, 2 / 17])


@pytest.mark.parametrize("progress", [0.0, 0.4])
def test_progressive_goes_from_natural_to_balanced(progress, labels):
    sampler = load("samplers", "progressive")(labels, COUNTS, 32)
    seen = image_frequencies(sampler, len(labels), epochs=300, progress=progress)
    expected = (1 - progress) * COUNTS / COUNTS.sum() + progress / 4
    shares = np.bincount(labels, weights=seen) / seen.sum()
    assert (np.abs(shares - expected) < 5 * np.sqrt(expected * (1 - expected) / seen.sum())).all()


def test_progressive_refuses_progress_beyond_the_end(labels):
    with pytest.raises(ValueError, match="progress: got 1.5"):
        load("samplers", "progressive")(labels, COUNTS, 32).epoch(generator(), 1.5)


@pytest.mark.parametrize("group", [1, 4, 7])
def test_class_aware_takes_turns(group, labels):
    sampler = load("samplers", "class_aware")(labels, COUNTS, 32, group=group)
    index = torch.cat(sampler.epoch(generator(), 0.0)).numpy()
    turns = [index[start : start + group] for start in range(0, len(index), group)]
    classes = [np.unique(labels[turn]) for turn in turns]
    assert all(len(found) == 1 for found in classes)
    order = np.concatenate(classes)
    for start in range(0, len(order) - 3, 4):
        assert sorted(order[start : start + 4]) == [0, 1, 2, 3]
    assert len({tuple(order[start : start + 4]) for start in range(0, len(order) - 3, 4)}) > 1


def test_class_aware_reads_each_class_in_rounds(labels):
    index = torch.cat(load("samplers", "class_aware")(labels, COUNTS, 32).epoch(generator(), 0.0)).numpy()
    for number, count in enumerate(COUNTS):
        stream = index[labels[index] == number]
        rounds = [stream[start : start + count] for start in range(0, len(stream) - count + 1, count)]
        assert len(rounds) == len(stream) // count > 0
        assert all(len(np.unique(one)) == count for one in rounds)


@pytest.mark.parametrize("name", SAMPLERS)
def test_large_data_sets_are_drawn_at_once(name):
    counts = np.full(8000, 20)
    sampler = load("samplers", name)(np.repeat(np.arange(8000), counts), counts, 256)
    index = torch.cat(sampler.epoch(generator(), 0.3))
    assert len(index) == 160_000 and index.max() < 160_000


def test_class_aware_draws_alike_whatever_is_drawn_at_once(monkeypatch):
    counts = np.random.default_rng(0).integers(1, 60, 90)
    sampler = load("samplers", "class_aware")(np.repeat(np.arange(90), counts), counts, 32)
    whole = torch.cat(sampler.epoch(generator()))
    monkeypatch.setattr(class_aware, "AT_ONCE", 100)
    assert torch.equal(torch.cat(sampler.epoch(generator())), whole)
