"""Tensors of real numbers, exact: sums of a rational times integers.

A dequantized tensor is one scale times integers, a bias or an input another power of two times integers, and what
linear operators make of them is a sum of a few such terms. Integers are int64 and checked to stay in it; scales
are the exact rationals that their floats are. A float64 view with a proved error bound is what decisions (is it
negative, does it round up) are taken on, and where the bound does not settle one, it is taken on the rationals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.exact.boundaries import common_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LIMIT = 2**62  # integers stay below it, so that a sum of two fits into int64
_LIMB = 2**24
_MANTISSA = 53
_UNIT = 2.0**-53
_EXPONENTS = 960  # a power of two within them, times a mantissa, is a normal float64
_FEW = 4096
INFINITE = Fraction(2) ** 200
"""What an infinity counts as: beyond every clamp."""


class NoExactFormError(Exception):
    """These operands, or this operator, have no exact form here."""


@dataclass(frozen=True)
class Term:
    """A rational and a tensor of int64 that it is the unit of."""

    unit: Fraction
    integers: torch.Tensor

    @cached_property
    def largest(self) -> int:
        """The largest magnitude among the integers."""
        if not self.integers.numel():
            return 0
        low, high = self.integers.aminmax()
        return max(-int(low), int(high))


@dataclass(frozen=True)
class Real:
    """A tensor of real numbers: the sum of its terms, all of one shape.

    Attributes:
        terms: one at least.
        exact: False once an operator that has no exact form (a softmax) had to be computed in float64.

    """

    terms: tuple[Term, ...]
    exact: bool = True

    @classmethod
    def of_integers(cls, integers: torch.Tensor, unit: Fraction) -> Real:
        """Return ``unit`` times integers."""
        return cls((Term(unit, integers.to(torch.int64)),))

    @classmethod
    def of_floats(cls, values: torch.Tensor, *, exact: bool = True) -> Real:
        """Return what finite floats are exactly. An infinity counts as 2^200, beyond every clamp; NaN as 0."""
        values = values.detach().to(torch.float64).nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf)
        infinite = values.isinf()
        mantissas, exponents = torch.frexp(values.masked_fill(infinite, 0.0))
        integers = (mantissas * 2.0**_MANTISSA).to(torch.int64)
        spare = _trailing_zeros(integers)  # 29 for float32
        integers, exponents = integers >> spare, exponents.to(torch.int64) + (spare - _MANTISSA)
        terms = [Term(INFINITE, infinite * values.sign().to(torch.int64))] if bool(infinite.any()) else []
        # Values of near orders of magnitude share a term.
        spread = _LIMIT.bit_length() - 2 - (_MANTISSA - spare)
        left = integers != 0
        while bool(left.any()):
            low = int(exponents[left].min())
            shift = exponents - low
            taken = left & (shift <= spread)
            terms.append(Term(Fraction(2) ** low, torch.where(taken, integers << shift.clamp(0, spread), 0)))
            left &= ~taken
        return cls(tuple(terms) or (Term(Fraction(1), torch.zeros_like(integers)),), exact).reduced()

    @property
    def shape(self) -> torch.Size:
        """The shape of the tensor."""
        return self.terms[0].integers.shape

    def reduced(self) -> Real:
        """Return the same numbers in as few terms as int64 allows.

        A term of zeros has a unit that means nothing, and would scale another's integers beyond int64.
        """
        if len(self.terms) == 1:
            return self
        terms = [_without_twos(term) for term in self.terms if term.largest]
        terms = terms or [Term(Fraction(1), torch.zeros_like(self.terms[0].integers))]
        while len(terms) > 1:
            a, b = terms[0], terms[1]
            unit = common_unit((a.unit, b.unit))
            scale_a, scale_b = int(a.unit / unit), int(b.unit / unit)
            if a.largest * abs(scale_a) + b.largest * abs(scale_b) >= _LIMIT:
                break
            merged = Term(unit, torch.add(_times(a.integers, scale_a), b.integers, alpha=scale_b))
            terms[:2] = [merged] if merged.largest or not terms[2:] else []
        return Real(tuple(terms), self.exact)

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Real:
        """Apply to each term's integers a function that only moves or picks them."""
        return Real(tuple(Term(term.unit, function(term.integers)) for term in self.terms), self.exact)

    def linear(self, function: Callable[[torch.Tensor], torch.Tensor], growth: int) -> Real:
        """Apply to each term's integers a linear function, which makes them `growth` times as large at most."""
        waiting, terms = [*self.terms], []
        while waiting:
            term = waiting.pop()
            if term.largest * growth < _LIMIT:
                terms.append(Term(term.unit, function(term.integers)))
            else:
                waiting += _halves(term)
        return Real(tuple(terms), self.exact).reduced()

    def of_parts(self, parts: Sequence[Any]) -> Any:
        """Return these numbers, moved: `parts` holds each term's integers, or several tensors of them for each."""
        if isinstance(parts[0], torch.Tensor):
            return Real(tuple(Term(term.unit, part) for term, part in zip(self.terms, parts, strict=True)), self.exact)
        return [self.of_parts(pieces) for pieces in zip(*parts, strict=True)]

    def times(self, factor: Fraction) -> Real:
        """Multiply by a rational."""
        return Real(tuple(Term(term.unit * factor, term.integers) for term in self.terms), self.exact)

    def plus(self, other: Real) -> Real:
        """Add, broadcasting."""
        shape = torch.broadcast_shapes(self.shape, other.shape)
        found = Real((*self.terms, *other.terms), self.exact and other.exact).reduced()
        return found.map(lambda integers: integers.expand(shape).contiguous())

    def where(self, mask: torch.Tensor, other: Real) -> Real:
        """Take this where the mask is set, and the other elsewhere."""
        return self.map(lambda integers: integers * mask).plus(other.map(lambda integers: integers * ~mask))

    def element(self, index: int) -> Fraction:
        """Return one number, by its index in the flattened tensor."""
        numbers = (term.unit * int(term.integers.reshape(-1)[index]) for term in self.terms)
        return sum(numbers, Fraction(0))

    def floats(self) -> torch.Tensor:
        """Return the numbers in float64: off by `error` at most."""
        first, *others = (term.integers.to(torch.float64).mul_(float(term.unit)) for term in self.terms)
        for part in others:
            first.add_(part)
        return first

    def error(self, limit: float = math.inf) -> torch.Tensor | float:
        """Return a bound of what each number is off by in float64; one for all up to a limit, where that says enough.

        A term is its unit rounded to float64, times an integer rounded to float64, rounded: three errors of one
        unit of roundoff each, and each addition of terms is one more. Twice their sum also covers the products of
        errors that are left out.
        """
        share = 2 * (3 + len(self.terms)) * _UNIT
        if len(self.terms) == 1 and limit < math.inf:
            return limit * share
        sizes = (term.integers.to(torch.float64).mul_(float(term.unit)).abs_() for term in self.terms)
        return sum(sizes, torch.zeros(())) * share

    @property
    def fits_float64(self) -> bool:
        """Whether the float64 view is the numbers themselves."""
        (first, *others) = self.terms
        numerator, denominator = abs(first.unit.numerator), first.unit.denominator
        power_of_two = not numerator & (numerator - 1) and not denominator & (denominator - 1)
        in_range = max(numerator, denominator) < 2**_EXPONENTS
        return not others and power_of_two and in_range and first.largest < 2**_MANTISSA

    def is_below(self, bound: Fraction) -> torch.Tensor:
        """Tell, exactly, which numbers are below a bound."""
        (first, *others) = self.terms
        if not others and first.unit > 0 and self.exact:
            least = math.ceil(bound / first.unit)  # the least integer that is not
            return first.integers < max(-_LIMIT, min(least, _LIMIT))
        value, error = self.floats(), self.error()
        below = (value < float(bound)).contiguous()
        if self.exact:
            # The bound's float64, and the difference, are rounded too. Without an error a number is 0, and so settled.
            slack = (value.abs() + abs(float(bound))) * 2 * _UNIT
            unsettled = ((value - float(bound)).abs() <= error + slack) & (error > 0)
            flat = below.view(-1)
            for index in unsettled.reshape(-1).nonzero().flatten().tolist():
                flat[index] = self.element(index) < bound
        return below


