"""Squares of tensors are those of decoded files."""

import numpy as np
import pytest
import torch
from PIL import Image

from lt.data.decode import decode
from lt.input.square import Square

SIZES = [(8, 8), (1, 1), (3, 40), (41, 16), (16, 41), (33, 33), (250, 97), (9, 7), (640, 480), (2, 300)]


@pytest.mark.parametrize("image_size, crop", [(8, None), (32, None), (20, 14)])
@pytest.mark.parametrize("width, height", SIZES)
def test_squares_are_those_of_decode(width, height, image_size, crop, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    expected = decode(tmp_path / "image.png", image_size, crop)
    found = Square(image_size, crop)(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found[0].permute(1, 2, 0).numpy(), expected)
