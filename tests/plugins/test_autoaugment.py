"""AutoAugment, RandAugment, Cutout: each operation agrees with torchvision's on bytes; draws have the published frequencies."""

import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lt.augments import autoaugment_cutout, crop_flip, randaugment
from lt.core import keys
from lt.input import autoaugment_ops, crop_flip_cutout

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy, RandAugment

REFERENCE = AutoAugment(AutoAugmentPolicy.CIFAR10, fill=128)
PUBLISHED = {"".join(word.capitalize() for word in name.split("_")): name for name in autoaugment_ops.NAMES if name != "autocontrast"}
PUBLISHED["AutoContrast"] = "autocontrast"


def bytes_of(size=32):
    """Noise, smooth images, and one of a single colour: (9, 3, size, size) uint8."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (4, 3, size, size), generator=generator, dtype=torch.uint8)
    smooth = F.interpolate(torch.rand(4, 3, 4, 4, generator=generator), size=(size, size), mode="bilinear") * 200 + 20
    return torch.cat([noise, smooth.to(torch.uint8), torch.full((1, 3, size, size), 77, dtype=torch.uint8)])


def theirs(images, name, strength):
    return REFERENCE._apply_image_or_video_transform(images, name, strength, interpolation=InterpolationMode.NEAREST, fill=REFERENCE._fill)


def their_strengths(name, bins, size):
    make, signed = RandAugment._AUGMENTATION_SPACE.get(name) or AutoAugment._AUGMENTATION_SPACE[name]
    values = make(bins, size, size)
    return (torch.zeros(bins) if values is None else values), signed


def ours(images, name, strength):
    operation = torch.full((len(images),), autoaugment_ops.NAMES.index(PUBLISHED[name]))
    amount = torch.as_tensor(strength, dtype=torch.float64) * (255 if name == "Solarize" else 1)
    return autoaugment_ops.apply(images.float(), operation, amount.expand(len(images)), 128)


def assert_agree(mine, reference, what):
    """Equal, but for single steps of a byte where the two round a product just below or above a whole number."""
    difference = (mine - reference.float()).abs()
    assert difference.max() <= 1, what
    assert (difference > 0).float().mean() < 0.02, what


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "Identity"])
@pytest.mark.parametrize("bins", [10, 31])
def test_strengths_and_signs_are_torchvisions(name, bins):
    expected, signed = their_strengths(name, bins, 32)
    scale = 255 if name == "Solarize" else 1
    torch.testing.assert_close(autoaugment_ops.strengths(PUBLISHED[name], bins, 32), expected.double() * scale, rtol=1e-6, atol=1e-6)
    assert (PUBLISHED[name] in autoaugment_ops.SIGNED) == signed


def test_the_policy_is_torchvisions():
    expected = [tuple((PUBLISHED[name], chance, level or 0) for name, chance, level in pair) for pair in REFERENCE._policies]
    assert list(autoaugment_cutout.POLICY) == expected


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("pair", range(25))
def test_each_sub_policy_agrees_with_torchvision(pair, size):
    images = bytes_of(size)
    for sign in (-1, 1):
        reference = images
        for name, _, level in REFERENCE._policies[pair]:
            values, signed = their_strengths(name, 10, size)
            strength = float(values[level or 0]) * (sign if signed else 1)
            # From the reference's own bytes, so that a step of one in the first operation is not blown up by the second.
            after = theirs(reference, name, strength)
            assert_agree(ours(reference, name, strength), after, (name, strength))
            reference = after


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("name", RandAugment._AUGMENTATION_SPACE)
def test_each_operation_agrees_with_torchvision_at_the_default_strength(name, size):
    values, signed = their_strengths(name, 31, size)
    for sign in (-1, 1) if signed else (1,):
        strength = float(values[9]) * sign
        assert_agree(ours(bytes_of(size), name, strength), theirs(bytes_of(size), name, strength), name)


@pytest.mark.parametrize(
    "name",
    ["Rotate", "TranslateX", "TranslateY", "Invert", "Posterize", "Solarize", "AutoContrast", "Equalize", "Brightness"],
)
def test_operations_that_round_no_sum_are_exactly_torchvisions(name):
    for strength in their_strengths(name, 10, 32)[0].tolist():
        assert torch.equal(ours(bytes_of(), name, strength), theirs(bytes_of(), name, strength).float())


def test_strength_zero_changes_nothing():
    for name in autoaugment_ops.SIGNED:
        operation = torch.full((9,), autoaugment_ops.NAMES.index(name))
        unchanged = autoaugment_ops.apply(bytes_of().float(), operation, torch.zeros(9, dtype=torch.float64), 128)
        assert torch.equal(unchanged, bytes_of().float()), name


def test_a_mixed_batch_is_what_each_image_alone_would_be():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (60, 3, 16, 16), generator=generator).float()
    operation = torch.randint(len(autoaugment_ops.NAMES), (60,), generator=generator)
    strength = torch.rand(60, generator=generator, dtype=torch.float64) * 0.8
    strength[operation == autoaugment_ops.NAMES.index("posterize")] = 5
    together = autoaugment_ops.apply(images, operation, strength, 128)
    alone = [autoaugment_ops.apply(images[i : i + 1], operation[i : i + 1], strength[i : i + 1], 128) for i in range(60)]
    assert torch.equal(together, torch.cat(alone))
    identity = operation == 0
    assert torch.equal(together[identity], images[identity]) and not torch.equal(together[~identity], images[~identity])
    # As on a GPU: every operation on every image, with strengths that are another operation's.
    assert torch.equal(autoaugment_ops._apply_to_all(images, operation, strength, 128), together)


def test_shear_and_rotation_by_hand():
    image = torch.zeros(1, 3, 5, 5)
    image[..., 2] = 9.0  # a vertical line
    sheared = ours(image, "ShearX", 0.5)[0, 0]
    # Row r looks (r + 1/2) / 2 pixels to the right, so the line moves to the left, more so further down.
    assert (sheared == 9).nonzero().tolist() == [[0, 2], [1, 1], [2, 1], [3, 0], [4, 0]]
    assert (sheared == 128).sum(1).tolist() == [0, 1, 1, 2, 2]
    turned = ours(image, "Rotate", 90.0)[0, 0]
    assert (turned[2] == 9).all() and turned.sum() == 45


def test_translation_fills_with_grey():
    moved = ours(torch.zeros(1, 3, 4, 4), "TranslateX", 1.9)
    assert moved[0, 0].tolist() == [[128, 0, 0, 0]] * 4
    assert ours(torch.zeros(1, 3, 4, 4), "TranslateY", -1.9)[0, 0].tolist() == [[0] * 4] * 3 + [[128] * 4]


def test_cutout_blackens_a_square_that_the_border_cuts():
    white = torch.ones(4, 3, 8, 8)
    draws = torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.999, 0.5], [0.5, 0.5]])
    holes = crop_flip_cutout.cutout(white, draws, 4) == 0
    assert holes[0, 0, 2:6, 2:6].all() and holes[0, 0].sum() == 16
    assert holes[1, 0, :2, :2].all() and holes[1, 0].sum() == 4
    assert holes[2, 0, 5:, 2:6].all() and holes[2, 0].sum() == 12
    assert crop_flip_cutout.cutout(white, draws, 3)[3, 0].sum() == 64 - 9
    assert torch.equal(crop_flip_cutout.cutout(white, draws, 0), white)


def test_cutout_centres_are_uniform_over_the_image():
    draws = keys.uniform(keys.example_keys(0, torch.arange(20_000)), 2)
    holes = 1 - crop_flip_cutout.cutout(torch.ones(20_000, 1, 4, 4), draws, 1).mean(0)[0]
    assert torch.allclose(holes, torch.full((4, 4), 1 / 16), atol=0.01)


def test_without_operations_it_is_crop_and_flip_with_a_hole(monkeypatch):
    never = tuple(tuple((name, 0.0, level) for name, _, level in pair) for pair in autoaugment_cutout.POLICY)
    monkeypatch.setattr(autoaugment_cutout, "POLICY", never)
    images, examples = bytes_of().float() / 255, keys.example_keys(0, torch.arange(9))
    plain = crop_flip.make(32)(images, examples)
    assert torch.equal(autoaugment_cutout.make(32, cutout=0)(images, examples), plain)
    with_hole = autoaugment_cutout.make(32)(images, examples)
    black = (with_hole != plain).any(1).flatten(1).sum(1)
    assert black.max() <= 256 and black.max() > 100
    assert (with_hole[with_hole != plain] == 0).all()


def test_operations_come_with_their_probabilities(monkeypatch):
    seen = []
    monkeypatch.setattr(autoaugment_cutout, "apply", lambda *drawn: seen.append(drawn[1:3]) or drawn[0])
    autoaugment_cutout.make(4)(torch.zeros(50_000, 3, 4, 4), keys.example_keys(0, torch.arange(50_000)))
    for slot, (operation, strength) in enumerate(seen):
        expected = np.zeros(len(autoaugment_ops.NAMES))
        for pair in autoaugment_cutout.POLICY:
            name, chance, _ = pair[slot]
            expected[autoaugment_ops.NAMES.index(name)] += chance / 25
            expected[0] += (1 - chance) / 25
        assert np.bincount(operation, minlength=len(autoaugment_ops.NAMES)) / 50_000 == pytest.approx(expected, abs=0.006)
        moved = strength[operation == autoaugment_ops.NAMES.index("translate_y")]
        assert (moved > 0).double().mean().item() == pytest.approx(0.5, abs=0.03)
        assert (strength[operation == autoaugment_ops.NAMES.index("solarize")] > 0).all()


def test_randaugment_draws_its_operations_uniformly(monkeypatch):
    seen = []
    monkeypatch.setattr(randaugment, "apply", lambda *drawn: seen.append(drawn[1:3]) or drawn[0])
    randaugment.make(4, num_ops=3)(torch.zeros(28_000, 3, 4, 4), keys.example_keys(0, torch.arange(28_000)))
    assert len(seen) == 3
    for operation, strength in seen:
        share = np.bincount(operation, minlength=len(autoaugment_ops.NAMES)) / 28_000
        assert share[:-1] == pytest.approx([1 / 14] * 14, abs=0.006) and autoaugment_ops.NAMES[-1] == "invert" and share[-1] == 0
        rotated = strength[operation == autoaugment_ops.NAMES.index("rotate")]
        assert rotated.abs().unique().tolist() == pytest.approx([9.0]) and abs((rotated > 0).double().mean() - 0.5) < 0.04
    assert not torch.equal(seen[0][0], seen[1][0])


@pytest.mark.parametrize("plugin", [autoaugment_cutout, randaugment])
def test_crop_operations_and_hole_are_drawn_independently(plugin, monkeypatch):
    streams = []
    monkeypatch.setattr(plugin, "uniform", lambda keys, n, stream=0: streams.append(stream) or torch.rand(len(keys), n))
    plugin.make(8)(torch.zeros(2, 3, 8, 8), torch.arange(2))
    assert len(streams) == len(set(streams)) == 3


@pytest.mark.parametrize(
    "make, options, message",
    [(autoaugment_cutout.make, {"fill": 256}, "autoaugment_cutout.fill: got 256"),
     (randaugment.make, {"fill": 300}, "randaugment.fill: got 300"),
     (randaugment.make, {"magnitude": 31}, r"randaugment.magnitude: got 31, expected less than bins \(31\)")],
)
def test_bad_options_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(32, **options)
