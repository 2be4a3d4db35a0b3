"""The image operations of AutoAugment and RandAugment, each on a batch whose images have strengths of their own.

`pixels` are floats that hold whole numbers from 0 to 255, because the published operations are defined on bytes; the rounding
follows torchvision's operations on bytes, so that results agree. Source: Cubuk et al. 2019, AutoAugment, appendix.
"""

import torch
from torch.nn import functional as F

# (column, row) of the pixel that lands on (x, y), all counted from the image's centre, as ((a, b, c), (d, e, f)):
# column = a x + b y + c, row = d x + e y + f. Shears are taken from the image's top left corner, as published.
WARPS = {
    "shear_x": lambda s, height, width: ((1, s, s * height / 2), (0, 1, 0)),
    "shear_y": lambda s, height, width: ((1, 0, 0), (s, 1, s * width / 2)),
    "translate_x": lambda s, height, width: ((1, 0, -s.trunc()), (0, 1, 0)),
    "translate_y": lambda s, height, width: ((1, 0, 0), (0, 1, -s.trunc())),
    "rotate": lambda s, height, width: ((s.deg2rad().cos(), -s.deg2rad().sin(), 0), (s.deg2rad().sin(), s.deg2rad().cos(), 0)),
}


def strengths(name: str, bins: int, image_size: int) -> torch.Tensor:
    """What levels 0 to bins - 1 mean for an operation: (bins,) float64.

    Shears up to 0.3 pixels per pixel; translations up to 150/331 of the image, in pixels; rotations up to 30 degrees; brightness,
    color, contrast and sharpness up to 0.9 away from 1; posterize from 8 bits down to 4; solarize from 255 down to 0. Zeros for
    the others, which have one strength.
    """
    highest = {"rotate": 30.0, "shear_x": 0.3, "shear_y": 0.3}
    highest |= dict.fromkeys(("translate_x", "translate_y"), 150 / 331 * image_size)
    highest |= dict.fromkeys(("brightness", "color", "contrast", "sharpness"), 0.9)
    if name == "posterize":
        return (8 - torch.arange(bins) * 4 / max(bins - 1, 1)).round().double()
    if name == "solarize":
        return 255 * torch.linspace(1, 0, bins).double()
    return torch.linspace(0, highest.get(name, 0.0), bins).double()


def apply(pixels: torch.Tensor, operation: torch.Tensor, strength: torch.Tensor, fill: int) -> torch.Tensor:
    """One operation on each image: pixels (B, 3, H, W), operation (B,) positions in NAMES, strength (B,) float64 -> pixels.

    fill: value, 0 to 255, of what a warp moves into the image from outside
    """
    return (_apply_by_group if pixels.device.type == "cpu" else _apply_to_all)(pixels, operation, strength, fill)


def _apply_by_group(pixels: torch.Tensor, operation: torch.Tensor, strength: torch.Tensor, fill: int) -> torch.Tensor:
    """Each operation on the images that get it: the least work, but the host has to know how many they are."""
    sizes = torch.bincount(operation, minlength=len(NAMES)).tolist()
    changed = pixels.clone()
    for name, chosen in zip(NAMES, operation.argsort(stable=True).split(sizes)):
        if name != "identity" and len(chosen):
            changed[chosen] = _applied(name, pixels[chosen], strength[chosen], fill)
    return changed


def _apply_to_all(pixels: torch.Tensor, operation: torch.Tensor, strength: torch.Tensor, fill: int) -> torch.Tensor:
    """Each operation on all images, of which some keep the result: a GPU does not make the host wait for their number."""
    changed = pixels
    for number, name in enumerate(NAMES):
        if name != "identity":
            changed = torch.where((operation == number).view(-1, 1, 1, 1), _applied(name, pixels, strength, fill), changed)
    return changed


def _applied(name: str, pixels: torch.Tensor, strength: torch.Tensor, fill: int) -> torch.Tensor:
    amount = strength.view(-1, 1, 1)
    if name in WARPS:
        return warp(pixels, *WARPS[name](amount, *pixels.shape[2:]), fill)
    return COLORS[name](pixels, amount.unsqueeze(1))


