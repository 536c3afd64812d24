"""Is the accumulator of a segment the linear map of the levels that is asked for? Bounds, and random numbers.

All that a segment does up to its accumulator must be polynomial: additions, products, contractions, movements. Where no
value can leave its dtype, the casts may be thought away, and then two different maps agree on numbers drawn from S with
a probability of at most the degree by S.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.judge.deciding.elements import Elements, InClasses, OnVectors, UndecidedError, descending, grouped
from pt2e_ci.judge.deciding.specification import EXACT
from pt2e_ci.judge.provenance import TABLES, Segment
from pt2e_ci.operators.names import by_name, name_of
from pt2e_ci.operators.row import Kind
from pt2e_ci.operators.rows import is_elementwise, is_moving, kind_of
from pt2e_ci.program.trace import Value, filled, tensors_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.fx import Node

    from pt2e_ci.judge.deciding.specification import Accumulators
    from pt2e_ci.program.trace import Step

_SUMS = frozenset("mm bmm addmm baddbmm mv addmv dot convolution matmul _int_mm sum cumsum".split())
_AFFINE = frozenset("add sub rsub neg".split())
_CASTS = frozenset("_to_copy to clone lift_fresh_copy contiguous".split())
_CLAMPS = frozenset("clamp clamp_min clamp_max hardtanh relu".split())
MISS = 2.0**-40
"""The largest probability, for each element, that another map is not noticed."""


@dataclass
class Interval:
    """The least and the largest value of each element, float64."""

    low: torch.Tensor
    high: torch.Tensor

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(float(-self.low.min()), float(self.high.max())) if self.low.numel() else 0.0

    @property
    def magnitude(self) -> torch.Tensor:
        """The largest magnitude of each."""
        return torch.maximum(self.low.abs(), self.high.abs())


@dataclass
class Lift:
    """A segment up to its accumulator, as a polynomial of the levels.

    Attributes:
        segment: the segment, which ends in the accumulator.
        values: all tensors of a run.
        cuts: the tensors that have the levels of each operand.
        bounds: the least and the largest level of each.
        intervals: of each tensor.
        largest: the largest magnitude of all.
        degree: of the polynomial.

    """

    segment: Segment
    values: Mapping[Value, torch.Tensor]
    cuts: Mapping[Node, Sequence[Value]]
    bounds: Mapping[Node, tuple[int, int]]
    intervals: dict[Value, Interval] = field(default_factory=dict)
    largest: float = 0.0
    degree: int = 1
    _degrees: dict[Value, int] = field(default_factory=dict)
    _shifts: dict[Value, torch.Tensor] = field(default_factory=dict)
    _origins: dict[Value, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find the intervals.

        Raises:
            UndecidedError: a step is not a polynomial of integers, or may leave its dtype.

        """
        free = [value for values in self.cuts.values() for value in values]
        self._data = descending(self.segment, frozenset(free))
        self._elements = Elements(self.segment, self.values, free)
        self._free = free
        for node, values in self.cuts.items():
            low, high = self.bounds[node]
            for value in values:
                shape = self.segment.trace.info[value].shape
                ends = (torch.full(shape, float(end), dtype=torch.float64) for end in (low, high))
                self.intervals[value] = Interval(*ends)
        for step in self._steps():
            self._note_degree(step)
            for value, interval in zip(step.gives, self._bounded(step), strict=True):
                self.intervals[value] = interval
                self.largest = max(self.largest, interval.largest)
                self._check(step, value, interval)

    def run(self, given: Mapping[Node, torch.Tensor]) -> torch.Tensor:
        """Return the accumulator for any numbers in place of levels, float64; exact below 2^52."""
        found = {value: given[node] for node, values in self.cuts.items() for value in values}
        for step in self._steps():
            for value, tensor in zip(step.gives, self._on(step, found), strict=True):
                found[value] = tensor
        return found[self.segment.target]

    def _steps(self) -> list[Step]:
        steps = [self.segment.trace.steps[place] for place in self.segment.steps]
        return [
            step
            for step in steps
            if kind_of(step.target) is not Kind.CONSTANT
            and any(value in self._data for value in step.reads)
            and not all(value in self._free for value in step.gives)
        ]

    # What a step does with numbers, and with their bounds.

    def _on(self, step: Step, found: Mapping[Value, torch.Tensor]) -> list[torch.Tensor]:
        name = name_of(step.target)
        if step.gives[0] in self._shifts:
            return [found[self._origins[step.gives[0]]] + self._shifts[step.gives[0]]]
        if name in _CASTS or name in _CLAMPS:
            return [found[step.takes[0]].clone()]
        return self._call(step, name, found)

    def _call(self, step: Step, name: str, found: Mapping[Value, torch.Tensor]) -> list[torch.Tensor]:
        """Call a step on float64."""

        def number(leaf: Any) -> Any:
            if not isinstance(leaf, Value):
                return leaf
            if leaf in found:
                return found[leaf].clone() if step.written else found[leaf]
            return self._constant(step, leaf)

        given = {key: value for key, value in step.kwargs.items() if key not in ("dtype", "memory_format")}
        args, kwargs = filled(step.args, number), filled(given, number)
        if name == "_int_mm":
            return [args[0] @ args[1]]
        return tensors_in(step.target(*args, **kwargs))[: len(step.gives)]

    def _constant(self, step: Step, value: Value) -> torch.Tensor:
        tensor = self.values[value]
        if name_of(step.target) in TABLES and value != step.takes[0]:
            return tensor  # places
        wide = tensor.to(torch.float64)
        if bool((wide != wide.round()).any()):
            raise UndecidedError(f"{name_of(step.target)} with a constant that is not whole")
        return wide

    def _bounded(self, step: Step) -> list[Interval]:
        """Return bounds of what a step gives.

        Raises:
            UndecidedError: it is not a polynomial of integers.

        """
        name = name_of(step.target)
        data = [value for value in dict.fromkeys(step.takes) if value in self._data]
        if step.is_opaque or step.is_inside or len(step.written) > 1:
            raise UndecidedError(f"{name} is not followed")
        if any(value not in self.intervals for value in data):
            raise UndecidedError(f"{name} of a comparison")
        if not self._is_whole(step, data):
            raise UndecidedError(f"{name} in float")
        if name == "view" and step.target._overloadname == "dtype":
            return self._tabulated(step, name)
        if is_moving(step.target) or (name in TABLES and data == [step.takes[0]]):
            ends = ({value: getattr(self.intervals[value], end) for value in data} for end in ("low", "high"))
            moved = (self._call(step, name, one) for one in ends)
            return [Interval(low, high) for low, high in zip(*moved, strict=True)]
        return self._computed(step, name, data)

    def _computed(self, step: Step, name: str, data: Sequence[Value]) -> list[Interval]:
        if name in _CASTS:
            return [self.intervals[data[0]]]
        if name in _CLAMPS:
            return self._clamped(step, name, data[0])
        if name in _AFFINE:
            return [self._affine(step, name)]
        if name == "mul":
            return [self._product(step)]
        given = by_name(step.target, step.args, step.kwargs)
        if name in _SUMS or (name == "avg_pool2d" and given.get("divisor_override") == 1):
            return self._contracted(step, name, data)
        return self._tabulated(step, name)

    def _note_degree(self, step: Step) -> None:
        degrees = [self._degrees.get(value, 1) for value in step.takes if value in self._data]
        multiplies = name_of(step.target) == "mul" or name_of(step.target) in _SUMS
        self._degrees |= dict.fromkeys(step.gives, sum(degrees) if multiplies else max(degrees))
        self.degree = max(self.degree, self._degrees[step.gives[0]])

    def _is_whole(self, step: Step, data: Sequence[Value]) -> bool:
        infos = [self.segment.trace.info[value] for value in (*data, *step.gives)]
        return all(info.is_integer or info.dtype is torch.bool for info in infos)

    def _clamped(self, step: Step, name: str, value: Value) -> list[Interval]:
        interval = self.intervals[value]
        clamp = self._call(step, name, {value: interval.low}), self._call(step, name, {value: interval.high})
        if not (torch.equal(clamp[0][0], interval.low) and torch.equal(clamp[1][0], interval.high)):
            raise UndecidedError(f"{name} of an accumulator that may bind")
        return [interval]

    def _affine(self, step: Step, name: str) -> Interval:
        given = by_name(step.target, step.args, step.kwargs)
        alpha = given.get("alpha", 1)
        ends = []
        for key in ("self", "other"):
            if key not in given:
                continue
            one = given[key]
            weight = {"sub": (1, -alpha), "rsub": (-alpha, 1), "neg": (-1, 0)}.get(name, (1, alpha))[key == "other"]
            interval = self._interval(step, one)
            low, high = interval.low * weight, interval.high * weight
            ends.append((torch.minimum(low, high), torch.maximum(low, high)))
        shape = self.segment.trace.info[step.gives[0]].shape
        return Interval(*(sum((end[side] for end in ends), torch.zeros(shape).double()) for side in (0, 1)))

    def _interval(self, step: Step, leaf: Any) -> Interval:
        if isinstance(leaf, Value) and leaf in self.intervals:
            return self.intervals[leaf]
        tensor = self._constant(step, leaf) if isinstance(leaf, Value) else torch.tensor(float(leaf)).double()
        if not isinstance(leaf, Value) and float(leaf) != int(leaf):
            raise UndecidedError(f"{name_of(step.target)} with a number that is not whole")
        return Interval(tensor, tensor)

    def _product(self, step: Step) -> Interval:
        a, b = (self._interval(step, leaf) for leaf in step.args[:2])
        ends = torch.stack(torch.broadcast_tensors(*(x * y for x in (a.low, a.high) for y in (b.low, b.high))))
        return Interval(ends.amin(0), ends.amax(0))

    def _contracted(self, step: Step, name: str, data: Sequence[Value]) -> list[Interval]:
        """Split constants by sign; two activations are bounded by their magnitudes."""
        constants = [value for value in dict.fromkeys(step.takes) if value not in self._data]
        added = [value for value in constants if name in ("addmm", "baddbmm", "addmv") and value == step.takes[0]]
        factors = {value: self._constant(step, value) for value in constants if value not in added}
        rest = {value: self._constant(step, value) for value in added}
        if len(data) > 1:
            most = {value: self.intervals[value].magnitude for value in data}
            (top,) = self._call(step, name, most | {k: v.abs() for k, v in (factors | rest).items()})
            return [Interval(-top, top)]
        (value,) = data
        one = self.intervals[value]
        zeros = {key: torch.zeros_like(tensor) for key, tensor in rest.items()}
        if not factors:
            ends = [self._call(step, name, {value: end} | rest)[0] for end in (one.low, one.high)]
            return [Interval(*ends)]
        above = {key: tensor.clamp(min=0) for key, tensor in factors.items()}
        below = {key: tensor.clamp(max=0) for key, tensor in factors.items()}
        low = self._call(step, name, {value: one.low} | above | rest)[0]
        high = self._call(step, name, {value: one.high} | above | rest)[0]
        return [
            Interval(
                low + self._call(step, name, {value: one.high} | below | zeros)[0],
                high + self._call(step, name, {value: one.low} | below | zeros)[0],
            )
        ]

    def _tabulated(self, step: Step, name: str) -> list[Interval]:
        """Read off all levels of one operand what a step makes of them: each level, and a constant more, it must be.

        Raises:
            UndecidedError: it is something else.

        """
        trace, target = self.segment.trace, step.gives[0]
        if not (is_elementwise(name) or name in TABLES) or len(step.gives) > 1:
            raise UndecidedError(f"{name} is not a polynomial of integers")
        part = Segment.between(trace, self._free, target)
        beginnings = {value for place in part.steps for value in trace.steps[place].takes if value in self._free}
        if len(beginnings) != 1:
            raise UndecidedError(f"{name} is not a polynomial of integers")
        (value,) = beginnings
        if trace.info[value].shape != trace.info[target].shape:
            raise UndecidedError(f"{name} is not a polynomial of integers")
        node = next(node for node, values in self.cuts.items() if value in values)
        low, high = self.bounds[node]
        levels = torch.arange(low, high + 1)
        elements = Elements(part, self.values, [value])
        everything = torch.arange(math.prod(trace.info[target].shape))
        _, rows, first = grouped(elements.fold(target, everything, InClasses(elements)))
        on_levels = OnVectors({value: lambda at: levels[None, :]}, elements)
        found = elements.fold(target, everything[first], on_levels).long().expand(len(first), len(levels))
        shifts = found - levels
        if bool((shifts != shifts[:, :1]).any()):
            raise UndecidedError(f"{name} makes of a level something else than it, and a constant more")
        shift = shifts[:, 0][rows].reshape(trace.info[target].shape).double()
        self._shifts[target], self._origins[target] = shift, value
        return [Interval(shift + low, shift + high)]

    def _check(self, step: Step, value: Value, interval: Interval) -> None:
        info = self.segment.trace.info[value]
        if info.dtype is torch.bool or not interval.low.numel():
            raise UndecidedError(f"{name_of(step.target)} gives truth values")
        bounds = torch.iinfo(info.dtype)
        slack = 1 - 2.0**-30 if bounds.bits == 64 else 1.0
        if float(interval.high.max()) > bounds.max * slack or float(interval.low.min()) < bounds.min * slack:
            dtype = str(info.dtype).removeprefix("torch.")
            raise UndecidedError(f"{name_of(step.target)} may leave {dtype}: it reaches {interval.largest:.4g}")


