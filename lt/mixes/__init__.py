"""Image mixing: make(counts, *, ...) gives f(images, target, epoch, generator) -> lt.training.contracts.Mixed.

f.label_distribution(drawn, class_weights, batch_size, epoch) -> (C,) float64, positive, on any scale: how much each class is
trained on as a label in that epoch, q of lt.training.mixing.label_distribution, where the examples of a batch are drawn independently,
class c with probability drawn_c, and one of own class a weighs class_weights_a. The prior that is recorded with the base model
follows from it.
"""
