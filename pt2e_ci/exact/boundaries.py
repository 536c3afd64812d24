"""Boundaries: the least integer that each level begins at; and the unit of several numbers. Nothing imports torch."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_LIMIT = 2**62


def beginnings(turns: Sequence[tuple[int, bool]], scale: Fraction, unit: Fraction, offset: Fraction) -> list[int]:
    """Return the least integer of each level: the first whose real value, ``unit * integer + offset``, is at its turn.

    `turns` is where each level begins, in half steps of `scale`, and whether that very point belongs to it. What lies
    beyond int64 is held to 2^62, which no accumulator reaches.
    """
    steps, shift = scale / unit, offset / unit
    factor, constant = steps.numerator * shift.denominator, 2 * steps.denominator * shift.numerator
    divisor = 2 * steps.denominator * shift.denominator
    found = []
    for half_steps, belongs in turns:
        integer, rest = divmod(half_steps * factor - constant, divisor)
        found.append(max(-_LIMIT, min(_LIMIT, integer if belongs and not rest else integer + 1)))
    return found


def least(function: Callable[[int], int], level: int, low: int, high: int) -> int:
    """Return the least integer from `low` on that a function which never falls takes to `level`; `high` if none."""
    while low < high:
        middle = (low + high) >> 1
        low, high = (low, middle) if function(middle) >= level else (middle + 1, high)
    return low


def common_unit(units: Iterable[Fraction]) -> Fraction:
    """Return the largest rational that all of them are whole multiples of."""
    units = [abs(unit) for unit in units if unit]
    if not units:
        return Fraction(1)
    denominator = math.lcm(*(unit.denominator for unit in units))
    return Fraction(math.gcd(*(int(unit * denominator) for unit in units)), denominator)
