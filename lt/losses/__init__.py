"""Losses: make(counts, *, ...) gives f(logits (B, C), target (B,)) -> losses (B,)."""
