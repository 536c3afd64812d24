"""Are accumulators taken to the levels that are due? Boundary by boundary, or value by value where that may turn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.exact.boundaries import least
from pt2e_ci.exact.levels import beginnings_of
from pt2e_ci.exact.schemes import Multiplier, Rounding
from pt2e_ci.judge.deciding.elements import (
    InClasses,
    OnVectors,
    Touching,
    Turning,
    UndecidedError,
    bisected,
    grouped,
    merged,
    some_of,
)
from pt2e_ci.judge.deciding.tally import EXAMPLES, Example, Tally, displacement, tally

if TYPE_CHECKING:
    from pt2e_ci.judge.deciding.contraction import LinearMap
    from pt2e_ci.judge.deciding.elements import Elements
    from pt2e_ci.judge.deciding.specification import Accumulators, Specification
    from pt2e_ci.program.trace import Value

MOST = 30_000_000
"""So many accumulator values are tried one by one, at most."""

# So many levels beyond a grid are looked at one by one.
_BEYOND = 1024
_CHUNK = 1 << 20
_ROWS = 4096


@dataclass
class Requantization:
    """What becomes of an accumulator, for all elements.

    Attributes:
        elements: the program from its accumulator on.
        target: its levels.
        root: its accumulator.
        asked: what is asked for.
        sums: the contraction that is.
        linear: how the one is made of the other.
        low, high: the least and the largest sum of each element.
        channel: of each element.
        allowed: the displacement that is allowed for the arithmetic, in LSB.
        boundaries: the accumulator that each level but the first begins at, for each kind of element, once they are
            known and as far as they can be reached.

    """

    elements: Elements
    target: Value
    root: Value
    asked: Specification
    sums: Accumulators
    linear: LinearMap
    low: torch.Tensor
    high: torch.Tensor
    channel: torch.Tensor
    allowed: float
    boundaries: torch.Tensor | None = None

    def __post_init__(self) -> None:
        """Find the elements that are the same function of an accumulator.

        Raises:
            UndecidedError: something does not work element by element, or accumulators have another sign.

        """
        if bool((self.linear.factor <= 0).any()):
            raise UndecidedError("accumulators of another sign")
        everything = torch.arange(len(self.channel))
        classes = self.elements.fold(self.target, everything, InClasses(self.elements))
        for one in (self.channel, self.linear.shift, self.linear.factor, self.linear.divisor):
            classes = merged(classes, (one - one.min()) if one.numel() else one)
        self.count, rows, self._first = grouped(classes)
        scaled = [
            torch.div(one.long() * self.linear.factor, self.linear.divisor, rounding_mode="floor") + self.linear.shift
            for one in (self.low, self.high)
        ]
        empty = torch.zeros(self.count, dtype=torch.int64)
        self.least = empty.scatter_reduce(0, rows, scaled[0], "amin", include_self=False)
        self.most = empty.scatter_reduce(0, rows, scaled[1], "amax", include_self=False)
        places = self.elements.fold(self.target, self._first, Touching(frozenset({self.root})))
        self._parts: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}
        self._lookup: torch.Tensor | None = None
        if len(places.unique()) == len(places):
            self._lookup = torch.full((self.elements.values[self.root].numel(),), -1)
            self._lookup[places] = torch.arange(len(places))

    @cached_property
    def total(self) -> int:
        """How many accumulator values there are, over all kinds of elements."""
        return int((self.most - self.least + 1).sum())

    @cached_property
    def units(self) -> list[tuple[Fraction, Fraction]]:
        """What one accumulator stands for, and what is added, for each kind of element."""
        found = []
        for element in self._first.tolist():
            channel = int(self.channel[element])
            ratio = Fraction(int(self.linear.divisor[element]), int(self.linear.factor[element]))
            unit = self.sums.units[channel] * ratio
            found.append((unit, self.sums.offsets[channel] - unit * int(self.linear.shift[element])))
        return found

    @cached_property
    def range(self) -> tuple[int, int]:
        """The least and the largest level that the result can have."""
        return self.asked.range(Rounding.HALF_EVEN)

    def is_as_it_ran(self) -> bool:
        """Tell whether the program, worked out element by element, gives what it gave."""
        values = self.elements.values
        own = values[self.root].reshape(-1)
        some = some_of(len(self.channel))
        on_run = OnVectors({self.root: lambda at: own[at][:, None]}, self.elements)
        found = self.elements.fold(self.target, some, on_run)
        return torch.equal(found.reshape(-1), values[self.target].reshape(-1)[some])

    def decide(self, rounding: Rounding) -> Tally:
        """Return what is not exact.

        Raises:
            UndecidedError: it may turn, and there are too many values.

        """
        first, last = self.range
        if self._is_monotone:
            found = Tally()
            self.boundaries = self._boundaries(slice(0, None), first, last)
            for start in range(0, self.count, _ROWS):
                found.add(self._by_boundaries(slice(start, start + _ROWS), first, last, rounding))
            return found
        if self.total > MOST:
            raise UndecidedError(f"it may turn, and {self.total:,} accumulator values are too many to try")
        found = Tally()
        exact = self.beginnings(rounding, first, last)
        for row in range(self.count):
            found.add(self._one_by_one(row, first, last, exact[row], rounding))
        return found

    def schemes(self) -> list[str]:
        """Return the rounding schemes that all boundaries are of."""
        if self.boundaries is None:
            return []
        first, last = self.range
        found = self.boundaries
        names = [one.value for one in Rounding if torch.equal(found, self.held(self.beginnings(one, first, last)))]
        return names or [one.value for one in Multiplier if self._is_of(one, found, first, last)]

    def beginnings(self, rounding: Rounding, first: int, last: int) -> torch.Tensor:
        """Return where each level but the first begins, for each kind of element."""
        scale, point = self.asked.output
        turns = [rounding.begins(level - point, point) for level in range(first + 1, last + 1)]
        return beginnings_of(turns, scale, self.units).reshape(self.count, last - first)

    def _is_of(self, scheme: Multiplier, found: torch.Tensor, first: int, last: int) -> bool:
        scale, point = self.asked.output
        for row, (unit, offset) in enumerate(self.units):
            bias, ratio = round(offset / unit), unit / scale
            low, high = int(self.least[row]), int(self.most[row])

            def level(accumulator: int, bias: int = bias, ratio: Fraction = ratio) -> int:
                return scheme.scaled(accumulator + bias, ratio) + point

            for column, begin in enumerate(found[row].tolist()):
                if least(level, first + 1 + column, low, high + 1) != begin:
                    return False
        return True

    def held(self, boundaries: torch.Tensor, rows: slice = slice(0, None)) -> torch.Tensor:
        """Hold boundaries to what can be reached."""
        return boundaries.clamp(self.least[rows, None], self.most[rows, None] + 1)

    def _levels(self, accumulators: torch.Tensor, rows: Any, *, strict: bool = False) -> torch.Tensor:
        """Return the levels of accumulators, a row for each kind of element."""
        chosen, at = self._chosen(rows)

        def given(at: torch.Tensor) -> torch.Tensor:
            if len(at) == len(chosen):
                return accumulators
            if self._lookup is None:
                raise UndecidedError("one accumulator is read in several ways")
            position = torch.full((self.count,), -1)
            position[chosen] = torch.arange(len(chosen))
            return accumulators[position[self._lookup[at]]]

        on_vectors = OnVectors({self.root: given}, self.elements, strict)
        return self.elements.fold(self.target, at, on_vectors).long().expand(accumulators.shape)

    def _chosen(self, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return some kinds of elements, and an element of each: the same tensors for the same."""
        key = rows.start, rows.stop
        if key not in self._parts:
            self._parts[key] = torch.arange(self.count)[rows], self._first[rows]
        return self._parts[key]

    @cached_property
    def _is_monotone(self) -> bool:
        try:
            signs = self.elements.fold(self.target, self._first, Turning(self.elements))
            # Where operators are monotone, the ends are the furthest that they get.
            self._levels(torch.stack([self.least, self.most], 1), slice(0, None), strict=True)
        except UndecidedError:
            return False
        return not bool((signs < 0).any())

    def _boundaries(self, rows: slice, first: int, last: int) -> torch.Tensor:
        """Return the least accumulator of each level but the first, by bisection."""
        levels = torch.arange(first + 1, last + 1)
        return bisected(partial(self._levels, rows=rows), levels, self.least[rows, None], self.most[rows, None])

    def _by_boundaries(self, rows: slice, first: int, last: int, rounding: Rounding) -> Tally:
        ends = self._levels(torch.stack([self.least[rows], self.most[rows]], 1), rows)
        bottom, top = min(first, int(ends.min())), max(last, int(ends.max()))
        if top - bottom > last - first + _BEYOND:
            return self._far_off(rows, ends, first, last, rounding)
        assert self.boundaries is not None  # noqa: S101 - they are worked out first
        is_whole = (bottom, top) == (first, last)
        found = self.boundaries[rows] if is_whole else self._boundaries(rows, bottom, top)
        exact = torch.cat(
            [
                self.least[rows, None].expand(-1, first - bottom),
                self.held(self.beginnings(rounding, first, last)[rows], rows),
                (self.most[rows, None] + 1).expand(-1, top - last),
            ],
            1,
        )
        result = Tally(checked=int((self.most[rows] - self.least[rows] + 1).sum()))
        if torch.equal(found, exact):
            return result
        begins, ends = torch.minimum(found, exact), torch.maximum(found, exact)
        before = torch.cat([torch.full_like(ends[:, :1], -(2**62)), ends[:, :-1]], 1)
        result.wrong = int((ends - torch.maximum(begins, before)).clamp(min=0).sum())
        late = int((found - exact).clamp(min=0).sum())
        early = int((exact - found).clamp(min=0).sum())
        result.low = round(result.wrong * late / (late + early))
        result.high = result.wrong - result.low
        # The worst of what a boundary does wrong lies at the program's own, or just before it.
        worst = torch.where(found < exact, found, found - 1)
        got = self._levels(worst, rows)
        due = bottom + torch.searchsorted(exact.contiguous(), worst.contiguous(), right=True)
        wrong = (found != exact) & (got != due)
        steps = self._steps(worst, rows).clamp(first, last)  # beyond its ends a range is not left
        far = displacement(got.double(), due.double(), steps, rounding.turn).where(wrong, torch.tensor(0.0).double())
        result.displacement = float(far.max())
        result.excess = float((far - self._allowed(rows)[:, None]).where(wrong, torch.tensor(-math.inf).double()).max())
        order = far.where(wrong, torch.tensor(-1.0).double()).reshape(-1).argsort(descending=True)[:EXAMPLES].tolist()
        for at in order:
            row, column = divmod(at, far.shape[1])
            if bool(wrong[row, column]):
                element = int(self._first[rows][row])
                values = (int(got[row, column]), int(due[row, column]), float(far[row, column]))
                result.examples.append(Example(element, (int(worst[row, column]),), *values))
        return result

    def _far_off(self, rows: slice, ends: torch.Tensor, first: int, last: int, rounding: Rounding) -> Tally:
        """Compare the least and the largest accumulators alone, where levels are not held to any range."""
        given = torch.stack([self.least[rows], self.most[rows]], 1)
        exact = self.held(self.beginnings(rounding, first, last)[rows], rows)
        due = first + torch.searchsorted(exact.contiguous(), given, right=True)
        result = Tally(checked=int((self.most[rows] - self.least[rows] + 1).sum()))
        steps = self._steps(given, rows).clamp(first, last)
        for row, element in enumerate(self._first[rows].tolist()):
            one = (ends[row], due[row], steps[row], rounding.turn, self.allowed, element, (given[row],))
            found = tally(*one)
            found.checked = 0
            result.add(found)
        return result

    def _one_by_one(self, row: int, first: int, last: int, exact: torch.Tensor, rounding: Rounding) -> Tally:
        found = Tally()
        rows = slice(row, row + 1)
        allowed = float(self._allowed(rows))
        low, high = int(self.least[row]), int(self.most[row])
        for start in range(low, high + 1, _CHUNK):
            values = torch.arange(start, min(start + _CHUNK, high + 1))
            got = self._levels(values[None, :], rows)[0]
            due = first + torch.searchsorted(exact, values, right=True)
            steps = self._steps(values[None, :], rows)[0].clamp(first, last)
            found.add(tally(got, due, steps, rounding.turn, allowed, int(self._first[row]), (values,)))
        return found

    def _steps(self, accumulators: torch.Tensor, rows: Any) -> torch.Tensor:
        """Return accumulators in levels, float64."""
        scale, point = self.asked.output
        chosen = self.units[rows]
        units = torch.tensor([float(unit / scale) for unit, _ in chosen], dtype=torch.float64)[:, None]
        offsets = torch.tensor([float(offset / scale) for _, offset in chosen], dtype=torch.float64)[:, None]
        return accumulators * units + offsets + point

    @property
    def most_allowed(self) -> float:
        """The largest displacement that is allowed."""
        return float(self._allowed(slice(0, None)).max())

    def _allowed(self, rows: Any) -> torch.Tensor:
        """Return the displacement that is allowed: half an accumulator more where a bias is no whole number of them."""
        scale, _ = self.asked.output
        found = []
        for element, (unit, _) in zip(self._first[rows].tolist(), self.units[rows], strict=True):
            offset = self.sums.offsets[int(self.channel[element])]
            whole = (offset / self.sums.units[int(self.channel[element])]).denominator == 1
            found.append(self.allowed + (0.0 if whole else 0.501 * float(unit / scale)))
        return torch.tensor(found, dtype=torch.float64)
