"""Operators that work element by element."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import torch

from pt2e_ci.exact.boundaries import common_unit
from pt2e_ci.exact.reals import NoExactFormError, Real, constant, product, rational
from pt2e_ci.operators.integers import LIMIT, Integers, NoIntegerFormError, operand
from pt2e_ci.operators.row import Kind, Row, Rule, plain

if TYPE_CHECKING:
    from typing import Any

    from pt2e_ci.operators.integers import Builder

aten = torch.ops.aten


def add(self: Real, other: Real | float, alpha: float = 1) -> Real:
    """``self + alpha * other``."""
    other = other if isinstance(other, Real) else constant(other, self)
    return self.plus(other.times(rational(alpha)))


def sub(self: Real, other: Real | float, alpha: float = 1) -> Real:
    """``self - alpha * other``."""
    return add(self, other, -alpha)


def mul(self: Real, other: Real | float) -> Real:
    """``self * other``."""
    return product(self, other, torch.mul, 1) if isinstance(other, Real) else self.times(rational(other))


def clamp(self: Real, min: float | None = None, max: float | None = None) -> Real:
    """Each number, or the bound that it is beyond."""
    if min is not None and min != -math.inf:
        below = self.is_below(rational(min))
        self = constant(min, self).where(below, self) if bool(below.any()) else self
    if max is not None and max != math.inf:
        below = self.is_below(rational(max))
        self = self if bool(below.all()) else self.where(below, constant(max, self))
    return self


def rsub(self: Real, other: Real | float, alpha: float = 1) -> Real:
    """``other - alpha * self``."""
    other = other if isinstance(other, Real) else constant(other, self)
    return other.plus(self.times(-rational(alpha)))


def div(self: Real, other: Real | float) -> Real:
    """``self / other``, where that is a number."""
    if isinstance(other, Real) or not other:
        raise NoExactFormError("a quotient of two tensors")
    return self.times(1 / rational(other))


def maximum(self: Real, other: Real) -> Real:
    """Return the larger of two numbers."""
    return _either(self, other, is_larger=True)


def minimum(self: Real, other: Real) -> Real:
    """Return the smaller of two numbers."""
    return _either(self, other, is_larger=False)


def _either(self: Real, other: Real, *, is_larger: bool) -> Real:
    shape = torch.broadcast_shapes(self.shape, other.shape)
    self, other = (one.map(lambda integers: integers.expand(shape).contiguous()) for one in (self, other))
    below = self.plus(other.times(Fraction(-1))).is_below(Fraction(0))
    return other.where(below == is_larger, self)


def relu(self: Real) -> Real:
    """Return the larger of each number and 0."""
    return clamp(self, 0)


def hardtanh(self: Real, min_val: float = -1, max_val: float = 1) -> Real:
    """Clamp to [min_val, max_val]."""
    return clamp(self, min_val, max_val)


def in_units(builder: Builder, value: Integers, unit: Fraction) -> Integers:
    """Express integers in a unit that theirs is a whole multiple of."""
    factor = int(value.units[0] / unit)
    if value.largest * factor >= LIMIT // 2:
        raise NoIntegerFormError
    node = builder.call(aten.mul.Tensor, value.node, factor) if factor != 1 else value.node
    return Integers(node, (unit,), value.largest * factor)


def add_integers(builder: Builder, self: Any, other: Any, alpha: float = 1) -> Integers:
    """Bring both operands to a common unit, and add."""
    target = aten.add.Tensor if alpha > 0 else aten.sub.Tensor
    return _joined(builder, target, operand(builder, self), _times(operand(builder, other), abs(alpha)))


def sub_integers(builder: Builder, self: Any, other: Any, alpha: float = 1) -> Integers:
    """Bring both operands to a common unit, and subtract."""
    return add_integers(builder, self, other, -alpha)


def _times(self: Integers, factor: float) -> Integers:
    if not factor:
        raise NoIntegerFormError  # nothing would be left of it to be read
    return replace(self, units=(self.units[0] * Fraction(factor),))


def rsub_integers(builder: Builder, self: Any, other: Any) -> Integers:
    """Bring both operands to a common unit, and subtract the first from the second."""
    return _joined(builder, aten.sub.Tensor, operand(builder, other), operand(builder, self))


def _picked(target: Any, builder: Builder, self: Any, other: Any) -> Integers:
    """Bring both operands to a common unit, and take the larger, or the smaller."""
    return _joined(builder, target, operand(builder, self), operand(builder, other))


def _joined(builder: Builder, target: Any, self: Integers, other: Integers) -> Integers:
    unit = common_unit((self.units[0], other.units[0]))
    a, b = in_units(builder, self, unit), in_units(builder, other, unit)
    return Integers(builder.call(target, a.node, b.node), (unit,), a.largest + b.largest)


def div_integers(builder: Builder, self: Any, other: Any) -> Integers:
    """Divide by a number above 0: that is in the unit."""
    given = operand(builder, self)
    if not isinstance(other, int | float) or other <= 0:
        raise NoIntegerFormError
    return replace(given, units=(given.units[0] / Fraction(other),))


def mul_integers(builder: Builder, self: Any, other: Any) -> Integers:
    """Multiply, or scale by a number above 0."""
    self = operand(builder, self)
    if isinstance(other, int | float) and other > 0:
        return replace(self, units=(self.units[0] * Fraction(other),))
    other = operand(builder, other)
    node = builder.call(aten.mul.Tensor, self.node, other.node)
    return Integers(node, (builder.product_unit(self.units[0], other.units[0]),), self.largest * other.largest)


def relu_integers(builder: Builder, self: Any) -> Integers:
    """Clamp below at the real number 0."""
    return hardtanh_integers(builder, self, 0, math.inf)


def clamp_integers(builder: Builder, self: Any, min: float | None = None, max: float | None = None) -> Integers:
    """Clamp to real numbers, when the result is quantized."""
    ends = (-math.inf if min is None else min, math.inf if max is None else max)
    if not all(isinstance(one, int | float) for one in ends):
        raise NoIntegerFormError  # tensors
    return hardtanh_integers(builder, self, *ends)


def hardtanh_integers(builder: Builder, self: Any, min_val: float = -1, max_val: float = 1) -> Integers:
    """Clamp to real numbers, when the result is quantized."""
    if not isinstance(self, Integers) or not (self.low is self.high is self.runtime is None):
        raise NoIntegerFormError
    low, high = (None if math.isinf(bound) else Fraction(bound) for bound in (min_val, max_val))
    if low is not None and high is not None:
        low = min(low, high)  # the upper one is what counts where they cross
    return replace(self, low=low, high=high)


ROWS = (
    Row(("add",), Kind.ELEMENTWISE, exact=add, integer=add_integers, rule=Rule.PAIRS),
    Row(("sub", "subtract"), Kind.ELEMENTWISE, exact=sub, integer=sub_integers, rule=Rule.PAIRS),
    Row(("mul", "multiply"), Kind.ELEMENTWISE, exact=mul, integer=mul_integers, rule=Rule.PAIRS),
    Row(("rsub",), Kind.ELEMENTWISE, exact=rsub, integer=rsub_integers, rule=Rule.PAIRS),
    Row(("maximum",), Kind.ELEMENTWISE, exact=maximum, integer=partial(_picked, aten.maximum.default), rule=Rule.PAIRS),
    Row(("minimum",), Kind.ELEMENTWISE, exact=minimum, integer=partial(_picked, aten.minimum.default), rule=Rule.PAIRS),
    Row(("div", "truediv", "divide"), Kind.ELEMENTWISE, exact=div, integer=div_integers, rule=Rule.PAIRS),
    Row(("relu",), Kind.ACTIVATION, exact=relu, integer=relu_integers, rule=Rule.VALUES, on_input_grid=True),
    Row(("hardtanh",), Kind.ACTIVATION, exact=hardtanh, integer=hardtanh_integers, rule=Rule.VALUES),
    Row(("clamp",), Kind.NEUTRAL, exact=clamp, integer=clamp_integers, rule=Rule.VALUES),
    *plain(
        Kind.NEUTRAL,
        """clamp_min clamp_max clip round floor ceil trunc where masked_fill bitwise_and bitwise_or bitwise_xor
        bitwise_left_shift bitwise_right_shift lshift rshift floor_divide floordiv remainder fmod mod nan_to_num
        bucketize searchsorted copy fill""",
    ),
    *plain(Kind.MASK, "sign sgn eq ne lt le gt ge logical_and logical_or logical_not isnan isinf isfinite"),
)
