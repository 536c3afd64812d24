"""Rounding schemes: how a real number of steps becomes a whole one. Nothing here imports torch."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction


class Rounding(StrEnum):
    """How a backend takes a real number of steps to a whole one."""

    HALF_EVEN = "half_even"
    """The nearest, ties to even: IEEE 754's default, and that of torch's quantize operators and of XNNPACK."""
    HALF_AWAY = "half_away"
    """The nearest, ties away from zero: C's round()."""
    TRUNCATE = "truncate"
    """Towards zero: a cast from float to int."""

    @property
    def words(self) -> str:
        """Say what becomes of a number between two levels."""
        return _WORDS[self]

    @property
    def turn(self) -> float:
        """Where between two whole numbers the rounding turns from one to the other."""
        return 0.0 if self is Rounding.TRUNCATE else 0.5

    def whole(self, steps: Fraction) -> int:
        """Round a number."""
        return _WHOLE[self](steps)


def _away(value: Fraction) -> int:
    # floor(2 |value| + 1) // 2 is |value| rounded, ties up.
    return int(math.copysign(1, value)) * (math.floor(2 * abs(value) + 1) // 2)


_WHOLE: dict[Rounding, Callable[[Fraction], int]] = {
    Rounding.HALF_EVEN: round,
    Rounding.HALF_AWAY: _away,
    Rounding.TRUNCATE: math.trunc,
}
_WORDS = {
    Rounding.HALF_EVEN: "rounded to the nearest level, ties to even",
    Rounding.HALF_AWAY: "rounded to the nearest level, ties away from zero",
    Rounding.TRUNCATE: "cut off towards zero",
}
