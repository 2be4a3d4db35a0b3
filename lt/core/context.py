"""What a row was made of: written by the stage that trains into its artifact, and carried on by every stage after it."""

from typing import Iterable

from lt.core import artifacts
from lt.core.artifacts import ArtifactError
from lt.core.params import AXES, Settings
from lt.core.schemas import Row
from lt.core.subset import Subset


def made_of(settings: Settings, subset: Subset) -> dict[str, str]:
    """The names on the axes, the imbalance with its profile, and the first 12 digits of two sha256: subset, of the training
    positions, and data, of the raw files; extra_data, only where the base model is trained with more than the subset; fold, only
    where the test part is one of several.

    Raises ArtifactError where the subset is of another data set than params.yaml names.
    """
    if subset.dataset != settings.dataset:
        found = f"got data set {subset.dataset}, and params.yaml names {settings.dataset}"
        raise ArtifactError(f"{artifacts.stage_dir('data')}: {found}; run: dvc repro subsample")
    extra = {"extra_data": f"labelled images that the subset left out, in weighting {settings.weighting}"}
    options = settings.options("datasets", settings.dataset)
    fold = {"fold": f"{options.get('fold', 0)} of {options['folds']}"} if options.get("folds") else {}
    return {
        **{axis: getattr(settings, axis) for axis in AXES},
        "imbalance": f"{subset.imbalance:g} ({subset.profile})",
        "subset": subset.sha256[:12],
        "data": subset.raw_sha256[:12],
        **(extra if settings.adds_images() else {}),
        **fold,
    }


def of_base(settings: Settings, seed: int, axes: Iterable[str]) -> dict[str, str]:
    """What the base model of a seed was made of, for what is built on it with the plug-ins that params.yaml names on `axes`.

    Raises ArtifactError where those are not the base model's.
    """
    folder = artifacts.stage_dir("base", seed)
    context = artifacts.read_json(folder / "row.json", Row)["context"]
    differing = [f"{axis} {context[axis]}, now {getattr(settings, axis)}" for axis in axes if context[axis] != getattr(settings, axis)]
    if differing:
        raise ArtifactError(
            f"{folder} was made with {'; '.join(differing)}; run: dvc repro base@{seed} (without DVC: python -m stages.base "
            f"--seed {seed}), or undo the change in params.yaml"
        )
    return context