def warp(pixels: torch.Tensor, column, row, fill: int) -> torch.Tensor:
    """Moves pixels by an affine map, see WARPS, to the nearest whole place: (n, 3, H, W) -> (n, 3, H, W)."""
    size, (height, width) = len(pixels), pixels.shape[2:]
    # In float64, and element by element: the nearest pixel must not depend on the batch or the device.
    x = torch.arange(width, device=pixels.device, dtype=torch.float64).view(1, 1, -1) - (width - 1) / 2
    y = torch.arange(height, device=pixels.device, dtype=torch.float64).view(1, -1, 1) - (height - 1) / 2
    columns = (column[0] * x + column[1] * y + column[2] + (width - 1) / 2).round().long().expand(size, height, width)
    rows = (row[0] * x + row[1] * y + row[2] + (height - 1) / 2).round().long().expand(size, height, width)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    place = (rows * width + columns) * inside
    moved = pixels.flatten(2).gather(2, place.view(size, 1, -1).expand(-1, 3, -1)).view_as(pixels)
    return torch.where(inside.unsqueeze(1), moved, fill)


def brightness(pixels: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Towards black, or away from it."""
    return _whole(pixels * (1 + strength).float())


def color(pixels: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Towards the grey image, or away from it."""
    return _blend(pixels, _grey(pixels), strength)


def contrast(pixels: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Towards the image's mean grey, or away from it."""
    # A float64 sum of whole numbers is exact, in any order.
    return _blend(pixels, _grey(pixels).mean(dim=(1, 2, 3), keepdim=True, dtype=torch.float64).float(), strength)


def sharpness(pixels: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Towards a blur by 3x3 weights of 1, with 5 in the centre, over 13, or away from it; the border pixels stay."""
    inner = pixels[:, :, 1:-1, 1:-1]
    blurred = ((9 * F.avg_pool2d(pixels, 3, stride=1) + 4 * inner) / 13).round()
    changed = pixels.clone()
    changed[:, :, 1:-1, 1:-1] = _whole(inner + (blurred - inner) * (1 - (1 + strength)).float())
    return changed


def posterize(pixels: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Keeps the highest `strength` bits of each byte."""
    step = torch.exp2(8 - strength).float()
    return (pixels / step).floor() * step


def solarize(pixels: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Inverts the bytes from `strength` on."""
    return torch.where(pixels >= strength.float(), 255 - pixels, pixels)


def autocontrast(pixels: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Stretches each channel to 0 ... 255; a channel of one value stays."""
    low, high = pixels.amin(dim=(2, 3), keepdim=True), pixels.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, _whole((pixels - low) / ((high - low) * (1 / 255))), pixels)


def equalize(pixels: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Gives each channel an even histogram, by the rule of the Python imaging library.

    With h(v) pixels of value v, m the largest value present and step = floor((H W - h(m)) / 255): v becomes
    floor((sum of h(u) for u < v + floor(step / 2)) / step), at most 255; a channel whose step is 0 stays.
    """
    values = pixels.flatten(2).long()
    histogram = torch.zeros(*values.shape[:2], 256, dtype=torch.int64, device=pixels.device)
    histogram.scatter_add_(2, values, torch.ones_like(values))
    up_to = histogram.cumsum(2)
    of_largest = histogram.gather(2, values.amax(2, keepdim=True))
    step = (values.shape[2] - of_largest) // 255
    table = ((up_to - histogram + step // 2) // step.clamp_min(1)).clamp_max(255)
    equalized = table.gather(2, values).view_as(pixels).to(pixels.dtype)
    return torch.where(step.unsqueeze(3) > 0, equalized, pixels)


def invert(pixels: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """255 minus the byte."""
    return 255 - pixels


def _grey(pixels: torch.Tensor) -> torch.Tensor:
    """Luminance by ITU-R 601, cut to a whole number: (n, 3, H, W) -> (n, 1, H, W)."""
    red, green, blue = pixels.split(1, dim=1)
    return (red * 0.2989 + green * 0.587 + blue * 0.114).floor()


def _blend(pixels: torch.Tensor, other: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """(1 + strength) * pixels - strength * other, as bytes."""
    ratio = 1 + strength
    return _whole(pixels * ratio.float() + other * (1 - ratio).float())


def _whole(pixels: torch.Tensor) -> torch.Tensor:
    """As a conversion to bytes does it: cut off at 0 and 255, and after the point."""
    return pixels.clamp(0, 255).floor()


COLORS = {
    "brightness": brightness, "color": color, "contrast": contrast, "sharpness": sharpness, "posterize": posterize,
    "solarize": solarize, "autocontrast": autocontrast, "equalize": equalize, "invert": invert,
}
NAMES = ("identity", *WARPS, *COLORS)
SIGNED = frozenset([*WARPS, "brightness", "color", "contrast", "sharpness"])
