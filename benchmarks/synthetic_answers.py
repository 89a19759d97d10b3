"""What is known beforehand of the benchmark of synthetic systems, and whether it came out.

A comparison of two models is decided where the 95 % interval of it lies on one side; else it is
open. Force errors are compared as the ratio of two models' mean square errors on the same test
trajectories, resampled together.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pydantic
from numpy.typing import NDArray
from synthetic_stages import Row, VariantRow

from cgbench.config import Frozen

#: Largest mean square force error that single precision explains, (kcal/mol/Å)².
ROUNDING: Final = 1e-6
_RESAMPLES: Final = 2000
_ENDS: Final = (2.5, 97.5)
_SEED: Final = 1


class Ratio(Frozen):
    """Ratio of two mean square force errors, with its 95 % interval."""

    value: float
    lo: float
    hi: float


class KnownAnswer(Frozen):
    """One answer that is known beforehand.

    Attributes:
        statement: What must hold.
        cases: Number of cases.
        holds: In how many of them it does.
        open: Cases whose interval holds both answers.
        failing: Cases in which it does not hold.
        ratios: For force errors, the ratio that must be below one, by case.
    """

    statement: str
    cases: int
    holds: int
    open: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    ratios: dict[str, Ratio] = pydantic.Field(default_factory=dict)


def interval(errors: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean over trajectories, by resampling them."""
    low, high = np.percentile(_resampled(np.asarray(errors)[None])[0], _ENDS)
    return float(low), float(high)


def ratio(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """Return the ratio of two models' mean square errors, trajectories resampled together.

    Args:
        first: Mean square error of each test trajectory under one model, (kcal/mol/Å)².
        second: The same under the other.
    """
    both = np.array([first, second], dtype=np.float64)
    means = _resampled(both)
    low, high = np.percentile(means[0] / means[1], _ENDS)
    value = both[0].mean() / both[1].mean()
    return Ratio(value=float(value), lo=float(low), hi=float(high))


def _resampled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return means (n_models, n_resamples) over trajectories drawn with replacement."""
    number = values.shape[1]
    drawn = np.random.default_rng(_SEED).integers(number, size=(_RESAMPLES, number))
    return np.asarray(values[:, drawn].mean(axis=2))


def known_answers(rows: Sequence[Row], variants: Sequence[VariantRow]) -> list[KnownAnswer]:
    """Return which known answers came out."""
    found = {(row.system, row.row): row for row in rows}
    systems = list(dict.fromkeys(row.system for row in rows))
    on_variants: dict[Any, VariantRow] = {(row.variant, row.row): row for row in variants}
    names = list(dict.fromkeys(row.variant for row in variants))

    def less(first: Any, second: Any) -> dict[str, Ratio]:
        return {
            system: ratio(found[system, first].forces, found[system, second].forces)
            for system in systems
        }

    def unfolds(name: str) -> bool | None:
        status = on_variants[name, "prior"].status
        return None if status is None else status == "unfolds"

    answers = [
        _told(
            "the generating potential has no force error",
            {key: _no_error(found[key, "generating"]) for key in systems},
        ),
        _told(
            "the generating potential scores at the noise floor (`w1_tic1`)",
            {key: _not_above(found[key, "generating"], found[key, "md_split_half"])
             for key in systems},
        ),
        _told(
            "the prior alone scores worse than the generating potential (`w1_tic1`)",
            {key: _above(found[key, "prior"], found[key, "generating"]) for key in systems},
        ),
        _compared(
            "the network of all proteins has less force error than its prior",
            less("multi-protein", "prior"),
        ),
        _compared(
            "it has less than the network that was trained without the protein",
            less("multi-protein", "leave-one-out"),
        ),
        _compared(
            "on variants it has less force error than its prior",
            {
                name: ratio(
                    on_variants[name, "multi-protein"].forces, on_variants[name, "prior"].forces
                )
                for name in names
            },
        ),
        _told(
            "the prior alone does not hold the fold of a variant",
            {name: unfolds(name) for name in names},
        ),
    ]  # fmt: skip
    return [one for one in answers if one.cases]


def _told(statement: str, verdicts: Mapping[str, bool | None]) -> KnownAnswer:
    return KnownAnswer(
        statement=statement,
        cases=len(verdicts),
        holds=sum(verdict is True for verdict in verdicts.values()),
        open=tuple(key for key, verdict in verdicts.items() if verdict is None),
        failing=tuple(key for key, verdict in verdicts.items() if verdict is False),
    )


def _compared(statement: str, ratios: Mapping[str, Ratio]) -> KnownAnswer:
    """Return an answer that holds where a ratio is below one, and is open where it may be."""
    verdicts = {
        key: True if one.hi < 1.0 else False if one.lo > 1.0 else None
        for key, one in ratios.items()
    }
    return _told(statement, verdicts).model_copy(update={"ratios": dict(ratios)})


def _no_error(row: Row) -> bool:
    return bool(row.forces) and float(np.mean(row.forces)) < ROUNDING


def _not_above(row: Row, floor: Row) -> bool | None:
    """Return whether a row is not above the noise floor; without intervals that is open."""
    if row.status != "ok":
        return False
    if row.w1_lo is None or floor.w1_hi is None:
        return None
    return row.w1_lo <= floor.w1_hi


def _above(row: Row, better: Row) -> bool | None:
    """Return whether a row is worse than a better one beyond both intervals; a failed one is."""
    if row.status != "ok":
        return True
    if row.w1_lo is None or row.w1_hi is None or better.w1_lo is None or better.w1_hi is None:
        return None
    if row.w1_lo > better.w1_hi:
        return True
    return False if row.w1_hi < better.w1_lo else None
