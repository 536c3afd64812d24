"""The operators of a Q/DQ program on real numbers.

Each takes what its aten operator takes, by the names of that operator's schema, with `Real` where a float tensor
would be. `OPERATORS` has them by bare name; `MOVES` names those that only move or pick values.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from pt2e_ci.exact.reals import NoExactFormError, Real, Term, product

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOVES = frozenset(
    """view reshape flatten unflatten permute transpose t contiguous clone expand squeeze unsqueeze slice select narrow
    getitem split split_with_sizes chunk unbind movedim swapaxes detach alias flip roll repeat""".split()
)
"""Operators that only move values."""

SAME = frozenset("to _to_copy dropout lift_fresh_copy _assert_tensor_metadata".split())
"""Operators that leave real numbers as they are."""


def linear(input: Real, weight: Real, bias: Real | None = None) -> Real:
    """``input @ weight.T + bias``."""
    result = product(input, weight, F.linear, weight.shape[-1])
    return result if bias is None else result.plus(bias)


def convolution(
    input: Real,
    weight: Real,
    bias: Real | None = None,
    stride: Sequence[int] | int = 1,
    padding: Sequence[int] | int | str = 0,
    dilation: Sequence[int] | int = 1,
    groups: int = 1,
) -> Real:
    """Cross-correlation over one or two spatial dimensions, zeros (the real number) beyond the edges."""
    dimensions = len(weight.shape) - 2
    function = F.conv1d if dimensions == 1 else F.conv2d

    def convolve(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return function(x, w, None, stride, padding, dilation, groups)

    result = product(input, weight, convolve, math.prod(weight.shape[1:]))
    return result if bias is None else result.plus(bias.map(lambda b: b.reshape(-1, *[1] * dimensions)))


def matmul(self: Real, other: Real) -> Real:
    """``self @ other``."""
    return product(self, other, torch.matmul, self.shape[-1])


def add(self: Real, other: Real | float, alpha: float = 1) -> Real:
    """``self + alpha * other``."""
    other = other if isinstance(other, Real) else _constant(other, self)
    return self.plus(other.times(_rational(alpha)))


def sub(self: Real, other: Real | float, alpha: float = 1) -> Real:
    """``self - alpha * other``."""
    return add(self, other, -alpha)


def mul(self: Real, other: Real | float) -> Real:
    """``self * other``, element by element."""
    return product(self, other, torch.mul, 1) if isinstance(other, Real) else self.times(_rational(other))


def relu(self: Real) -> Real:
    """Return the larger of each number and 0."""
    return clamp(self, 0)


def clamp(self: Real, min: float | None = None, max: float | None = None) -> Real:
    """Each number, or the bound that it is beyond."""
    if min is not None and min != -math.inf:
        self = _constant(min, self).where(self.is_below(_rational(min)), self)
    if max is not None and max != math.inf:
        self = self.where(self.is_below(_rational(max)), _constant(max, self))
    return self


def hardtanh(self: Real, min_val: float = -1, max_val: float = 1) -> Real:
    """Clamp to [min_val, max_val]."""
    return clamp(self, min_val, max_val)


def max_pool2d(
    self: Real,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] | int = 0,
    dilation: Sequence[int] | int = 1,
    ceil_mode: bool = False,
) -> Real:
    """Return the largest number of each window."""
    term = _one_term(self)
    sign = 1 if term.unit > 0 else -1
    pooled = F.max_pool2d(term.integers * sign, kernel_size, stride or None, padding, dilation, ceil_mode)
    return Real((Term(term.unit * sign, pooled),), self.exact)


def avg_pool2d(
    self: Real,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] | int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Real:
    """Return the mean of each window."""
    window = (kernel_size, stride or None, padding, ceil_mode)
    area = math.prod([*kernel_size] * (2 // len(kernel_size)))
    sums = self.linear(lambda integers: F.avg_pool2d(integers, *window, divisor_override=1), area)
    return _divide(sums, window_sizes(self.shape[-2:], *window, count_include_pad, divisor_override))


def adaptive_avg_pool2d(self: Real, output_size: Sequence[int | None] | int) -> Real:
    """Return the mean of each of the windows that the tensor is cut into."""
    sizes = (output_size,) * 2 if isinstance(output_size, int) else output_size
    rows, columns = (
        windows(length, length if size is None else size) for length, size in zip(self.shape[-2:], sizes, strict=True)
    )
    sizes_of_windows = rows.sum(1, keepdim=True) * columns.sum(1)
    sums = self.linear(lambda integers: rows @ integers @ columns.T, int(sizes_of_windows.max()))
    return _divide(sums, sizes_of_windows)


def mean(self: Real, dim: Sequence[int] | int | None = None, keepdim: bool = False) -> Real:
    """Return the mean over dimensions."""
    dimensions = [*range(len(self.shape))] if dim is None else [dim] if isinstance(dim, int) else [*dim]
    count = math.prod(self.shape[dimension] for dimension in dimensions)
    return self.linear(lambda integers: integers.sum(dimensions, keepdim), count).times(Fraction(1, count))


def cat(tensors: Sequence[Real], dim: int = 0) -> Real:
    """Tensors one after another."""
    parts = []
    for chosen, real in enumerate(tensors):
        terms = tuple(
            Term(
                term.unit,
                torch.cat(
                    [
                        part.terms[0].integers * 0 if index != chosen else term.integers
                        for index, part in enumerate(tensors)
                    ],
                    dim,
                ),
            )
            for term in real.terms
        )
        parts.append(Real(terms, real.exact))
    total = parts[0]
    for part in parts[1:]:
        total = total.plus(part)
    return total


def window_sizes(
    shape: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int] | None,
    padding: Sequence[int] | int,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> torch.Tensor:
    """Return what an average pooling divides the sum of each window by, over a tensor of this height and width."""
    ones = torch.ones(1, *shape)
    inside = F.avg_pool2d(ones, kernel_size, stride, padding, ceil_mode, divisor_override=1)
    means = F.avg_pool2d(ones, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return (inside / means).round().to(torch.int64)


def windows(length: int, count: int) -> torch.Tensor:
    """Return a matrix of 0 and 1: which of `length` values fall into each of `count` windows."""
    rows = torch.zeros(count, length, dtype=torch.int64)
    for index in range(count):
        rows[index, index * length // count : -(-(index + 1) * length // count)] = 1
    return rows


def _constant(value: float, like: Real) -> Real:
    return Real((Term(_rational(value), torch.ones(like.shape, dtype=torch.int64)),), like.exact)


def _rational(value: float) -> Fraction:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise NoExactFormError("an operand that is no finite number")
    return Fraction(value)


def _one_term(real: Real) -> Term:
    if len(real.terms) > 1:
        raise NoExactFormError("numbers too far apart to be compared as integers of one unit")
    return real.terms[0]


def _divide(sums: Real, divisors: torch.Tensor) -> Real:
    """Divide by whole numbers that broadcast against the sums."""
    least = math.lcm(*set(divisors.flatten().tolist()))
    return sums.linear(lambda integers: integers * (least // divisors), least).times(Fraction(1, least))


OPERATORS: dict[str, Callable[..., Any]] = {
    "linear": linear,
    "matmul": matmul,
    "conv1d": convolution,
    "conv2d": convolution,
    "add": add,
    "sub": sub,
    "mul": mul,
    "relu": relu,
    "clamp": clamp,
    "hardtanh": hardtanh,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "mean": mean,
    "cat": cat,
}
