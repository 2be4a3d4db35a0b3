"""Is the difference of two rows noise? Paired intervals over seeds and over test images. numpy and scipy only."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from lt.core.plugins import unknown
from lt.evaluate.metrics import groups

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A difference with its 95% confidence interval."""

    difference: float
    low: float
    high: float

    @property
    def leaves_out_zero(self) -> bool:
        """Whether the difference stands out of the noise that the interval is made of."""
        return self.low > 0 or self.high < 0


def wilson(share: np.ndarray | float, number: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """95% interval of a share of `number` images, such as a recall: low and high, both NaN without an image.

        ( p + z^2 / 2n -+ z sqrt( p (1 - p) / n + z^2 / 4n^2 ) ) / (1 + z^2 / n)

    It holds for few images, too, and for shares of 0 and 1. (source: Wilson 1927; Brown, Cai, DasGupta 2001)
    """
    share, number = np.asarray(share, dtype=np.float64), np.where(np.asarray(number) > 0, number, np.nan)
    z = ndtri(0.5 + LEVEL / 2)
    middle = share + z**2 / (2 * number)
    margin = z * np.sqrt(share * (1 - share) / number + (z / (2 * number)) ** 2)
    below = 1 + z**2 / number
    return np.clip((middle - margin) / below, 0, 1), np.clip((middle + margin) / below, 0, 1)


def pack_correct(correct: np.ndarray, labels: np.ndarray) -> str:
    """Which test images are right, one bit each, as hexadecimal digits; class by class. (N,) bool, labels (N,) -> str."""
    return np.packbits(correct[np.argsort(labels, kind="stable")]).tobytes().hex()


def unpack_correct(text: str, test_counts: list[int]) -> list[np.ndarray]:
    """What pack_correct wrote: one bool array (n_c,) per class."""
    size = sum(test_counts)
    bits = np.frombuffer(bytes.fromhex(text), dtype=np.uint8)
    if len(bits) != -(-size // 8):
        raise ValueError(f"correct: got {len(bits)} bytes, expected {-(-size // 8)} for {size} test images; evaluate again")
    return np.split(np.unpackbits(bits, count=size).astype(bool), np.cumsum(test_counts)[:-1])


def over_seeds(first: list[float], second: list[float]) -> Interval | None:
    """second - first, paired by seed, with Student's interval mean +- t_(n-1) sd / sqrt(n); None for fewer than two seeds.

    It says how far other training seeds would move the difference, with this subset and this test set.
    Raises ValueError where the lists differ in length.
    """
    if len(first) != len(second):
        raise ValueError(f"seeds: got {len(first)} and {len(second)} values, expected one pair per seed")
    differences = np.subtract(second, first)
    if len(differences) < 2:
        return None
    mean = float(differences.mean())
    error = float(differences.std(ddof=1) / np.sqrt(len(differences)))
    margin = float(stdtrit(len(differences) - 1, 0.5 + LEVEL / 2)) * error
    return Interval(mean, mean - margin, mean + margin)


def class_weights(metric: str, train_counts: np.ndarray, test_counts: np.ndarray) -> np.ndarray | None:
    """Weights (C,) with which a metric sums per-class recall: top1, balanced, many ... tail; None for any other metric."""
    train_counts, test_counts = np.asarray(train_counts), np.asarray(test_counts)
    tested = test_counts > 0
    masks = {"balanced": tested, **groups(train_counts)}
    if metric == "top1":
        return test_counts / test_counts.sum()
    inside = masks[metric] & tested if metric in masks else np.zeros_like(tested)
    return inside / inside.sum() if inside.any() else None


def over_images(
    first: list[list[np.ndarray]], second: list[list[np.ndarray]], weights: np.ndarray, paired: bool
) -> Interval:
    """second - first with a normal interval over the choice of test images within each class.

    With d_i = mean over seeds of (image i right in second) - (right in first): difference sum_c w_c mean_c(d), variance
    sum_c w_c^2 var_c(d) / n_c. Without pairing (not the same test images) the two variances are added instead.
    With one seed and w_c = n_c / N this is the interval that belongs to McNemar's test, stratified by class.

    first, second: per seed, what unpack_correct gives    weights (C,)
    """
    counts = np.array([len(of_class) for of_class in first[0]])
    tested = counts > 0
    starts, weights, counts = (np.cumsum(counts) - counts)[tested], weights[tested], counts[tested]
    # In how many seeds each image is right, in small whole numbers: their sums are exact, and take little memory.
    votes = [sum(np.concatenate(seed).astype(np.int16) for seed in row) for row in (first, second)]
    seeds = np.array([len(row) for row in (first, second)])

    def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each class."""
        mean, square = (np.add.reduceat(power, starts, dtype=np.int64) / counts for power in (values, values.astype(np.int32) ** 2))
        return mean, square - mean**2

    if paired:
        mean, spread = (moment / seeds[0] ** power for power, moment in enumerate(moments(votes[1] - votes[0]), 1))
    else:
        (mean_0, var_0), (mean_1, var_1) = (moments(one) for one in votes)
        mean, spread = mean_1 / seeds[1] - mean_0 / seeds[0], var_0 / seeds[0] ** 2 + var_1 / seeds[1] ** 2
    difference, variance = weights @ mean, (weights**2) @ (spread / counts)
    margin = float(ndtri(0.5 + LEVEL / 2) * np.sqrt(variance))
    return Interval(float(difference), float(difference - margin), float(difference + margin))


@dataclass(frozen=True)
class Comparison:
    """One metric of two rows: mean over the seeds that both have, and the difference second - first."""

    metric: str
    seeds: list[str]
    first: float
    second: float
    by_seed: Interval | None
    by_image: Interval | None
    paired: bool

    def verdict(self) -> str:
        """Whether the difference is noise, in words."""
        if self.first == self.second:
            return "no difference"
        if self.by_image and not self.by_image.leaves_out_zero:
            return "noise: other test images could turn it round"
        if self.by_seed:
            return "more than noise" if self.by_seed.leaves_out_zero else "noise: other training seeds could turn it round"
        known = "more than the noise of the test images" if self.by_image else "unknown"
        return f"{known}; one seed cannot tell it from the noise of training: run both with at least three seeds"


def compare(first: dict, second: dict, metric: str) -> Comparison:
    """Compares two rows by their details (results/details/<row>.json) in one metric, over the seeds that both have.

    Pairs test images where both rows were made from one subset and fold of the same raw data, which fixes the test part.
    Raises ValueError for an unknown or undefined metric, no common seed, or different data.
    """
    for name in ("classes", "test_counts"):
        if first[name] != second[name]:
            raise ValueError(f"{name} differ: the two rows were judged on different test data, and cannot be compared")
    if metric not in first["mean"] or metric not in second["mean"]:
        raise ValueError(f"metric: {unknown(metric, [name for name in first['mean'] if name in second['mean']], 'one of')}")
    if first["mean"][metric] is None or second["mean"][metric] is None:
        raise ValueError(f"metric {metric!r} is not defined here: no class is in its group; choose another, such as balanced")
    seeds = [seed for seed in first["seeds"] if seed in second["seeds"]]
    if not seeds:
        raise ValueError(f"no common seed: got {list(first['seeds'])} and {list(second['seeds'])}; run both with the same seeds")
    values = [[row["seeds"][seed]["metrics"][metric] for seed in seeds] for row in (first, second)]
    paired = all(first["context"].get(key) == second["context"].get(key) for key in ("dataset", "data", "subset", "fold"))
    by_image = _by_image(first, second, metric, seeds, paired)
    return Comparison(metric, seeds, float(np.mean(values[0])), float(np.mean(values[1])), over_seeds(*values), by_image, paired)


def _by_image(first: dict, second: dict, metric: str, seeds: list[str], paired: bool) -> Interval | None:
    """The interval over test images, where the metric sums per-class recall with the same weights in both rows."""
    weights = [class_weights(metric, row["train_counts"], row["test_counts"]) for row in (first, second)]
    if any(one is None for one in weights) or not np.array_equal(*weights):
        return None
    right = [[unpack_correct(row["seeds"][seed]["correct"], row["test_counts"]) for seed in seeds] for row in (first, second)]
    return over_images(*right, weights[0], paired)
