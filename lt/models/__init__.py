"""Backbones: make(*, ...) gives a module, images (B, 3, H, W) -> features (B, D) or (B, E, D)."""
