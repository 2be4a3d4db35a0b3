"""Augmentations: every plug-in keeps shape and range, and depends on an image's own key only."""

import pytest
import torch

from lt.core import keys
from lt.core.plugins import load, names
from lt.input import crop_flip_cutout


def some_images(n=6, size=16):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", names("augments"))
def test_contract(name):
    images, examples = some_images(), keys.example_keys(0, torch.arange(6))
    before = images.clone()
    augment = load("augments", name)(16)
    augmented = augment(images, examples)
    assert augmented.shape == images.shape and augmented.dtype == images.dtype
    assert torch.equal(images, before), "the input was changed"
    assert augmented.min() >= 0 and augmented.max() <= 1
    assert torch.equal(augmented, augment(images, examples))
    assert torch.allclose(augmented[2:3], augment(images[2:3], examples[2:3]), atol=1e-6), "an image's result depends on its batch"
    if name != "none":
        assert not torch.equal(augmented, augment(images, keys.example_keys(1, torch.arange(6))))


def test_crop_moves_the_window_as_asked():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    middle = crop_flip_cutout.random_crop(image, torch.tensor([[0.5, 0.5]]), 1)
    corner = crop_flip_cutout.random_crop(image, torch.tensor([[0.0, 0.999]]), 1)
    assert torch.equal(middle, image)
    assert corner[0, 0].tolist() == [[0, 0, 0, 0], [1, 2, 3, 0], [5, 6, 7, 0], [9, 10, 11, 0]]


def test_a_crop_of_an_image_that_is_mirrored_at_its_border():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    corner = crop_flip_cutout.random_crop(image, torch.tensor([[0.0, 0.999]]), 1, "reflect")
    assert corner[0, 0].tolist() == [[5, 6, 7, 6], [1, 2, 3, 2], [5, 6, 7, 6], [9, 10, 11, 10]]


def test_crop_flip_pads_as_asked():
    """White images show whatever is moved in from outside."""
    images, examples = torch.ones(50, 3, 16, 16), keys.example_keys(0, torch.arange(50))
    black, mirrored = (load("augments", "crop_flip")(16, padding_mode=mode)(images, examples) for mode in ("constant", "reflect"))
    assert black.min() == 0 and mirrored.min() == 1
    assert torch.equal(black, load("augments", "crop_flip")(16)(images, examples))


def test_crop_reaches_every_place_equally():
    image = torch.zeros(1, 1, 4, 4)
    image[..., 1, 1] = 1.0
    draws = keys.uniform(keys.example_keys(0, torch.arange(9000)), 2)
    where = crop_flip_cutout.random_crop(image.expand(9000, -1, -1, -1), draws, 1).mean(0)[0]
    assert torch.allclose(where[:3, :3], torch.full((3, 3), 1 / 9), atol=0.015)
    assert where[3].sum() == 0


def test_flip_mirrors_half_of_the_images():
    images = torch.arange(4.0).view(1, 1, 1, 4).expand(2, -1, -1, -1)
    flipped = crop_flip_cutout.random_flip(images, torch.tensor([0.2, 0.7]))
    assert flipped[:, 0, 0].tolist() == [[3, 2, 1, 0], [0, 1, 2, 3]]


def test_rotation_follows_crop_and_flip_from_the_same_draws():
    images, examples = some_images(size=32), keys.example_keys(0, torch.arange(6))
    still = load("augments", "crop_flip_rotate")(32, degrees=0.0)(images, examples)
    assert torch.equal(still, load("augments", "crop_flip")(32)(images, examples))


def test_rotation_turns_to_both_sides_by_up_to_its_degrees():
    """A point on the horizontal axis, 20 pixels from the centre: where it ends tells the angle."""
    images = torch.zeros(1, 3, 49, 49)
    images[:, :, 23:26, 43:46] = 1.0
    examples = keys.example_keys(0, torch.arange(2000))
    turned = load("augments", "crop_flip_rotate")(49, padding=0, degrees=15.0)(images.expand(2000, -1, -1, -1), examples)[:, 0]
    places = torch.arange(49.0) - 24
    mass = turned.sum((1, 2))
    down, right = (turned.sum(2) * places).sum(1) / mass, (turned.sum(1) * places).sum(1) / mass
    angles = torch.rad2deg(torch.atan(down / right))
    assert angles.abs().max() < 17 and angles.max() > 13 and angles.min() < -13
    assert angles.mean().abs() < 1 and angles.std().item() == pytest.approx(30 / 12**0.5, abs=0.6)
    assert ((right > 0).double().mean() - 0.5).abs() < 0.05, "half of them are mirrored first"


def test_rotation_agrees_with_torchvision():
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import rotate

    images, examples = some_images(size=32), keys.example_keys(0, torch.arange(6))
    plain = load("augments", "crop_flip")(32)(images, examples)
    turned = load("augments", "crop_flip_rotate")(32)(images, examples)
    angles = 15 * (2 * keys.uniform(examples, 4)[:, 3].double() - 1)
    expected = torch.stack([rotate(image, angle.item(), InterpolationMode.NEAREST) for image, angle in zip(plain, angles)])
    assert ((turned - expected).abs().amax(1) < 1e-6).double().mean() > 0.99  # but for pixels on the edge between two
