"""Rows of the table: base, a method, or the xERM student of a method, xerm_<teacher>."""

from typing import Iterable, NamedTuple

STUDENT = "xerm_"


class Maker(NamedTuple):
    """The stage that trains a row, and the method that it trains or that teaches it; none for base."""

    stage: str
    method: str | None


def row_names(methods: Iterable[str], teachers: Iterable[str]) -> list[str]:
    """Rows of a table in their order: base, every method, and a student for every teacher."""
    return ["base", *methods, *(STUDENT + teacher for teacher in teachers)]


def maker(row: str) -> Maker:
    """balms -> (retrain, balms), xerm_pc -> (distill, pc), base -> (base, None)."""
    if row == "base":
        return Maker("base", None)
    if row.startswith(STUDENT):
        return Maker("distill", row.removeprefix(STUDENT))
    return Maker("retrain", row)


def evaluation(row: str, seed: int | str) -> str:
    """The stage that evaluates a row of a seed, as DVC names it: balms -> evaluate@balms-0, xerm_pc -> evaluate_xerm@pc-0."""
    stage, method = maker(row)
    return {"base": f"evaluate_base@{seed}", "retrain": f"evaluate@{method}-{seed}", "distill": f"evaluate_xerm@{method}-{seed}"}[stage]
