"""From real numbers to integer levels, by a declared rounding scheme, ties decided exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pt2e_ci.exact.boundaries import beginnings
from pt2e_ci.exact.schemes import Rounding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from fractions import Fraction

    from pt2e_ci.exact.reals import Real

_MANY: dict[Rounding, Callable[[torch.Tensor], torch.Tensor]] = {
    Rounding.HALF_EVEN: torch.round,
    Rounding.HALF_UP: lambda steps: (steps + 0.5).floor(),
    Rounding.HALF_AWAY: lambda steps: steps.sign() * (steps.abs() + 0.5).floor(),
    Rounding.FLOOR: torch.floor,
    Rounding.TRUNCATE: torch.trunc,
}


def beginnings_of(
    turns: Sequence[tuple[int, bool]], scale: Fraction, affine: Sequence[tuple[Fraction, Fraction]]
) -> torch.Tensor:
    """Return the least integer of each level, int64, in a row for each unit and offset.

    It is what `beginnings` gives: a float64 view settles nearly all, and that the others.
    """
    halves = torch.tensor([half_steps for half_steps, _ in turns], dtype=torch.float64)
    ratios, shifts = (
        torch.tensor([float(one) for one in numbers], dtype=torch.float64)[:, None]
        for numbers in ([scale / unit / 2 for unit, _ in affine], [offset / unit for unit, offset in affine])
    )
    value = halves * ratios - shifts
    error = ((halves * ratios).abs() + shifts.abs()) * 2.0**-50
    found = (value.clamp(-(2.0**61), 2.0**61).floor() + 1).to(torch.int64)
    unsettled = ((value - value.round()).abs() <= error) | (value.abs() >= 2.0**52)
    for row in unsettled.any(1).nonzero().flatten().tolist():
        columns = unsettled[row].nonzero().flatten()
        exact = beginnings([turns[column] for column in columns.tolist()], scale, *affine[row])
        found[row, columns] = torch.tensor(exact)
    return found


def to_levels(
    real: Real, scale: Fraction, zero_point: int, bounds: tuple[int, int], rounding: Rounding = Rounding.HALF_EVEN
) -> torch.Tensor:
    """Return ``clamp(round(real / scale) + zero_point, *bounds)`` as int64.

    The float64 view of ``real / scale`` settles nearly all elements: those whose distance from the nearest point
    where the rounding turns exceeds the bound of the error. The others are rounded as rationals, one by one.
    """
    steps = real.times(1 / scale)
    # Far outside of the range the clamp decides, and a float64 of any size stays one.
    low, high = (bound - zero_point for bound in bounds)
    value = steps.floats().contiguous().clamp_(low - 2, high + 2)
    if rounding is Rounding.HALF_EVEN_OF_LEVEL:
        whole = torch.round(value + zero_point)
    else:
        whole = _MANY[rounding](value).add_(zero_point)
    levels = whole.clamp_(*bounds).to(torch.int64)
    if steps.exact and not steps.fits_float64:
        distance = value - rounding.turn
        distance.sub_(distance.round()).abs_()
        limit = max(map(abs, (low, high, *bounds))) + 2
        slack = limit * 2.0**-50  # the differences above are rounded, too
        near = (distance <= steps.error(limit) + slack).view(-1).nonzero().flatten()
        numbers, flat = value.view(-1)[near], levels.view(-1)
        is_zero = torch.stack([term.integers.reshape(-1)[near] == 0 for term in steps.terms]).all(0)
        for index in near[(numbers > low - 1) & (numbers < high + 1) & ~is_zero].tolist():
            flat[index] = min(max(rounding.whole(steps.element(index), zero_point) + zero_point, bounds[0]), bounds[1])
    return levels
