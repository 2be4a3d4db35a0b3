"""The augmentation of photographs: its windows, its scaling and its colours are those of torchvision."""

import math

import pytest
import torch
from torchvision.transforms import ColorJitter, InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as tv

from lt.augments.resized_crop import TRIES, jittered, make, scaled, windows
from lt.core import keys


def draws_of(count, columns, seed=0):
    return torch.rand(count, columns, generator=torch.Generator().manual_seed(seed))


def some_images(count=4, side=32):
    return draws_of(count, 3 * side * side).view(count, 3, side, side)


def test_windows_have_the_areas_ratios_and_places_that_torchvision_draws():
    left, top, width, height = windows(draws_of(4000, 2 * TRIES + 2), 0.08).unbind(1)
    assert (left >= 0).all() and (top >= 0).all() and (left + width <= 1 + 1e-6).all() and (top + height <= 1 + 1e-6).all()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        other = [RandomResizedCrop.get_params(torch.empty(3, 1000, 1000), (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(4000)]
    other = torch.tensor(other) / 1000  # top, left, height, width
    for own, theirs in ((left, other[:, 1]), (top, other[:, 0]), (width, other[:, 3]), (height, other[:, 2])):
        for share in (0.1, 0.5, 0.9):
            assert own.quantile(share).item() == pytest.approx(theirs.quantile(share).item(), abs=0.03)
    ratio = width / height
    assert ratio.min() > 0.75 - 1e-3 and ratio.max() < 4 / 3 + 1e-3


def test_a_window_that_never_fits_is_the_whole_image():
    draws = draws_of(1, 2 * TRIES + 2)
    draws[:, :TRIES], draws[:, TRIES : 2 * TRIES] = 0.999, 0.999  # as large as can be, and as wide
    assert windows(draws, 0.08).tolist() == [[0, 0, 1, 1]]
    draws[:, 3], draws[:, TRIES + 3] = 0.5, 0.5  # the fourth try fits
    side = math.sqrt(0.54)
    assert windows(draws, 0.08)[0, 2:].tolist() == pytest.approx([side, side], rel=1e-5)


@pytest.mark.parametrize(
    "window, size", [((0, 0, 32, 32), 32), ((8, 4, 16, 20), 40), ((0, 16, 16, 16), 16), ((5, 6, 14, 12), 14)]
)
def test_scaling_agrees_with_torchvision(window, size):
    images = some_images()
    left, top, width, height = (torch.full((4,), value / 32) for value in window)
    expected = tv.resized_crop(
        images, window[1], window[0], window[3], window[2], [size, size], InterpolationMode.BILINEAR, antialias=False
    )
    found = scaled(images, left, top, width, height, size)
    inner = slice(2, -2)  # at its rim, torchvision does not look beyond the window
    torch.testing.assert_close(found[:, :, inner, inner], expected[:, :, inner, inner], atol=1e-4, rtol=0)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_colours_agree_with_torchvision(order):
    images, factors = some_images(), torch.tensor([[0.7, 1.3, 0.6], [1.4, 0.8, 1.2], [1.0, 1.0, 1.0], [0.6, 0.6, 1.4]])
    adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    found = jittered(images, torch.tensor([order] * 4), factors)
    for image, factor, own in zip(images, factors.tolist(), found):
        for which in order:
            image = adjust[which](image, factor[which])
        torch.testing.assert_close(own, image, atol=2e-3, rtol=0)  # torchvision's red weighs 0.2989


def test_factors_and_orders_are_drawn_as_by_torchvision():
    assert ColorJitter(0.4, 0.4, 0.4, 0).brightness == (0.6, 1.4)
    image = torch.full((3, 3, 8, 8), 0.5)[:1].expand(3000, -1, -1, -1)
    found = make(8)(image, keys.example_keys(0, torch.arange(3000)))[:, 0, 0, 0] / 0.5  # of a flat grey, brightness alone is seen
    assert found.min() == pytest.approx(0.6, abs=0.01) and found.max() == pytest.approx(1.4, abs=0.01)
    assert found.mean() == pytest.approx(1.0, abs=0.02) and found.std() == pytest.approx(0.8 / 12**0.5, abs=0.01)


def test_size_and_jitter_are_options():
    images, examples = some_images(), keys.example_keys(0, torch.arange(4))
    assert make(32, size=20)(images, examples).shape == (4, 3, 20, 20)
    plain = make(32, jitter=0.0)(images, examples)
    assert not torch.equal(plain, make(32)(images, examples)) and plain.shape == (4, 3, 32, 32)
    whole = make(32, min_area=0.999, jitter=0.0)(images, examples)
    for image, own in zip(images, whole):
        assert min((own - image).abs().mean(), (own - image.flip(2)).abs().mean()) < 0.03
