"""Classifiers: backbones, heads, weights from files, inference."""
