"""NCM: the nearest class mean of the clean features decides; nothing is trained."""

from typing import Literal

from lt.retrain.class_means import nearest_mean
from lt.retrain.contracts import Inputs, Retrained

STATISTICS = "frozen"


def fit(inputs: Inputs, *, space: Literal["cl2n", "l2n", "cosine", "plain"] = "cl2n") -> Retrained:
    """The class whose mean over the features of the images as they are is nearest.

    space: cl2n subtracts the mean feature of the training part and scales to unit length, then takes means and Euclidean
        distances; l2n only scales; plain does neither; cosine takes means as plain does, and the angle to them for the distance
    The rule counts every class once, so its logits are taken to embody the uniform prior.

    (source: Kang et al. 2020, Decoupling, section 4.2)
    """
    return nearest_mean(inputs, space)
