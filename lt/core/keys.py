"""Randomness without state: every draw is a function of (seed, names) or of an example's key.

Images are augmented by numbers computed from a key per example, derived from (seed, epoch, position), so that the
result depends neither on the batch an example falls into, nor on the device, nor on what was drawn before it: a resumed
or a distributed run sees the same images. The mixing function is SplitMix64 (Steele, Lea, Flood 2014, OOPSLA).
"""

import hashlib

import torch

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def derive(*names: int | str) -> int:
    """A 63-bit seed from a sequence of names, the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*names: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator seeded with `derive(*names)`."""
    return torch.Generator(device=device).manual_seed(derive(*names))


def example_keys(seed: int, positions: torch.Tensor) -> torch.Tensor:
    """One 64-bit key per example: positions (B,) int64 -> keys (B,) int64."""
    return _splitmix(positions * _GAMMA + seed)


def uniform(keys: torch.Tensor, n: int, stream: int = 0) -> torch.Tensor:
    """`n` uniform numbers per key: keys (B,) int64 -> (B, n) float32 in [0, 1), 24 bits each.

    `stream` separates draws that must be independent, such as those of two augmentations in a row.
    """
    counters = torch.arange(1, n + 1, dtype=torch.int64, device=keys.device) + stream * 65_536
    bits = _splitmix(keys[:, None] + counters * _GAMMA)
    return _shift_right(bits, 40).to(torch.float32) * 2.0**-24


def _splitmix(bits: torch.Tensor) -> torch.Tensor:
    bits = (bits ^ _shift_right(bits, 30)) * _MIX_1
    bits = (bits ^ _shift_right(bits, 27)) * _MIX_2
    return bits ^ _shift_right(bits, 31)


def _shift_right(bits: torch.Tensor, places: int) -> torch.Tensor:
    """Logical (unsigned) shift of int64."""
    return (bits >> places) & ((1 << (64 - places)) - 1)
