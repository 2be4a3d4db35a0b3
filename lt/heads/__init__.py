"""Classifier heads: make(feature_dim, num_classes, *, ...) gives a module, features -> logits."""
