"""What is known of one operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Kind(Enum):
    """What an operator does with the tensors that flow through a program."""

    CONTRACTION = "contraction"  # sums of products of two operands
    POOLING = "pooling"
    ELEMENTWISE = "elementwise"  # compute only if it joins two tensors that both carry data
    JOIN = "join"  # likewise
    ACTIVATION = "activation"  # part of the compute operator before it, if that feeds nothing else
    QDQ = "qdq"  # between floats and integers
    STATISTIC = "statistic"  # on floats, a range from which scales and zero points are found
    MASK = "mask"  # a sign, or what a comparison gives: it selects, and carries no data
    CONSTANT = "constant"  # takes a shape from a tensor, and nothing else
    NEUTRAL = "neutral"  # moves, casts, rounds or clamps; also in any requantization
    OTHER = "other"  # anything else is compute


class Rule(StrEnum):
    """How an operator is decided for all its inputs."""

    CONTRACTION = "contraction"
    """A linear map of the levels."""
    PAIRS = "pairs"
    """All pairs of levels."""
    VALUES = "values"
    """All levels, one by one."""
    SELECTION = "selection"
    """Which elements each result is picked from."""
    MOVEMENT = "movement"
    """Which element each result is."""


@dataclass(frozen=True)
class Row:
    """One operator, whatever it is called.

    Attributes:
        names: its bare names in aten and Python; the first is what it is called in reports.
        kind: what it does.
        family: one name for operators that do the same work.
        exact: its form on `Real`, which takes what the aten operator takes, by the names of that schema.
        integer: its form in the integer representation: the builder, and what the aten operator takes.
        rule: how it is decided.
        operands: which of its tensors are the two operands of a contraction.
        on_input_grid: whether its result lies on the grid of what it takes: it moves or picks values.
        moves: whether all that it does is to move values.
        leaves: whether it leaves real numbers as they are.

    """

    names: tuple[str, ...]
    kind: Kind
    family: str = ""
    exact: Callable[..., Any] | None = None
    integer: Callable[..., Any] | None = None
    rule: Rule | None = None
    operands: tuple[int, int] = (0, 1)
    on_input_grid: bool = False
    moves: bool = False
    leaves: bool = False

    @property
    def name(self) -> str:
        """What the operator is called."""
        return self.names[0]


def plain(kind: Kind, names: str, **fields: Any) -> tuple[Row, ...]:
    """Return rows of operators that are only told apart by name."""
    return tuple(Row((name,), kind, **fields) for name in names.split())
