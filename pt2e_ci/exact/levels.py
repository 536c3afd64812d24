"""From real numbers to integer levels, by a declared rounding scheme, ties decided exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pt2e_ci.exact.schemes import Rounding

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

    from pt2e_ci.exact.reals import Real

_MANY: dict[Rounding, Callable[[torch.Tensor], torch.Tensor]] = {
    Rounding.HALF_EVEN: torch.round,
    Rounding.HALF_AWAY: lambda steps: steps.sign() * (steps.abs() + 0.5).floor(),
    Rounding.TRUNCATE: torch.trunc,
}


def to_levels(
    real: Real, scale: Fraction, zero_point: int, bounds: tuple[int, int], rounding: Rounding = Rounding.HALF_EVEN
) -> torch.Tensor:
    """Return ``clamp(round(real / scale) + zero_point, *bounds)`` as int64.

    The float64 view of ``real / scale`` settles nearly all elements: those whose distance from the nearest point
    where the rounding turns exceeds the bound of the error. The others are rounded as rationals, one by one.
    """
    steps = real.times(1 / scale)
    value, error = steps.approximately()
    # Far outside of the range the clamp decides, and a float64 of any size stays one.
    low, high = (bound - zero_point for bound in bounds)
    value = value.clamp(low - 2, high + 2)
    levels = _MANY[rounding](value).to(torch.int64).contiguous()
    if steps.exact and not steps.fits_float64:
        distance = (value - rounding.turn - (value - rounding.turn).round()).abs()
        slack = (value.abs() + 1) * 2.0**-50  # the differences above are rounded, too
        inside = (value > low - 1) & (value < high + 1)
        flat, unsettled = levels.view(-1), (inside & (distance <= error + slack)).reshape(-1)
        for index in unsettled.nonzero().flatten().tolist():
            flat[index] = rounding.whole(steps.element(index))
    return (levels + zero_point).clamp(*bounds)
