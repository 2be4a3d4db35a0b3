"""Batch augmentations: make(image_size, *, ...) gives f(images, keys) -> images."""
