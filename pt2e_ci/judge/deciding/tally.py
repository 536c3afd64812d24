"""What was found of the values that an operator was decided on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.fx import Node


EXAMPLES = 8
"""So many are kept, the worst ones."""


@dataclass(frozen=True)
class Example:
    """A value that is not the exact one.

    Attributes:
        element: its place in the flattened result.
        given: what it is made of: an accumulator, or the level of each operand that it reads.
        got, due: the level that the program gives, and the exact one.
        displacement: how far, in LSB, what it is made of is from where the level that it gives would be right.

    """

    element: int
    given: tuple[int, ...]
    got: int
    due: int
    displacement: float


@dataclass
class Tally:
    """Counts values that are not exact.

    Attributes:
        checked: how many values there are.
        wrong: how many are not exact.
        low, high: how many of these are below, and above.
        displacement: how far beyond the boundary of its level a value is, at most, in LSB.
        excess: the same, less what is allowed there.
        examples: the worst.
        shown: levels of the operands, by source, that show one; None where an example has to be turned into them.

    """

    checked: int = 0
    wrong: int = 0
    low: int = 0
    high: int = 0
    displacement: float = 0.0
    excess: float = -math.inf
    examples: list[Example] = field(default_factory=list)
    shown: Mapping[Node, torch.Tensor] | None = None

    def add(self, other: Tally) -> None:
        """Take in another."""
        self.checked += other.checked
        self.wrong += other.wrong
        self.low += other.low
        self.high += other.high
        self.displacement = max(self.displacement, other.displacement)
        self.excess = max(self.excess, other.excess)
        self.shown = self.shown or other.shown
        self.examples = sorted([*self.examples, *other.examples], key=lambda one: -one.displacement)[:EXAMPLES]


def displacement(got: torch.Tensor, due: torch.Tensor, steps: torch.Tensor, turn: float) -> torch.Tensor:
    """Return how far numbers of steps are from where a level that they were given begins, or ends.

    Args:
        got: levels, whole numbers.
        due: those that are due, which differ everywhere.
        steps: the real numbers, in levels: a level, if they are whole.
        turn: where between two levels the rounding turns.

    """
    # Below zero, one that cuts off turns at the other end: the nearer one of both is meant.
    begins, ends = got - (1 - turn), got + turn
    return torch.where(got > due, begins - steps, steps - ends).clamp(min=0.0)


def tally(
    got: torch.Tensor,
    due: torch.Tensor,
    steps: torch.Tensor,
    turn: float,
    allowed: float,
    element: int,
    given: tuple[torch.Tensor, ...],
) -> Tally:
    """Compare levels, flat, with the ones that are due."""
    differ = got != due
    found = Tally(checked=got.numel(), wrong=int(differ.sum()))
    if found.wrong:
        a, b = got[differ].double(), due[differ].double()
        far = displacement(a, b, steps[differ], turn)
        found.low, found.high = int((a < b).sum()), int((a > b).sum())
        found.displacement = float(far.max())
        found.excess = found.displacement - allowed
        places = differ.nonzero().flatten()
        for at in far.argsort(descending=True)[:EXAMPLES].tolist():
            index = int(places[at])
            values = tuple(int(one[index]) for one in given)
            found.examples.append(Example(element, values, int(got[index]), int(due[index]), float(far[at])))
    return found