def constant(value: float, like: Real) -> Real:
    """Return a number as a tensor of the shape of another."""
    return Real((Term(rational(value), torch.ones(like.shape, dtype=torch.int64)),), like.exact)


def rational(value: float) -> Fraction:
    """Return the number that a float is.

    Raises:
        NoExactFormError: it is no finite number.

    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise NoExactFormError("an operand that is no finite number")
    return Fraction(value)


def scaled(integers: torch.Tensor, scales: Sequence[Fraction], axis: int) -> Real:
    """Return integers times one scale for each index of an axis, in terms with a unit common to all of them.

    A scale is a whole multiple of that unit, and may be a long one: it is cut into limbs, a term each.
    """
    unit = common_unit(scales)
    factors = [int(scale / unit) for scale in scales]
    shape = [1] * integers.dim()
    shape[axis] = -1
    terms: list[Term] = []
    integers = integers.to(torch.int64)
    while any(factors) or not terms:
        limbs = torch.tensor([factor % _LIMB for factor in factors], dtype=torch.int64).reshape(shape)
        terms.append(Term(unit, integers * limbs))
        factors, unit = [factor // _LIMB for factor in factors], unit * _LIMB
    return Real(tuple(terms)).reduced()


def product(a: Real, b: Real, operator: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], additions: int) -> Real:
    """Return a bilinear operator of two tensors: a product, or sums of `additions` products."""
    waiting = [(x, y) for x in a.terms for y in b.terms]
    terms: list[Term] = []
    while waiting:
        x, y = waiting.pop()
        most = x.largest * y.largest * max(additions, 1)
        if additions > 1 and most < 2**_MANTISSA:  # whole numbers in float64, for which there are fast kernels
            sums = operator(x.integers.to(torch.float64), y.integers.to(torch.float64)).to(torch.int64)
            terms.append(Term(x.unit * y.unit, sums))
        elif most < _LIMIT:
            terms.append(Term(x.unit * y.unit, operator(x.integers, y.integers)))
        elif x.largest > y.largest:
            waiting += [(half, y) for half in _halves(x)]
        else:
            waiting += [(x, half) for half in _halves(y)]
    return Real(tuple(terms), a.exact and b.exact).reduced()


def _halves(term: Term) -> tuple[Term, Term]:
    """Return two terms of smaller integers that sum up to one."""
    size = 2 ** ((term.largest.bit_length() + 1) // 2)
    high = torch.div(term.integers, size, rounding_mode="floor")
    return Term(term.unit, term.integers - high * size), Term(term.unit * size, high)


def _times(integers: torch.Tensor, factor: int) -> torch.Tensor:
    return integers if factor == 1 else integers * factor


def _without_twos(term: Term) -> Term:
    """Move powers of two that all integers share into the unit."""
    shift = _trailing_zeros(term.integers)
    return Term(term.unit * 2**shift, term.integers >> shift) if shift else term


def _trailing_zeros(integers: torch.Tensor) -> int:
    """Return how many low bits are 0 in all of the integers; 0 where all of the bits are."""
    flat = integers.reshape(-1)
    if bool((flat[:_FEW] & 1).any()):  # as nearly always
        return 0
    while flat.numel() > 1:
        middle = (flat.numel() + 1) // 2
        flat = flat[:middle] | torch.nn.functional.pad(flat[middle:], (0, 2 * middle - flat.numel()))
    together = int(flat[0]) if flat.numel() else 0
    return (together & -together).bit_length() - 1 if together else 0
