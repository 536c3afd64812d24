"""From real numbers to integer levels, by a declared rounding scheme, ties decided exactly."""

from __future__ import annotations

import math
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from pt2e_ci.exact.reals import Real


class Rounding(StrEnum):
    """How a backend takes a real number of steps to a whole one."""

    HALF_EVEN = "half_even"
    """The nearest, ties to even: IEEE 754's default, and that of torch's quantize operators and of XNNPACK."""
    HALF_AWAY = "half_away"
    """The nearest, ties away from zero: C's round()."""
    TRUNCATE = "truncate"
    """Towards zero: a cast from float to int."""


def _away(value: Fraction) -> int:
    return int(math.copysign(1, value)) * math.floor(abs(value) + Fraction(1, 2))


_ONE: dict[Rounding, Callable[[Fraction], int]] = {
    Rounding.HALF_EVEN: round,
    Rounding.HALF_AWAY: _away,
    Rounding.TRUNCATE: math.trunc,
}
_MANY: dict[Rounding, Callable[[torch.Tensor], torch.Tensor]] = {
    Rounding.HALF_EVEN: torch.round,
    Rounding.HALF_AWAY: lambda steps: steps.sign() * (steps.abs() + 0.5).floor(),
    Rounding.TRUNCATE: torch.trunc,
}


def to_levels(
    real: Real, scale: Fraction, zero_point: int, low: int, high: int, rounding: Rounding = Rounding.HALF_EVEN
) -> torch.Tensor:
    """Return ``clamp(round(real / scale) + zero_point, low, high)`` as int64.

    The float64 view of ``real / scale`` settles nearly all elements: those whose distance from the nearest point
    where the rounding turns exceeds the bound of the error. The others are rounded as rationals, one by one.
    """
    steps = real.times(1 / scale)
    value, error = steps.approximately()
    # Far outside of the range the clamp decides, and a float64 of any size stays one.
    low_steps, high_steps = low - zero_point, high - zero_point
    value = value.clamp(low_steps - 2, high_steps + 2)
    levels = _MANY[rounding](value).to(torch.int64).contiguous()
    if steps.exact and not steps.fits_float64:
        turn = 0.0 if rounding is Rounding.TRUNCATE else 0.5
        distance = (value - turn - (value - turn).round()).abs()
        slack = (value.abs() + 1) * 2.0**-50  # the differences above are rounded, too
        inside = (value > low_steps - 1) & (value < high_steps + 1)
        flat, unsettled = levels.view(-1), (inside & (distance <= error + slack)).reshape(-1)
        for index in unsettled.nonzero().flatten().tolist():
            flat[index] = _ONE[rounding](steps.element(index))
    return (levels + zero_point).clamp(low, high)
