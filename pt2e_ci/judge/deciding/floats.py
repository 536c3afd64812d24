"""Is every float that a program can be given taken to the level that is due? Both sides of every boundary are found."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from pt2e_ci.judge.deciding.elements import (
    Elements,
    InClasses,
    OnVectors,
    Touching,
    Turning,
    UndecidedError,
    bisected,
    grouped,
)
from pt2e_ci.judge.deciding.specification import is_move
from pt2e_ci.judge.deciding.tally import EXAMPLES, Example, Tally
from pt2e_ci.program.oracle import work_out
from pt2e_ci.program.segments import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pt2e_ci.exact.schemes import Rounding
    from pt2e_ci.judge.provenance import Segment
    from pt2e_ci.program.segments import Levels, Reading
    from pt2e_ci.program.trace import Value

_BITS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}


class InputQuantize:
    """How a program's input becomes levels.

    Args:
        segment: the reference program, from its input to the levels.
        values: all tensors of a run.
        given: the input.
        reading, levels: what the Q/DQ program asks for.

    """

    def __init__(
        self, segment: Segment, values: Mapping[Value, torch.Tensor], given: Value, reading: Reading, levels: Levels
    ) -> None:
        """Find the elements that are the same function.

        Raises:
            UndecidedError: something does not work element by element, or elements come from elsewhere.

        """
        grid = levels.quantize.grid
        if grid.one is None:
            raise UndecidedError("the scale is found at run time" if grid.is_runtime else "several scales")
        self.scale, self.point = Fraction(grid.one[0]), grid.one[1]
        self._grid, self._dtype = grid, values[given].dtype
        if self._dtype not in _BITS:
            raise UndecidedError("the input is no float")
        self._elements = Elements(segment, values, [given])
        self._given, self.target = given, segment.target
        everything = torch.arange(values[segment.target].numel())
        read = self._elements.fold(self.target, everything, Touching(frozenset({given})))
        self._read = read.expand(len(everything))
        if not torch.equal(self._read, _due_places(reading, levels, values[given])):
            raise UndecidedError("elements come from elsewhere")
        classes = self._elements.fold(self.target, everything, InClasses(self._elements)).expand(len(everything))
        self.count, _, self._first = grouped(classes)
        if bool((self._elements.fold(self.target, self._first, Turning(self._elements)) < 0).any()):
            raise UndecidedError("levels fall as the input grows")

    def decide(self, rounding: Rounding, allowed: float) -> Tally:
        """Return what is not exact, of all floats of so many steps that float32 still has each of them."""
        most = self._ordered_limit
        low, high = -most - 1, most
        first, last = self._grid.low, self._grid.high
        ends = self._levels(torch.tensor([[low, high]]).expand(self.count, 2))
        if bool((ends != torch.tensor([first, last])).any()):
            return self._beyond(ends, (low, high), (first, last))
        self._levels(torch.tensor([[low, high]]).expand(self.count, 2), strict=True)
        levels = torch.arange(first + 1, last + 1)
        exact = self._begins(levels.tolist(), rounding)
        column = torch.zeros(self.count, 1, dtype=torch.int64)
        found = bisected(self._levels, levels, column + low, column + high)
        result = Tally(checked=self.count * (high - low + 1))
        for row, column in (found != exact).nonzero().tolist():
            self._note(result, row, int(levels[column]), int(found[row, column]), int(exact[column]), rounding)
        result.excess = result.displacement - allowed if result.wrong else -math.inf
        result.examples = sorted(result.examples, key=lambda one: -one.displacement)[:EXAMPLES]
        return result

    @cached_property
    def limit(self) -> float:
        """The largest float that is decided."""
        return self.value(self._ordered_limit)

    @property
    def wraps_beyond(self) -> bool:
        """Whether the largest floats are taken to other levels than the last ones: a cast wraps."""
        most = int(_ordered(torch.tensor([torch.finfo(self._dtype).max], dtype=self._dtype)))
        ends = self._levels(torch.tensor([[-most - 1, most]]).expand(self.count, 2))
        return bool((ends != torch.tensor([self._grid.low, self._grid.high])).any())

    @cached_property
    def _ordered_limit(self) -> int:
        """The largest float that is decided, as an ordered number."""
        info = torch.finfo(self._dtype)
        largest = min(float(self.scale) * 2 / info.eps, info.max)  # further off there is not every step
        return int(_ordered(torch.tensor([largest], dtype=torch.float64).to(self._dtype)))

    def _note(self, result: Tally, row: int, level: int, at: int, due: int, rounding: Rounding) -> None:
        """Note a boundary that is elsewhere than it should be."""
        result.wrong += abs(at - due)
        result.low, result.high = result.low + max(0, at - due), result.high + max(0, due - at)
        worst = at if at < due else at - 1
        turn = Fraction(rounding.begins(level - self.point, self.point)[0], 2)
        far = abs(float(Fraction(self.value(worst)) / self.scale - turn))
        got, right = (level, level - 1) if at < due else (level - 1, level)
        result.displacement = max(result.displacement, far)
        result.examples.append(Example(int(self._first[row]), (worst,), got, right, far))

    def place(self, element: int) -> int:
        """Return the place in the flattened input that an element of the levels is made of."""
        return int(self._read[element])

    def value(self, ordered: int) -> float:
        """Return the float that an example was given."""
        return float(_floats(torch.tensor([ordered]), self._dtype))

    def _beyond(self, ends: torch.Tensor, given: tuple[int, int], bounds: tuple[int, int]) -> Tally:
        """Note other levels than the last ones, at the largest floats."""
        result = Tally(checked=ends.numel())
        for row, column in (ends != torch.tensor(bounds)).nonzero().tolist():
            got = int(ends[row, column])
            away = abs(got - bounds[column])
            result.wrong += 1
            result.displacement = result.excess = max(result.displacement, float(away))
            result.examples.append(Example(int(self._first[row]), (given[column],), got, bounds[column], float(away)))
        return result

    def _levels(self, ordered: torch.Tensor, *, strict: bool = False) -> torch.Tensor:
        floats = _floats(ordered, self._dtype)
        given = {self._given: lambda at: floats}
        on_vectors = OnVectors(given, self._elements, strict)
        return self._elements.fold(self.target, self._first, on_vectors).long()

    def _begins(self, levels: Sequence[int], rounding: Rounding) -> torch.Tensor:
        """Return the first float, as an ordered number, that is at each level."""
        turns = [rounding.begins(level - self.point, self.point) for level in levels]
        reals = [self.scale * half_steps / 2 for half_steps, _ in turns]
        near = torch.tensor([float(real) for real in reals], dtype=torch.float64).to(self._dtype)
        tried = _ordered(near)[:, None] + torch.arange(-3, 4)
        found = []
        for (_, belongs), real, at, row in zip(
            turns, reals, tried.tolist(), _floats(tried, self._dtype).tolist(), strict=True
        ):
            there = [Fraction(one) > real or (belongs and one == real) for one in row]
            found.append(at[there.index(True)])
        return torch.tensor(found)


def _ordered(floats: torch.Tensor) -> torch.Tensor:
    """Return floats as whole numbers in the same order, one apart for neighbours; -0.0 and 0.0 are -1 and 0."""
    bits = floats.view(_BITS[floats.dtype]).to(torch.int64)
    return torch.where(bits < 0, -1 - (bits - torch.iinfo(_BITS[floats.dtype]).min), bits)


def _floats(ordered: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the floats again."""
    bits = torch.where(ordered < 0, (-1 - ordered) + torch.iinfo(_BITS[dtype]).min, ordered)
    return bits.to(_BITS[dtype]).view(dtype)


def _due_places(reading: Reading, levels: Levels, given: torch.Tensor) -> torch.Tensor:
    """Return which element of the input each level is to be made of."""
    node = levels.quantize.source
    while node.op != "placeholder":
        item = reading.items[node]
        if not isinstance(item, Operation) or not is_move(item):
            raise UndecidedError("it is worked out from the input")
        node = node.all_input_nodes[0]
    marks = torch.arange(given.numel(), dtype=torch.float64).reshape(given.shape)
    return work_out(reading, levels.quantize.source, {node: marks}).reshape(-1).long()
