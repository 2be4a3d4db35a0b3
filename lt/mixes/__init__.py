"""Image mixing: make(counts, *, ...) gives f(images, target, epoch, generator) -> lt.contracts.Mixed."""
