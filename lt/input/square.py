"""Images of any size as squares, on tensors: what lt/data/decode.py does to a file once it is decoded, pixel by pixel the same."""

import torch
from torch import nn

FRACTION_BITS = 22  # of Pillow's weights, which are integers: see its src/libImaging/Resample.c


class Square(nn.Module):
    """uint8 images (B, 3, H, W) of one size -> uint8 (B, 3, side, side): the short side scaled, the long side cut evenly.

    Scaling is bilinear and looks at all pixels that an output pixel covers, first along rows, then along columns, with whole
    numbers in between, as Pillow does. Images of image_size x image_size pixels stay as they are.

    image_size: that the short side is scaled to    crop: side of the centre that is kept; None for all
    """

    def __init__(self, image_size: int, crop: int | None = None):
        super().__init__()
        self.image_size = image_size
        self.side = crop or image_size
        self.edge = (image_size - self.side) // 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[2:]
        side = torch.sym_min(height, width)
        scaled = whole(images.double() @ self.weights(width, side, images.device).T)
        scaled = whole(self.weights(height, side, images.device) @ scaled)
        kept = slice(self.edge, self.edge + self.side)
        return scaled[:, :, kept, kept].to(torch.uint8)

    def weights(self, length: int, side: int, device: torch.device) -> torch.Tensor:
        """How much each of `length` pixels counts in each of the image_size that are made of the middle `side`: whole numbers,
        (image_size, length) float64, that sum to about 2^22 in each row."""
        double = {"dtype": torch.float64, "device": device}
        step = torch.ones((), **double) * side / self.image_size
        centre = (length - side) / 2 + (torch.arange(self.image_size, **double) + 0.5) * step
        distance = torch.arange(length, **double) + 0.5 - centre[:, None]
        triangle = (1 - distance.abs() / step.clamp(min=1)).clamp(min=0)
        return (triangle / triangle.sum(1, keepdim=True) * 2**FRACTION_BITS + 0.5).floor()


def whole(sums: torch.Tensor) -> torch.Tensor:
    """Sums of pixels times weights as pixels: rounded, whole numbers in float64, which holds all of them exactly."""
    return ((sums + 2 ** (FRACTION_BITS - 1)) / 2**FRACTION_BITS).floor().clamp(0, 255)
