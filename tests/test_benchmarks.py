"""The benchmarks' table, and that the two ways they compare compute the same."""

import pytest
import torch

from benchmarks import heads, sizes, training
from benchmarks.timing import Row, medians, peak_mib, table
from lt.contracts import Mixed, Step
from lt.engine import Supervised
from lt.losses import ce
from lt.weightings.longtail_da import eps_gradient


def test_a_row_below_its_bar_is_marked():
    cases = [(2.0, 1.25), (1.0, 1.25), (1.0, 1.15, False), (2.0, 1.15, False), (2.0, None), (float("nan"), 0.6, False)]
    verdicts = [Row("a", 1, 1, "s", *case).verdict for case in cases]
    assert verdicts == ["ok", "below", "ok", "below", "told", "below"]


def test_the_table_is_aligned():
    lines = table([Row("short", 1, 2, "s", 0.5), Row("a longer pair", 1000.0, 2, "images/s", 500.0, 1.25)]).split("\n")
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert lines[3] == "| a longer pair | 1e+03 | 2     | images/s | 500   | at least 1.25 | ok   |"


def test_functions_take_turns_and_the_first_round_does_not_count():
    calls = []
    found = medians(2, lambda: calls.append("a"), lambda: calls.append("b"))
    assert calls == ["a", "b"] * 3 and len(found) == 2 and all(0 <= value < 1 for value in found)


def test_memory_is_what_a_call_takes():
    if (found := peak_mib(lambda: torch.ones(40 * 2**18))) == found:  # NaN where it cannot be measured
        assert 38 < found < 60


def test_the_longtail_da_gradients_agree():
    images, target = sizes.images(8)
    model, images = sizes.resnet32().train().double(), images.double() / 255
    supervised = Supervised(ce.make(sizes.counts(1000, 100)))

    def objective(model, images, target):
        features = model.features(images)
        return supervised(features, model.head(features), Mixed(images, target, target, torch.ones(len(target))))

    batch, dev = (images[:4], target[:4]), (images[4:], target[4:])
    step = Step(0, 0, 0.1, model, *batch, objective(model, *batch), objective, lambda size: dev, None)
    closed = eps_gradient(step, torch.ones(4).double(), dev, heads.INNER_LR, 1 / 4)
    other = heads.eps_by_double_backward(model, objective, batch, dev)
    torch.testing.assert_close(closed, other.to(closed), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("augment", training.PLAIN)
def test_the_plain_loop_sees_the_same_shapes(augment):
    images, labels = sizes.images(4)
    image, label = training.PilImages(images, labels, augment)[2]
    assert image.shape == (3, 32, 32) and image.dtype == torch.float32 and label == labels[2]
    assert image.abs().max() <= 2


def test_the_sizes_are_those_of_cifar_100_lt():
    assert abs(sizes.counts(10_847, 100).sum() - 10_847) < 50
    assert sizes.counts(10_847, 100)[[0, -1]].tolist() == pytest.approx([500, 5], rel=0.01)
    # 69 million products and as many sums, once forward and twice backward
    assert training.flops_per_image() == pytest.approx(3 * 2 * 69.1e6, rel=0.02)
