"""Example weights: make(counts, *, ...) gives f(step) -> weights (B,)."""
