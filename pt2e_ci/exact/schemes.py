"""Rounding schemes: how a real number of steps becomes a whole one. Nothing here imports torch."""

from __future__ import annotations

import math
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_HALF = Fraction(1, 2)


class Rounding(StrEnum):
    """How a backend takes a real number of steps to a whole one."""

    HALF_EVEN = "half_even"
    """The nearest, ties to even: IEEE 754's default, and that of torch's quantize operators and of XNNPACK."""
    HALF_EVEN_OF_LEVEL = "half_even_of_level"
    """The nearest, ties to the even level: the zero point is added before a number is rounded."""
    HALF_UP = "half_up"
    """The nearest, ties up: a half is added, and the sum rounded down."""
    HALF_AWAY = "half_away"
    """The nearest, ties away from zero: C's round()."""
    FLOOR = "floor"
    """Down: an arithmetic shift."""
    TRUNCATE = "truncate"
    """Towards zero: a cast from float to int."""

    @property
    def words(self) -> str:
        """Say what becomes of a number between two levels."""
        return _WORDS[self]

    @property
    def turn(self) -> float:
        """Where between two whole numbers the rounding turns from one to the other."""
        return 0.0 if self in (Rounding.TRUNCATE, Rounding.FLOOR) else 0.5

    def whole(self, steps: Fraction, zero_point: int = 0) -> int:
        """Round a number of steps from the zero point."""
        if self is Rounding.HALF_EVEN_OF_LEVEL:
            return round(steps + zero_point) - zero_point
        return _WHOLE[self](steps)

    def begins(self, steps: int, zero_point: int = 0) -> tuple[int, bool]:
        """Return where the rounding turns to `steps`, in half steps, and whether that point is already theirs."""
        if self is Rounding.FLOOR:
            return 2 * steps, True
        if self is Rounding.TRUNCATE:
            return (2 * steps, True) if steps > 0 else (2 * (steps - 1), False)
        belongs = {
            Rounding.HALF_EVEN: steps % 2 == 0,
            Rounding.HALF_EVEN_OF_LEVEL: (steps + zero_point) % 2 == 0,
            Rounding.HALF_UP: True,
            Rounding.HALF_AWAY: steps > 0,
        }
        return 2 * steps - 1, belongs[self]


def _away(value: Fraction) -> int:
    # floor(2 |value| + 1) // 2 is |value| rounded, ties up.
    return int(math.copysign(1, value)) * (math.floor(2 * abs(value) + 1) // 2)


_WHOLE: dict[Rounding, Callable[[Fraction], int]] = {
    Rounding.HALF_EVEN: round,
    Rounding.HALF_UP: lambda value: math.floor(value + _HALF),
    Rounding.HALF_AWAY: _away,
    Rounding.FLOOR: math.floor,
    Rounding.TRUNCATE: math.trunc,
}
_WORDS = {
    Rounding.HALF_EVEN: "rounded to the nearest level, ties to even",
    Rounding.HALF_EVEN_OF_LEVEL: "rounded to the nearest level, ties to the even level, zero point included",
    Rounding.HALF_UP: "rounded to the nearest level, ties up",
    Rounding.HALF_AWAY: "rounded to the nearest level, ties away from zero",
    Rounding.FLOOR: "rounded down",
    Rounding.TRUNCATE: "cut off towards zero",
}


class Multiplier(StrEnum):
    """How a backend multiplies an accumulator by a 32-bit fixed-point number, which is rounded itself."""

    TOSA = "tosa_scale32"
    """TOSA's RESCALE with SCALE32: one rounding, a half up."""
    TOSA_DOUBLE = "tosa_scale32_double_round"
    """The same with double rounding: a half up, or down below zero, at bit 31 first."""
    GEMMLOWP = "gemmlowp"
    """A rounding doubling high product, then a rounding shift, half away from zero: LiteRT's reference kernels."""

    def scaled(self, accumulator: int, ratio: Fraction) -> int:
        """Return an accumulator times a ratio above 0, as this scheme gives it."""
        mantissa, exponent = _fixed(ratio)
        if self is Multiplier.GEMMLOWP:
            return _gemmlowp(accumulator, mantissa, exponent)
        shift = 31 - exponent
        if shift < 1:
            return accumulator * mantissa << -shift
        rounding = 1 << (shift - 1)
        if self is Multiplier.TOSA_DOUBLE and shift > 31:
            rounding += (1 << 30) if accumulator >= 0 else -(1 << 30)
        return (accumulator * mantissa + rounding) >> shift


SCHEMES: dict[str, Rounding | Multiplier] = {str(one): one for one in (*Rounding, *Multiplier)}
"""All of them, by name."""


def _fixed(ratio: Fraction) -> tuple[int, int]:
    """Return a ratio as ``mantissa / 2^31 * 2^exponent``, the mantissa a whole number from 2^30 to 2^31."""
    exponent = math.frexp(float(ratio))[1]
    mantissa = round(ratio / Fraction(2) ** exponent * 2**31)
    return (mantissa // 2, exponent + 1) if mantissa == 2**31 else (mantissa, exponent)


def _gemmlowp(accumulator: int, mantissa: int, exponent: int) -> int:
    product = (accumulator << max(exponent, 0)) * mantissa
    nudged = product + ((1 << 30) if product >= 0 else 1 - (1 << 30))
    high = nudged >> 31 if nudged >= 0 else -(-nudged >> 31)
    shift = max(-exponent, 0)
    mask = (1 << shift) - 1
    return (high >> shift) + ((high & mask) > (mask >> 1) + (high < 0))
