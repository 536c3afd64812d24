"""What a vector is: one quantized operator, whole."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from numpy.typing import NDArray

    Array = NDArray[Any]

_LOWEST = {"int8": -128, "uint8": 0}

Option = int | float | str | bool | list[int]


@dataclass(frozen=True)
class Grid:
    """A grid of levels: a real number is ``scale * (level - zero_point)``.

    Attributes:
        scale: above 0.
        zero_point: a level.
        low: the least level.
        high: the largest.
        dtype: what levels are stored in, as numpy names it.

    """

    scale: Fraction
    zero_point: int
    low: int = -128
    high: int = 127
    dtype: str = "int8"

    @property
    def has_relu(self) -> bool:
        """Whether results stop at the real number 0, as those of a ReLU do that is fused into an operator."""
        return self.low == self.zero_point and self.low > _LOWEST[self.dtype]

    @property
    def unsigned(self) -> Grid:
        """The same real numbers on levels of uint8, 128 higher than those of int8."""
        if self.dtype == "uint8":
            return self
        return Grid(self.scale, self.zero_point + 128, self.low + 128, self.high + 128, "uint8")


@dataclass(frozen=True)
class Operand:
    """Levels, and the grid that they are on."""

    levels: Array
    grid: Grid

    @property
    def unsigned(self) -> Operand:
        """The same real numbers on levels of uint8."""
        if self.grid.dtype == "uint8":
            return self
        return Operand((self.levels.astype("int16") + 128).astype("uint8"), self.grid.unsigned)


@dataclass(frozen=True)
class Weight:
    """A constant: int8 levels around 0, with one scale, or one for each index of the first axis."""

    levels: Array
    scales: tuple[Fraction, ...]


@dataclass(frozen=True)
class Vector:
    """A quantized operator, and levels of its operands.

    Attributes:
        name: of letters, digits, ``-`` and ``_``; a file's, too.
        operator: one of `arithmetic.OPERATORS`.
        about: what its levels were chosen for.
        operands: what it is given, in order.
        output: the grid of its result.
        options: as torch names them.
        weight: its weight, where it has one.
        bias: int32, in units of the operand's scale times the weight's; None without.

    """

    name: str
    operator: str
    about: str
    operands: tuple[Operand, ...]
    output: Grid
    options: Mapping[str, Option] = field(default_factory=dict)
    weight: Weight | None = None
    bias: Array | None = None

    @property
    def unsigned(self) -> Vector:
        """The same operator on levels of uint8; its result's are 128 higher, if they were int8."""
        return replace(self, operands=tuple(one.unsigned for one in self.operands), output=self.output.unsigned)

    def as_asked(self, levels: Array) -> Array:
        """Return the levels that are this vector's, of those that its `unsigned` gave."""
        return levels.astype("int16") - (0 if self.output.dtype == "uint8" else 128)
