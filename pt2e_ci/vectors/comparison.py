"""What an engine or a device gave for vectors, against the exact levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pt2e_ci.errors import InputError
from pt2e_ci.exact.schemes import Multiplier, Rounding
from pt2e_ci.record.criteria import DEFAULT
from pt2e_ci.record.engines import NEAREST, Compared
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.vectors.arithmetic import levels, schemes, sums
from pt2e_ci.vectors.folder import outputs_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pt2e_ci.record.criteria import Criteria
    from pt2e_ci.vectors.arithmetic import Sums
    from pt2e_ci.vectors.vector import Array, Grid, Vector


def compare(
    vector: Vector,
    given: Array,
    criteria: Criteria = DEFAULT,
    rounding: Rounding | Multiplier = Rounding.HALF_EVEN,
    kernel: str | None = None,
) -> Compared:
    """Hold levels against the exact ones.

    Args:
        vector: what was asked.
        given: integers of the shape of its result.
        criteria: what they are held to.
        rounding: the scheme that is due.
        kernel: what gave them.

    """
    found = sums(vector)
    by_scheme = {one: levels(found, vector.output, one) for one in {rounding, *schemes(found)}}
    got, due = given.astype(np.int64), by_scheme[rounding].astype(np.int64)
    wrong = got != due
    furthest = int(np.abs(got - due).max()) if got.size else 0
    displacement = _displacement(found, got, due, vector.output, rounding) if wrong.any() else 0.0
    ties, ties_by = _ties(found, got, vector.output, by_scheme)
    outcome, why = Outcome.PASS, None
    if displacement > criteria.allowed(vector.operator) or furthest > criteria.lsb:
        outcome = Outcome.INEXACT if furthest <= criteria.lsb else Outcome.MISMATCH
        why = f"{int(wrong.sum())} of {got.size} levels are off, up to {furthest} LSB, {displacement:.3g} LSB beyond"
    return Compared(
        vector=vector.name,
        operator=vector.operator,
        outcome=outcome,
        why=why,
        kernel=kernel,
        values=got.size,
        wrong=int(wrong.sum()),
        max=furthest,
        displacement=displacement,
        ties=ties,
        ties_by=ties_by,
        schemes=[str(one) for one in schemes(found) if np.array_equal(by_scheme[one], got)],
    )


def compare_all(
    vectors: Sequence[Vector],
    outputs: Path,
    rounding: Rounding | Multiplier = Rounding.HALF_EVEN,
    criteria: Criteria = DEFAULT,
) -> list[Compared]:
    """Hold a folder of outputs against vectors: for each an npy of levels under its name.

    What is missing, and what is no such thing, is a result of its own.

    Raises:
        InputError: there is no such folder.

    """
    if not outputs.is_dir():
        raise InputError(f"{outputs}: is not a folder of outputs")
    results = []
    for vector in vectors:
        try:
            given = outputs_in(outputs / f"{vector.name}.npy", sums(vector).whole.shape)
        except InputError as error:
            outcome, why = Outcome.ERROR, str(error)
            results.append(Compared(vector=vector.name, operator=vector.operator, outcome=outcome, why=why))
        else:
            results.append(compare(vector, given, criteria, rounding))
    return results


def _steps(found: Sums, grid: Grid) -> Array:
    """Return the real numbers of steps from the zero point, float64: exact where the ratio is a short one."""
    ratios = np.array([float(unit / grid.scale) for unit in found.units])
    return found.arranged(found.rows() * ratios[:, None])


def _displacement(found: Sums, got: Array, due: Array, grid: Grid, rounding: Rounding | Multiplier) -> float:
    """Return how far the furthest wrong level's real number is from the boundary that the level is beyond."""
    turn = rounding.turn if isinstance(rounding, Rounding) else 0.5
    steps, wrong = _steps(found, grid) + grid.zero_point, got != due
    upper = np.maximum(got, due)[wrong] - (1.0 - turn if turn else 0.0)
    beyond = np.abs(steps[wrong] - upper) + np.maximum(np.abs(got - due)[wrong] - 1, 0)
    return float(beyond.max())


def _ties(
    found: Sums, got: Array, grid: Grid, by_scheme: Mapping[Rounding | Multiplier, Array]
) -> tuple[int, dict[str, int]]:
    """Count the results halfway between two levels, and those that each scheme explains, by what it gives."""
    halves = [unit / grid.scale * 2 for unit in found.units]
    if any(half.denominator >= 2**24 for half in halves):
        return 0, {}  # no whole number of such units lies halfway
    rows = found.rows()
    is_tie = [
        (row * half.numerator % half.denominator == 0) & (row * half.numerator // half.denominator % 2 == 1)
        for row, half in zip(rows, halves, strict=True)
    ]
    tied = found.arranged(np.stack(is_tie))
    inside = (due := by_scheme[Rounding.FLOOR].astype(np.int64)) >= grid.low
    tied &= inside & (due < grid.high) & ((steps := _steps(found, grid) + grid.zero_point) > grid.low)
    tied &= steps < grid.high
    if not tied.any():
        return 0, {}
    by = {str(one): int((by_scheme[one][tied] == got[tied]).sum()) for one in NEAREST}
    return int(tied.sum()), by
