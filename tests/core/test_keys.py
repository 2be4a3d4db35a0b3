"""Keyed randomness: the same numbers whatever the batch, uniform, independent between streams."""

import numpy as np
import pytest
import torch

from lt.core import keys


def test_splitmix_matches_the_published_generator():
    # The first outputs of SplitMix64 for the state 1234567, as its reference implementation prints them.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    states = torch.arange(1, 6, dtype=torch.int64) * keys._GAMMA + 1234567
    ours = keys._splitmix(states).numpy().view(np.uint64)
    assert ours.tolist() == published


def test_an_example_draws_the_same_numbers_in_any_batch():
    positions = torch.arange(1000)
    whole = keys.uniform(keys.example_keys(7, positions), 5)
    part = keys.uniform(keys.example_keys(7, positions[400:403]), 5)
    assert torch.equal(whole[400:403], part)
    assert torch.equal(whole[:, :3], keys.uniform(keys.example_keys(7, positions), 3))


def test_draws_are_uniform_and_streams_are_independent():
    examples = keys.example_keys(3, torch.arange(50_000))
    draws = keys.uniform(examples, 4)
    assert draws.min() >= 0 and draws.max() < 1
    shares = torch.histc(draws, bins=20, min=0, max=1) / draws.numel()
    assert torch.allclose(shares, torch.full((20,), 0.05), atol=0.002)
    other = keys.uniform(examples, 4, stream=1)
    correlations = np.corrcoef(torch.cat([draws, other], 1).T.numpy()) - np.eye(8)
    assert np.abs(correlations).max() < 0.02


def test_seeds_give_other_numbers():
    first, second = (keys.uniform(keys.example_keys(seed, torch.arange(100)), 1) for seed in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("one, other", [((0, "a"), (0, "b")), ((0, "a"), (1, "a")), (("a", "b"), ("ab",))])
def test_derived_seeds_differ_by_name(one, other):
    assert keys.derive(*one) != keys.derive(*other)
    assert keys.derive(*one) == keys.derive(*one) >= 0


def test_generators_repeat():
    assert torch.equal(torch.rand(3, generator=keys.generator(1, "x")), torch.rand(3, generator=keys.generator(1, "x")))
