"""Class counts: long-tailed profiles, priors, class groups. numpy only."""

import numpy as np

MANY_OVER = 100  # many: more than 100 training images (Liu et al. 2019, OLTR)
FEW_UNDER = 20  # few: fewer than 20; medium: 20 to 100


def prior(counts: np.ndarray) -> np.ndarray:
    """Class frequencies n_c / N: counts (C,) -> (C,) float64, sums to 1.

    Raises ValueError where a class has no example: its log prior would be minus infinity.
    """
    counts = np.asarray(counts, dtype=np.float64)
    if counts.ndim != 1 or len(counts) < 2:
        raise ValueError(f"counts: got shape {counts.shape}, expected (C,) with at least two classes")
    if not (np.isfinite(counts).all() and (counts > 0).all()):
        bad = np.flatnonzero(~(counts > 0)).tolist()[:10]
        raise ValueError(f"counts: classes {bad} have no training example; leave them out of the label set, or lower imbalance")
    return counts / counts.sum()


def uniform(num_classes: int) -> np.ndarray:
    """Every class alike: 1 / C, (C,) float64."""
    return np.full(num_classes, 1 / num_classes)


def log_prior(counts: np.ndarray) -> np.ndarray:
    """log(n_c / N): counts (C,) -> (C,) float64; raises ValueError where a class has no example."""
    return np.log(prior(counts))


def effective_number_weights(counts: np.ndarray, beta: float) -> np.ndarray:
    """Class weights in proportion to the inverse effective number of images, (1 - beta) / (1 - beta^n_c), scaled to sum C.

    counts (C,)    0 <= beta < 1: 0 gives equal weights, towards 1 they go to 1 / n_c
    returns (C,) float64; raises ValueError where a class has no example, or beta is out of range
    (source: Cui et al. 2019, Class-Balanced Loss Based on Effective Number of Samples)
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta: got {beta}, expected 0 <= beta < 1")
    prior(counts)  # raises on a class without an example
    weights = (1 - beta) / (1 - beta ** np.asarray(counts, dtype=np.float64))
    return weights * (len(weights) / weights.sum())


def shot_groups(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Masks (C,) of the classes with many (> 100), medium (20 to 100) and few (< 20) training images."""
    counts = np.asarray(counts)
    many, few = counts > MANY_OVER, counts < FEW_UNDER
    return {"many": many, "medium": ~many & ~few, "few": few}


def thirds(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Masks (C,) of the head, mid and tail thirds of the classes by training count, none of them empty for C >= 3.

    Ties go by class number; where 3 does not divide C, the head is one class larger (C = 10: 4, 3, 3).
    """
    order = np.argsort(-np.asarray(counts), kind="stable")
    masks = {}
    for name, classes in zip(("head", "mid", "tail"), np.array_split(order, 3)):
        masks[name] = np.isin(np.arange(len(order)), classes)
    return masks


def embodied_prior(loss_prior: np.ndarray, counts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Class prior that a model's raw logits embody after training on labels whose shares of the classes are `labels`.

    A loss leaves the logits at `loss_prior` when classes come at their natural frequency, prior_c. What is trained on comes at
    q_c instead, on any scale: drawn_c w_c, where a sampler draws class c with probability drawn_c and its examples weigh w_c;
    label_distribution of a mix, where labels are soft. The loss is linear in the label, so that training ends where the mean of
    q_c L(z, c) is least. Cross-entropy of z + shift ends at softmax(z + shift)_c ~ q_c p(image | c), so z embodies
    q_c exp(-shift_c); a loss's prior is that for q = prior, loss_prior_c = prior_c exp(-shift_c); and

        embodied_c ~ loss_prior_c q_c / prior_c

    A loss that compensates does so by the counts, whatever it is trained on: with Balanced Softmax, uniform at q = prior, what is
    left is q / prior. For example cross-entropy with a class-balanced sampler: prior_c * (1/C) / prior_c, the uniform prior.
    Of mixed images p(mixed image | c) is meant, with c drawn as the label is weighted; it stands for that of images as they are.

    all (C,), positive    returns (C,) float64, sums to 1
    """
    shifted = np.asarray(loss_prior) * np.asarray(labels) / prior(counts)
    return shifted / shifted.sum()
