"""What the integer representation computes on: integers of a program that is being built, and what they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch
    from torch.fx import Node

LIMIT = 2**62
"""Integers stay below it, so that a sum of two fits into int64."""


class NoIntegerFormError(Exception):
    """These operands cannot be computed on as int64, or this operator never."""


@dataclass(frozen=True)
class Integers:
    """Integers of the new program, and what they stand for: ``unit * node + offset``, clamped.

    Attributes:
        node: gives int64.
        units: one for all, or one for each index of `axis`; positive.
        largest: a bound of the integers' magnitude.
        axis: the axis that the units and offsets belong to, counted from the end.
        offsets: what is added; as many as there are units.
        low, high: real numbers that the sum is clamped to.
        runtime: a scale that the units are still to be multiplied by, where the program works it out itself.
        ends: the least and the largest integer, where they are known: those of levels.

    """

    node: Node
    units: tuple[Fraction, ...]
    largest: int
    axis: int | None = None
    offsets: tuple[Fraction, ...] = (Fraction(0),)
    low: Fraction | None = None
    high: Fraction | None = None
    runtime: Node | None = None
    ends: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Refuse integers that int64 may not hold."""
        if self.largest >= LIMIT:
            raise NoIntegerFormError

    @property
    def is_plain(self) -> bool:
        """Whether it is one unit times the integers, and nothing else."""
        return self.axis is None and not any(self.offsets) and self.low is self.high is None and self.runtime is None


@dataclass(frozen=True)
class Weight:
    """A quantized constant: levels, and the scales and zero points of one axis, or one of each."""

    levels: torch.Tensor
    scales: tuple[Fraction, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None


@dataclass(frozen=True)
class GroupedWeight:
    """A quantized constant of two dimensions, with a scale and a zero point (or none) for each group of a row."""

    levels: torch.Tensor
    size: int
    scales: torch.Tensor
    zero_points: torch.Tensor | None


class Builder(Protocol):
    """Makes the integer program, node by node. What an operator's form wants of it."""

    shapes: Sequence[Sequence[int]]
    """The shapes of the operator's tensors, in the order of its arguments."""

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """Add a node."""

    def constant(self, tensor: torch.Tensor) -> Node:
        """Keep a tensor."""

    def weight_levels(self, weight: Weight) -> torch.Tensor:
        """Return a weight's levels, int64, less their zero points."""

    def constant_operand(self, weight: Weight) -> Integers:
        """Return a quantized constant of one scale as an operand like any other."""

    def bias(self, bias: torch.Tensor, x: Integers, scales: Sequence[Fraction]) -> tuple[Fraction, ...]:
        """Return the bias of a contraction as real numbers."""

    def accumulator(self, node: Node) -> Node:
        """Return sums of products as they are kept."""

    def product_unit(self, a: Fraction, b: Fraction) -> Fraction:
        """Return what a product of one and one stands for."""

    def window_size(self, count: int) -> int:
        """Return how many numbers a mean is of."""


def lengths(shape: Iterable[Any]) -> list[int]:
    """Return the lengths of dimensions that a form counts on.

    Raises:
        NoIntegerFormError: one is dynamic.

    """
    found = [*shape]
    if not all(isinstance(one, int) for one in found):
        raise NoIntegerFormError
    return found


def operand(builder: Builder, value: Any) -> Integers:
    """Return a value as plain integers: one unit times them, and nothing else.

    Raises:
        NoIntegerFormError: it is something else.

    """
    if isinstance(value, Weight) and value.axis is None:
        value = builder.constant_operand(value)
    if not isinstance(value, Integers) or not value.is_plain:
        raise NoIntegerFormError
    return value
