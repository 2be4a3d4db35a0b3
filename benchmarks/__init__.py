"""Measurements of the project's speed, as ratios of two ways to do the same thing: python -m benchmarks."""