@dataclass(frozen=True)
class LinearMap:
    """How an accumulator is made of the sums that are asked for: ``factor / divisor * sum + shift``, for each element.

    Attributes:
        factor, divisor, shift: whole numbers, int64, flat, in the order of the contraction's result.
        chance: the probability, at most, that a difference in one element went unnoticed.
        differs: the elements where it is another map; none where it is the one.

    """

    factor: torch.Tensor
    divisor: torch.Tensor
    shift: torch.Tensor
    chance: float
    differs: torch.Tensor


def compare(lift: Lift, asked: Accumulators, places: torch.Tensor, points: Mapping[Node, int]) -> LinearMap:
    """Compare the accumulators of a program with the sums that are asked for.

    Args:
        lift: the program.
        asked: the sums.
        places: for each element that is asked for, the place of its accumulator.
        points: the zero point of each operand.

    Raises:
        UndecidedError: numbers are too large for float64.

    """
    shapes = {node: lift.segment.trace.info[values[0]].shape for node, values in lift.cuts.items()}
    degree = max(len(asked.asked.activations), lift.degree)
    most = max(lift.largest, float(torch.stack([end.abs().max() for end in asked.extremes()]).max()), 1.0)
    span = int(64 * (EXACT / 16 / most) ** (1 / degree))
    if span < 8:
        raise UndecidedError(f"numbers of up to {most:.3g} on the way")
    generator = torch.Generator()
    generator.seed()

    def sums(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        drawn = {
            node: torch.randint(-size, size + 1, tuple(shape), generator=generator).double()
            for node, shape in shapes.items()
        }
        got = lift.run({node: one + points[node] for node, one in drawn.items()}).reshape(-1)[places]
        return got.long() - shift, asked.sums(drawn).reshape(-1).long()

    zero = {node: torch.full(tuple(shape), float(points[node])).double() for node, shape in shapes.items()}
    shift = lift.run(zero).reshape(-1)[places].long()
    factor, divisor = torch.ones_like(shift), torch.ones_like(shift)
    unknown = torch.ones_like(shift, dtype=torch.bool)
    for _ in range(3):
        got, due = sums(span)
        known = unknown & (due != 0)
        common = torch.gcd(got, due).clamp(min=1) * torch.where(due < 0, -1, 1)
        factor = torch.where(known, torch.div(got, common, rounding_mode="floor"), factor)
        divisor = torch.where(known, torch.div(due, common, rounding_mode="floor"), divisor)
        unknown &= ~known
    # A map that is asked for has one factor, and a small one; a fraction with long parts is of another map.
    factor, divisor = (torch.where(divisor.abs() > 2**20, torch.ones_like(one), one) for one in (factor, divisor))
    differs = torch.zeros_like(unknown)
    chance = 1.0
    while chance > MISS:
        got, due = sums(span)
        differs |= got * divisor != due * factor
        chance *= degree / span
    return LinearMap(factor, divisor, shift, chance, differs.nonzero().flatten())
