"""Functions of one value: those that are rational numbers of it, and those that mpmath works out.

What is no rational number is rounded to a multiple of 2^-100, which leaves the level that is due as it is unless a
function comes so near to a boundary. A table is of whole numbers of 60 bits.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

import mpmath  # which torch requires, by way of sympy
import torch

from pt2e_ci.exact.reals import INFINITE, NoExactFormError, Real, Term, constant, product, rational
from pt2e_ci.operators.integers import Integers, NoIntegerFormError, operand
from pt2e_ci.operators.pointwise import clamp
from pt2e_ci.operators.row import Kind, Row, Rule, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from pt2e_ci.operators.integers import Builder

aten = torch.ops.aten

_RESOLUTION = 100
"""Results are rounded to a multiple of 2^-100."""
_PRECISION = 400
"""What mpmath computes with, in bits."""
_END = mpmath.mpf(2) ** 200
"""What is beyond it is as good as an infinity, which is that in `Real.of_floats`, too."""
_LIMB = 2**60
_BITS = 60
"""The largest number in a table has so many bits, infinities left out."""
_FEWER_BITS = 36
"""Of a table with infinities, each of which is 2^61."""
_FARTHEST = 2**61
_MOST = 2**17
"""A function is worked out of so many different numbers at most: all levels of int16 and their differences."""

_Number = Any  # mpmath's mpf


# Rational numbers of their operand.


def neg(self: Real) -> Real:
    """``-self``."""
    return self.times(Fraction(-1))


def absolute(self: Real) -> Real:
    """``|self|``."""
    return neg(self).where(self.is_below(Fraction(0)), self)


def relu6(self: Real) -> Real:
    """Clamp to [0, 6]."""
    return clamp(self, 0, 6)


def leaky_relu(self: Real, negative_slope: float = 0.01) -> Real:
    """``self``, or ``negative_slope * self`` below 0."""
    return self.times(rational(negative_slope)).where(self.is_below(Fraction(0)), self)


def prelu(self: Real, weight: Real) -> Real:
    """``self``, or ``weight * self`` below 0, where the weight is one number."""
    if math.prod(weight.shape) != 1:
        raise NoExactFormError("a slope for each channel")
    return self.times(weight.element(0)).where(self.is_below(Fraction(0)), self)


def hardsigmoid(self: Real) -> Real:
    """``clamp(self + 3, 0, 6) / 6``."""
    return relu6(self.plus(constant(3, self))).times(Fraction(1, 6))


def hardswish(self: Real) -> Real:
    """``self * hardsigmoid(self)``."""
    return product(self, hardsigmoid(self), torch.mul, 1)


def power(self: Real, exponent: float) -> Real:
    """``self`` to a power: of small whole ones the product."""
    if exponent not in (1, 2, 3, 4):
        asked = rational(exponent)
        return worked_out(self, lambda x: mpmath.power(x, mpmath.mpf(asked.numerator) / asked.denominator))
    found = self
    for _ in range(int(exponent) - 1):
        found = product(found, self, torch.mul, 1)
    return found


def square(self: Real) -> Real:
    """``self * self``."""
    return power(self, 2)


# Numbers that mpmath works out, of all that the operand has.


def worked_out(self: Real, function: Callable[[_Number], _Number]) -> Real:
    """Return a function of each number; an infinity counts as one of `Real.of_floats` does.

    Raises:
        NoExactFormError: they are too many, not known exactly, or one has no result.

    """
    if len(self.terms) != 1 or not self.exact:
        raise NoExactFormError("a function of numbers that are no multiples of one unit")
    (term,) = self.terms
    values, places = term.integers.unique(return_inverse=True)
    if len(values) > _MOST:
        raise NoExactFormError(f"a function of more than {_MOST} different numbers")
    with mpmath.workprec(_PRECISION):
        unit = mpmath.mpf(term.unit.numerator) / term.unit.denominator
        found = [_held(_value(function, unit * value)) for value in values.tolist()]
        whole = [int(mpmath.nint(mpmath.ldexp(one, _RESOLUTION))) for one in found]
    terms: list[Term] = []
    while any(whole) or not terms:
        limbs = torch.tensor([abs(one) % _LIMB * (1 if one > 0 else -1) for one in whole], dtype=torch.int64)
        terms.append(Term(Fraction(_LIMB ** len(terms), 2**_RESOLUTION), limbs[places].reshape(self.shape)))
        whole = [abs(one) // _LIMB * (1 if one > 0 else -1) for one in whole]
    return Real(tuple(terms)).reduced()


def _held(value: _Number) -> _Number:
    return max(-_END, min(_END, value))


def _value(function: Callable[[_Number], _Number], value: _Number) -> _Number:
    try:
        found = function(value)
    except ZeroDivisionError:
        found = mpmath.inf  # as floats have it at 0, which is +0 here
    if isinstance(found, mpmath.mpc) or mpmath.isnan(found):
        raise NoExactFormError(f"a function that has no value at {float(value):g}")
    return found


def _sigmoid(x: _Number) -> _Number:
    return 1 / (1 + mpmath.exp(-x))


def _rsqrt(x: _Number) -> _Number:
    return 1 / mpmath.sqrt(x)


def exp(self: Real) -> Real:
    """Return e to each number."""
    return worked_out(self, mpmath.exp)


def log(self: Real) -> Real:
    """Return the natural logarithm."""
    return worked_out(self, mpmath.log)


def sqrt(self: Real) -> Real:
    """Return the square root."""
    return worked_out(self, mpmath.sqrt)


def rsqrt(self: Real) -> Real:
    """Return one over the square root."""
    return worked_out(self, _rsqrt)


def reciprocal(self: Real) -> Real:
    """Return one over each number."""
    return worked_out(self, lambda x: 1 / x)


def sin(self: Real) -> Real:
    """Return the sine."""
    return worked_out(self, mpmath.sin)


def cos(self: Real) -> Real:
    """Return the cosine."""
    return worked_out(self, mpmath.cos)


def erf(self: Real) -> Real:
    """Return the error function."""
    return worked_out(self, mpmath.erf)


def sigmoid(self: Real) -> Real:
    """``1 / (1 + exp(-self))``."""
    return worked_out(self, _sigmoid)


def tanh(self: Real) -> Real:
    """Return the hyperbolic tangent."""
    return worked_out(self, mpmath.tanh)


def silu(self: Real) -> Real:
    """``self * sigmoid(self)``."""
    return worked_out(self, lambda x: x * _sigmoid(x))


def gelu(self: Real, approximate: str = "none") -> Real:
    """Return the Gaussian error linear unit, or its approximation by a hyperbolic tangent."""
    if approximate == "none":
        return worked_out(self, lambda x: x / 2 * mpmath.erfc(-x / mpmath.sqrt(2)))
    if approximate != "tanh":
        raise NoExactFormError(f"gelu approximated by {approximate}")
    # 0.044715 is aten's own number, which is a float64.
    inner = partial(_gelu_tanh, cubic=mpmath.mpf(0.044715))
    return worked_out(self, inner)


def _gelu_tanh(x: _Number, cubic: _Number) -> _Number:
    return x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + cubic * x**3)))


def softplus(self: Real, beta: float = 1, threshold: float = 20) -> Real:
    """``log(1 + exp(beta * self)) / beta``; the number itself where ``beta * self`` is above the threshold."""
    b, end = mpmath.mpf(beta), mpmath.mpf(threshold)
    return worked_out(self, lambda x: x if b * x > end else mpmath.log1p(mpmath.exp(b * x)) / b)


def elu(self: Real, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Real:
    """``scale * self``, or ``scale * alpha * (exp(input_scale * self) - 1)`` below 0."""
    a, s, i = (mpmath.mpf(rational(one).numerator) / rational(one).denominator for one in (alpha, scale, input_scale))
    return worked_out(self, lambda x: s * x if x > 0 else s * a * mpmath.expm1(i * x))


def tabled(exact: Callable[..., Real]) -> Callable[..., Integers]:
    """Return a function's integer form: a table of what it makes of each integer that there may be."""

    def form(builder: Builder, self: Any, **options: Any) -> Integers:
        given = operand(builder, self)
        low, high = given.ends or (-given.largest, given.largest)
        if high - low > _MOST:
            raise NoIntegerFormError
        integers = torch.arange(low, high + 1)
        options = {name: _number(value) for name, value in options.items()}
        found: list[Real | None]
        try:
            found = [_at(exact, integers, given.units[0], options)]
        except NoExactFormError:  # it has no value at some of them; what the others are is due all the same
            found = [_or_none(exact, integers[at : at + 1], given.units[0], options) for at in range(len(integers))]
        numbers = [one.element(at) if one else None for one in found for at in range(len(integers) // len(found))]
        if all(one is None for one in numbers):
            raise NoIntegerFormError
        largest = max((abs(one) for one in numbers if one is not None and abs(one) < INFINITE), default=Fraction(0))
        # What stands for an infinity must be far beyond all else, for no grid to reach it.
        has_infinite = any(one is not None and abs(one) >= INFINITE for one in numbers)
        unit = Fraction(2) ** (_exponent(largest) - (_FEWER_BITS if has_infinite else _BITS))
        whole = [0 if one is None else max(-_FARTHEST, min(_FARTHEST, round(one / unit))) for one in numbers]
        table = torch.tensor(whole, dtype=torch.int64)
        index = builder.call(aten.sub.Tensor, given.node, low)
        node = builder.call(aten.index.Tensor, builder.constant(table), [index])
        return Integers(node, (unit,), int(table.abs().max()))

    return form


def _exponent(largest: Fraction) -> int:
    """Return the exponent of a power of two that is no less than a number, and less than four times it."""
    return largest.numerator.bit_length() - largest.denominator.bit_length() + 1 if largest else 0


def _number(value: Any) -> Any:
    """Return a constant tensor of one number as the numbers that exact forms take."""
    return Real.of_floats(value) if isinstance(value, torch.Tensor) else value


def _at(exact: Callable[..., Real], integers: torch.Tensor, unit: Fraction, options: dict[str, Any]) -> Real:
    return exact(Real.of_integers(integers, unit), **options)


def _or_none(
    exact: Callable[..., Real], integers: torch.Tensor, unit: Fraction, options: dict[str, Any]
) -> Real | None:
    try:
        return _at(exact, integers, unit, options)
    except NoExactFormError:
        return None


def _row(names: str, kind: Kind, exact: Callable[..., Real]) -> Row:
    return Row(tuple(names.split()), kind, exact=exact, integer=tabled(exact), rule=Rule.VALUES)


_ACTIVATIONS: dict[str, Callable[..., Real]] = {
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "prelu": prelu,
    "hardswish": hardswish,
    "hardsigmoid": hardsigmoid,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "gelu": gelu,
    "elu": elu,
    "silu": silu,
    "softplus": softplus,
}
_FUNCTIONS: dict[str, Callable[..., Real]] = {
    "exp": exp,
    "log": log,
    "sqrt": sqrt,
    "rsqrt": rsqrt,
    "sin": sin,
    "cos": cos,
    "erf": erf,
    "pow": power,
    "square": square,
}

ROWS = (
    *(_row(name, Kind.ACTIVATION, exact) for name, exact in _ACTIVATIONS.items()),
    *(_row(name, Kind.OTHER, exact) for name, exact in _FUNCTIONS.items()),
    _row("neg negative", Kind.NEUTRAL, neg),
    _row("abs", Kind.NEUTRAL, absolute),
    _row("reciprocal", Kind.NEUTRAL, reciprocal),
    # Functions of a row of values.
    *plain(Kind.ACTIVATION, "softmax _softmax log_softmax"),
)
