"""Batch samplers: make(labels, counts, batch_size, *, ...) gives index batches."""
