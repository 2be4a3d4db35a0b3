"""What the mixes share: Beta draws from a generator, and the weighted mean of two batches of images."""

import torch

from lt.contracts import Mixed


def beta(alpha: float, size: int, generator: torch.Generator) -> torch.Tensor:
    """`size` draws of Beta(alpha, alpha) on the generator's device: (size,) float64 in [0, 1]."""
    # The sampler behind torch.distributions.Beta, which itself takes no generator; float64 since small alphas underflow float32.
    concentration = torch.full((size, 2), alpha, dtype=torch.float64, device=generator.device)
    return torch._sample_dirichlet(concentration, generator)[:, 0]


def factors(alpha: float, size: int, lam_per: str, generator: torch.Generator) -> torch.Tensor:
    """Beta(alpha, alpha) factors, one per 'example' or one for the whole 'batch': (size,) float64."""
    return beta(alpha, size, generator) if lam_per == "example" else beta(alpha, 1, generator).expand(size)


def blend(images: torch.Tensor, partner: torch.Tensor, lam: torch.Tensor) -> torch.Tensor:
    """lam_i * images_i + (1 - lam_i) * images_partner(i): images (B, 3, H, W), partner (B,) int64, lam (B,) -> (B, 3, H, W)."""
    share = lam.to(images.dtype).view(-1, 1, 1, 1)
    return share * images + (1 - share) * images[partner]


def unmixed(images: torch.Tensor, target: torch.Tensor) -> Mixed:
    """The batch as it is, with lam = 1."""
    return Mixed(images, target, target, torch.ones(len(target), dtype=images.dtype, device=images.device))
