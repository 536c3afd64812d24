"""Each quantized operator, decided for all its inputs: a segment in, what was found out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import torch

from pt2e_ci.errors import one_line
from pt2e_ci.exact.levels import to_levels
from pt2e_ci.exact.reals import NoExactFormError, Real
from pt2e_ci.judge.deciding import contraction, selection
from pt2e_ci.judge.deciding.combinations import Combinations
from pt2e_ci.judge.deciding.contraction import Lift
from pt2e_ci.judge.deciding.counterexample import Aim, Trial
from pt2e_ci.judge.deciding.elements import Elements, OnVectors, Turning, UndecidedError
from pt2e_ci.judge.deciding.floats import InputQuantize
from pt2e_ci.judge.deciding.requantization import Requantization
from pt2e_ci.judge.deciding.specification import Accumulators, Specification
from pt2e_ci.judge.deciding.tally import Tally, tally
from pt2e_ci.judge.provenance import Segment, provenance
from pt2e_ci.operators.row import Rule
from pt2e_ci.program.oracle import work_out
from pt2e_ci.record.criteria import DISPLACEMENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch.fx import Node

    from pt2e_ci.exact.schemes import Rounding
    from pt2e_ci.judge.alignment import Alignment
    from pt2e_ci.judge.deciding.counterexample import Shown
    from pt2e_ci.program.segments import Levels, QuantizedOperator, Reading
    from pt2e_ci.program.trace import Trace, Value


@dataclass(frozen=True)
class Decision:
    """What was found of one operator.

    Attributes:
        domain: what it was decided on, in words.
        tally: what is not exact of all there is; None where that was not decided.
        schemes: the rounding schemes that explain it; those that cannot be told apart here are all named.
        why: why not all of it is decided.
        proved: what of it is decided all the same, in words.
        shown: levels of its operands on which it is wrong.
        trial: the operator, to be tried on other levels; None for the input's quantize.
        chance: the probability, at most, that a wrong element went unnoticed.
        requantization, combinations, floats: what decided it, for each way of deciding.

    """

    domain: str = ""
    tally: Tally | None = None
    schemes: tuple[str, ...] = ()
    why: str | None = None
    proved: str | None = None
    shown: Shown | None = None
    trial: Trial | None = None
    chance: float = 0.0
    requantization: Requantization | None = None
    combinations: Combinations | None = None
    floats: tuple[InputQuantize, Value] | None = None


class Decider:
    """Decides the operators of a reference program.

    Args:
        reading: the Q/DQ program.
        trace: the reference program.
        values: all its tensors of a run.
        alignment: which of them are which.
        rounding: the scheme that is due.
        displacement: the displacement that is allowed for the arithmetic, in LSB.

    """

    def __init__(
        self,
        reading: Reading,
        trace: Trace,
        values: Mapping[Value, torch.Tensor],
        alignment: Alignment,
        rounding: Rounding,
        displacement: float = DISPLACEMENT,
    ) -> None:
        self._reading, self._trace, self._values = reading, trace, values
        self._alignment, self._rounding, self._allowed = alignment, rounding, displacement

    def levels(self, one: Levels, in_float: str | None = None) -> list[Decision]:
        """Decide what gives a quantize node its levels, each tensor that has them; what is in float is not."""
        node = one.quantize.node
        if in_float is not None:
            return [Decision(why=in_float)]
        if node not in self._alignment.levels:
            return []
        return [self._decide(one, target) for target in self._own(one)]

    def result(self, operator: QuantizedOperator) -> Decision | None:
        """Decide the contraction of an operator whose result stays in float."""
        target = self._alignment.results.get(operator.node)
        if target is None:
            return None
        why = "its result stays in float" if not self._reading.runtime else "its scales are found at run time"
        try:
            asked = Specification.of_result(self._reading, operator)
            if asked.rule is not Rule.CONTRACTION:
                return Decision(why=why)
            found = _Contraction(self, asked, target).compared()
        except UndecidedError as error:
            return Decision(why=f"{why}, and {error}")
        if len(found.differs):
            return Decision(why=f"{why}; {len(found.differs)} of {len(found.shift)} accumulators are another map")
        return Decision(why=why, proved="its contraction", chance=found.chance)

    def _own(self, one: Levels) -> list[Value]:
        """Return the tensors that others read as a node's levels.

        Each consumer may quantize for itself: what is right of one tensor need not be so of another. An accumulator on
        the way to levels, which may be equal to them on all samples, is none unless something else reads it.
        """
        node = one.quantize.node
        alike = frozenset(self._alignment.alike(node))
        before = [self._alignment.alike(source) for source in self._reading.levels_before(node)] or [self._trace.inputs]
        cuts = [value for some in before for value in some]
        found: list[Value] = []
        for value in sorted(alike & self._read_as(alike | self._alignment.behind(node)), key=lambda value: value.index):
            reached = Segment.between(self._trace, cuts, value).beginnings
            if all(any(one in reached for one in some) for some in before):
                found.append(value)
        return found or [self._alignment.levels[node]]

    def _read_as(self, alike: frozenset[Value]) -> set[Value]:
        """Return what is read by others than those that give one of these tensors, too."""
        live = self._trace.live
        found = {value for value in self._trace.output_values if value is not None}
        for step in self._trace.steps:
            if not alike.issuperset(step.gives) and any(value in live for value in step.gives):
                found.update(step.takes)
        return found

    def _decide(self, one: Levels, target: Value) -> Decision:
        trial: Trial | None = None
        try:
            if one.before is None and self._is_given(one):
                return self._input(one, target)
            asked = Specification.of_levels(self._reading, one)
            trial = self.trial(asked, target)
            return self._by_rule(trial, asked)
        except UndecidedError as error:
            why = str(error)
            if trial is None and one.before is None and self._is_given(one):
                return Decision("floats", self._as_it_ran(one, target), why=why)
        except Exception as error:  # a program of another kind than any before: it is tested, and says why
            return Decision(why=f"to decide it raised {one_line(error)}")
        try:
            shown = trial.search(trial.drawn()) if trial else None
        except (UndecidedError, NoExactFormError):
            shown = None
        return Decision(why=why, shown=shown, trial=trial)

    def _is_given(self, one: Levels) -> bool:
        return not self._reading.levels_before(one.quantize.node)

    def _input(self, one: Levels, target: Value) -> Decision:
        inputs = [value for value in self._trace.origins.get(target, ()) if value in self._trace.inputs]
        if len(inputs) != 1:
            raise UndecidedError("it is worked out from several inputs")
        segment = Segment.between(self._trace, inputs, target)
        quantize = InputQuantize(segment, self._values, inputs[0], self._reading, one)
        tally = quantize.decide(self._rounding, self._allowed)
        return Decision("floats", tally, floats=(quantize, inputs[0]))

    def _as_it_ran(self, one: Levels, target: Value) -> Tally | None:
        """Return what is not exact of the levels that the program had; None where nothing is."""
        grid, got = one.quantize.grid.one, self._values[target].reshape(-1).long()
        given = {
            node: Real.of_floats(self._values[value])
            for node, value in zip(self._reading.inputs, self._trace.inputs, strict=False)
            if self._values[value].is_floating_point()
        }
        if grid is None:
            return None
        try:
            real = work_out(self._reading, one.quantize.source, given)
        except NoExactFormError:
            return None
        scale, bounds = Fraction(grid[0]), (one.quantize.grid.low, one.quantize.grid.high)
        due = to_levels(real, scale, grid[1], bounds, self._rounding).reshape(-1)
        if got.shape != due.shape or torch.equal(got, due):
            return None
        steps = (real.times(1 / scale).floats().reshape(-1) + grid[1]).clamp(*bounds)
        places = torch.arange(len(got))
        found = tally(got, due, steps, self._rounding.turn, self._allowed, 0, (places,))
        return found if found.excess > 0 else None

    def trial(self, asked: Specification, target: Value) -> Trial:
        """Cut an operator out of the reference program.

        Raises:
            UndecidedError: an operand's levels are not there, or it reads the input around them.

        """
        cuts = {node: self._alignment.alike(node, target) for node in asked.sources}
        if not all(cuts.values()):
            raise UndecidedError("an operand's levels are not found")
        segment = Segment.between(self._trace, [value for some in cuts.values() for value in some], target)
        written = {before for place in segment.steps for before, _ in self._trace.steps[place].written}
        if written & (self._trace.constants.keys() | {*segment.cuts}):
            raise UndecidedError("it keeps state")
        if segment.inputs and not asked.is_dynamic:
            raise UndecidedError("it reads the program's input around its operands")
        return Trial(segment, self._values, asked, cuts, self._rounding, self._allowed)

    def _by_rule(self, trial: Trial, asked: Specification) -> Decision:
        rule = asked.rule
        if rule is Rule.CONTRACTION:
            return _Contraction(self, asked, trial.segment.target, trial).decide()
        if rule is Rule.SELECTION:
            tally = selection.decide(trial.segment, trial.values, asked, trial.cuts, self._rounding, self._allowed)
            shown = trial.on(tally.shown) if tally.shown else None
            return Decision("windows", tally, shown=shown, trial=trial, chance=_SELECTED)
        free = [value for some in trial.cuts.values() for value in some]
        found = Combinations(Elements(trial.segment, self._values, free), trial.segment.target, asked, trial.cuts)
        domain = "pairs of levels" if rule is Rule.PAIRS else "levels"
        if len(found.elsewhere):
            return self._elsewhere(trial, found, domain)
        if not found.is_as_it_ran():
            raise UndecidedError("worked out element by element, it gives other levels than it gave")
        tally = found.decide(self._rounding, self._allowed)
        shown = trial.search(chain(self._pairs(trial, found, tally), trial.drawn())) if tally.excess > 0 else None
        schemes = tuple(found.schemes())
        return Decision(domain, tally, schemes, shown=shown, trial=trial, combinations=found)

    def _elsewhere(self, trial: Trial, found: Combinations, domain: str) -> Decision:
        shown = trial.search(trial.drawn())
        why = f"{len(found.elsewhere)} elements are made of other elements of its operands"
        return Decision(domain, why=why, shown=shown, trial=trial)

    def _pairs(self, trial: Trial, found: Combinations, tally: Tally) -> Iterator[dict[Node, torch.Tensor]]:
        """Put levels that are wrong where the element reads them."""
        for example in tally.examples:
            nodes = [node for node, places in found.due.items() if int(places[example.element]) >= 0]
            levels = {node: self._values[some[0]].long().clone() for node, some in trial.cuts.items()}
            for node, level in zip(nodes, example.given, strict=True):
                flat = levels[node].contiguous().reshape(-1).clone()
                flat[int(found.due[node][example.element])] = level
                levels[node] = flat.reshape(levels[node].shape)
            yield levels


_SELECTED = selection.miss(9)
_AROUND = 16
"""So many elements that are another map, and so many boundaries of each, are aimed at."""


class _Contraction:
    """A contraction, and what its accumulator becomes."""

    def __init__(self, decider: Decider, asked: Specification, target: Value, trial: Trial | None = None) -> None:
        self._decider, self._asked = decider, asked
        self._trial = trial or decider.trial(asked, target)
        self._values = self._trial.values

    @cached_property
    def _sums(self) -> Accumulators:
        return Accumulators.of(self._asked, self._trial.shapes)

    def decide(self) -> Decision:
        """Decide both.

        Raises:
            UndecidedError: one of them cannot be.

        """
        trial = self._trial
        try:
            linear = self.compared()
        except UndecidedError as error:
            shown = trial.search(chain(trial.drawn(), self._ends()))
            return Decision("accumulators", why=str(error), shown=shown, trial=trial)
        if len(linear.differs) and (same := self._saturated(linear)) is not None:
            linear = same
        if len(linear.differs):
            trial = replace(trial, allowed=0.0)  # another map is no matter of rounding
            shown = trial.search(chain(trial.drawn(), self._around(linear.differs.tolist())))
            why = f"{len(linear.differs)} of {len(linear.shift)} accumulators are another map of its operands"
            return Decision("accumulators", why=why, shown=shown, trial=trial)
        low, high = (one.reshape(-1) for one in self._sums.extremes())
        elements = Elements(trial.segment, self._values, [self._root])
        found = Requantization(
            elements=elements,
            target=trial.segment.target,
            root=self._root,
            asked=self._asked,
            sums=self._sums,
            linear=linear,
            low=low,
            high=high,
            channel=self._sums.channels,
            allowed=self._decider._allowed,
        )
        try:
            if not found.is_as_it_ran():
                raise UndecidedError("worked out element by element, it gives other levels than it gave")
            tally = found.decide(trial.rounding)
        except UndecidedError as error:
            shown = trial.search(chain(trial.drawn(), self._ends()))
            return Decision("accumulators", why=str(error), proved="its contraction", shown=shown, trial=trial)
        trial = replace(trial, allowed=found.most_allowed)
        shown = trial.search(chain(self._at(found, tally), trial.drawn())) if tally.excess > 0 else None
        schemes = tuple(found.schemes())
        return Decision(
            "accumulators", tally, schemes, shown=shown, trial=trial, chance=linear.chance, requantization=found
        )

    def _saturated(self, linear: contraction.LinearMap) -> contraction.LinearMap | None:
        """Return another map that is as good: where all that either can reach becomes one level, and the same one.

        None where that is not so.
        """
        elements, (low, high) = linear.differs, (one.reshape(-1) for one in self._sums.extremes())
        interval, trial = self._lift.intervals[self._root], self._trial
        ends = torch.stack([interval.low.reshape(-1), interval.high.reshape(-1)], 1).long()
        after = Elements(trial.segment, self._values, [self._root])
        on_ends = OnVectors({self._root: lambda at: ends[at]}, after, strict=True)
        try:
            signs = after.fold(trial.segment.target, elements, Turning(after))
            got = after.fold(trial.segment.target, elements, on_ends).long()
        except UndecidedError:
            return None
        due = torch.tensor([[self._due(at, int(one[at])) for one in (low, high)] for at in elements.tolist()])
        if bool((signs < 0).any()) or not bool((torch.cat([got, due], 1) == got[:, :1]).all()):
            return None
        shift = linear.shift.clone()
        shift[elements] = ends[self._places[elements], 0] - low[elements].long()
        factor, divisor = linear.factor.clone(), linear.divisor.clone()
        factor[elements] = divisor[elements] = 1
        return replace(linear, factor=factor, divisor=divisor, shift=shift, differs=elements[:0])

    def _due(self, element: int, accumulated: int) -> int:
        """Return the level that is due for a sum."""
        channel = int(self._sums.channels[element])
        scale, point = self._asked.output
        first, last = self._asked.range(self._trial.rounding)
        steps = (self._sums.units[channel] * accumulated + self._sums.offsets[channel]) / scale
        return max(first, min(last, self._trial.rounding.whole(steps, point) + point))

    def compared(self) -> contraction.LinearMap:
        """Compare the accumulators with the sums that are asked for.

        Raises:
            UndecidedError: they cannot be.

        """
        points = {one.source: 0 if one.grid.is_runtime else self._asked.point(one) for one in self._asked.activations}
        if self._asked.is_dynamic:
            points = {node: self._point(some) for node, some in self._trial.cuts.items()}
        return contraction.compare(self._lift, self._sums, self._places, points)

    def _point(self, cuts: Sequence[Value]) -> int:
        """Return the zero point of this run, where it is found at run time: the level whose sums are none."""
        return 0

    @cached_property
    def _seen(self) -> tuple[Value, torch.Tensor]:
        segment = self._trial.segment
        dynamic = self._asked.is_dynamic
        found = provenance(segment, self._values, self._asked.main.name, is_dynamic=dynamic)
        root = found.root(self._values)
        if root is None:
            raise UndecidedError("it has no one accumulator")
        return root

    @property
    def _root(self) -> Value:
        return self._seen[0]

    @property
    def _places(self) -> torch.Tensor:
        return self._seen[1]

    @cached_property
    def _lift(self) -> Lift:
        trial = self._trial
        segment = Segment.between(trial.segment.trace, trial.segment.cuts, self._root)
        bounds = {node: self._asked.bounds(node) for node in trial.cuts}
        return Lift(segment, self._values, trial.cuts, bounds)

    def _ends(self) -> Iterator[dict[Node, torch.Tensor]]:
        channels = self._sums.channels
        elements = [int((channels == channel).nonzero()[0]) for channel in channels.unique().tolist()]
        yield from Aim(self._trial, self._sums).ends(elements)

    def _around(self, elements: Sequence[int]) -> Iterator[dict[Node, torch.Tensor]]:
        """Aim at boundaries that the sums of some elements can reach."""
        aim = Aim(self._trial, self._sums)
        low, high = (one.reshape(-1) for one in self._sums.extremes())
        scale, point = self._asked.output
        first, last = self._asked.range(self._trial.rounding)
        for element in elements[:_AROUND]:
            channel = int(self._sums.channels[element])
            unit, offset = self._sums.units[channel], self._sums.offsets[channel]
            begins = (
                math.ceil((scale * (2 * (level - point) - 1) / 2 - offset) / unit)
                for level in range(first + 1, last + 1)
            )
            within = [begin for begin in begins if int(low[element]) < begin <= int(high[element])]
            yield from aim.around(element, self._lift, within[:: max(1, len(within) // _AROUND)])

    def _at(self, found: Requantization, tally: Tally) -> Iterator[dict[Node, torch.Tensor]]:
        """Aim at accumulators that are wrong."""
        aim = Aim(self._trial, self._sums)
        for example in tally.examples:
            (accumulator,) = example.given
            sum_ = (
                (accumulator - int(found.linear.shift[example.element]))
                * int(found.linear.divisor[example.element])
                // int(found.linear.factor[example.element])
            )
            levels = aim.at(example.element, sum_)
            if levels is not None:
                yield levels
