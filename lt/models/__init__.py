"""Backbones: make(*, ...) gives a module, images (B, 3, H, W) -> features (B, D) or (B, E, D).

module.slow_parameters(), where it is there: those of its parameters that learn at backbone_lr_factor times the rate; else all do.
"""
