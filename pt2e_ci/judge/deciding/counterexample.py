"""From a value that is wrong to levels of the operands that show it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.judge.deciding.replay import Replay
from pt2e_ci.judge.deciding.tally import displacement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch.fx import Node

    from pt2e_ci.exact.schemes import Rounding
    from pt2e_ci.judge.deciding.contraction import Lift
    from pt2e_ci.judge.deciding.specification import Accumulators, Specification
    from pt2e_ci.judge.provenance import Segment
    from pt2e_ci.program.trace import Value

_DRAWN = 8
_AIMED = 32
_ATTEMPTS = 20
_EFFORT = 20_000


@dataclass(frozen=True)
class Shown:
    """Levels of the operands on which an operator is wrong.

    Attributes:
        levels: of each operand, by source.
        element: the place in the flattened result.
        got, due: its level, and the exact one.
        displacement: how far beyond its boundary the exact value is, in LSB.

    """

    levels: Mapping[Node, torch.Tensor]
    element: int
    got: int
    due: int
    displacement: float


@dataclass(frozen=True)
class Trial:
    """An operator of the reference program, to be tried on levels.

    Attributes:
        segment: from its operands' levels to its own.
        values: all tensors of a run.
        asked: what is asked for.
        cuts: the tensors that have the levels of each operand.
        rounding: the scheme.
        allowed: the displacement that is allowed for the arithmetic, in LSB.

    """

    segment: Segment
    values: Mapping[Value, torch.Tensor]
    asked: Specification
    cuts: Mapping[Node, Sequence[Value]]
    rounding: Rounding
    allowed: float

    @property
    def shapes(self) -> dict[Node, tuple[int, ...]]:
        """The shapes of the operands, by source."""
        return {node: self.segment.trace.info[some[0]].shape for node, some in self.cuts.items()}

    @cached_property
    def _run(self) -> Replay:
        return Replay(self.segment, self.values, [value for some in self.cuts.values() for value in some])

    def on(self, levels: Mapping[Node, torch.Tensor]) -> Shown | None:
        """Return what is wrong on these levels, by more than is allowed; None where nothing is."""
        return self.held(levels, self._run({value: levels[node] for node, some in self.cuts.items() for value in some}))

    def held(self, levels: Mapping[Node, torch.Tensor], found: torch.Tensor) -> Shown | None:
        """Hold the program's levels against those that are due."""
        real = self.asked.real(levels)
        due, got = self.asked.rounded(real, self.rounding).reshape(-1), found.reshape(-1).long()
        differ = got != due
        if not bool(differ.any()):
            return None
        steps = self.asked.steps(real)[differ]
        a, b = got[differ], due[differ]
        far = displacement(a.double(), b.double(), steps, self.rounding.turn)
        worst = int(far.argmax())
        if not float(far[worst]) > self.allowed:
            return None
        element = int(differ.nonzero().flatten()[worst])
        return Shown(levels, element, int(a[worst]), int(b[worst]), float(far[worst]))

    def search(self, tries: Iterator[dict[Node, torch.Tensor]]) -> Shown | None:
        """Return the first of some levels that shows something, or None."""
        return next((found for levels in tries if (found := self.on(levels)) is not None), None)

    def drawn(self) -> Iterator[dict[Node, torch.Tensor]]:
        """Yield levels at random, and all at their ends."""
        generator = torch.Generator()
        generator.seed()
        bounds = {node: self.asked.bounds(node) for node in self.cuts}
        for _ in range(_DRAWN):
            yield {
                node: torch.randint(bounds[node][0], bounds[node][1] + 1, shape, generator=generator)
                for node, shape in self.shapes.items()
            }
        for sides in range(1 << min(len(bounds), 4)):
            yield {
                node: torch.full(shape, bounds[node][(sides >> index) & 1])
                for index, (node, shape) in enumerate(self.shapes.items())
            }


class Aim:
    """Finds levels of a contraction's operands that give an element a sum that is wanted."""

    def __init__(self, trial: Trial, sums: Accumulators) -> None:
        self._trial, self._sums = trial, sums
        self._points = {one.source: trial.asked.point(one) for one in trial.asked.activations}

    def ends(self, elements: Sequence[int]) -> Iterator[dict[Node, torch.Tensor]]:
        """Yield the levels that give elements their least and largest sums."""
        for element in elements[:_AIMED]:
            levels, weights = self._weights(element)
            source = self._trial.asked.sources[0]
            low, high = self._trial.asked.bounds(source)
            for sign in (1, -1):
                yield levels | {source: torch.where(weights * sign > 0, high, low)}

    def at(self, element: int, wanted: int) -> dict[Node, torch.Tensor] | None:
        """Return levels that give an element a sum; None where none was found."""
        levels, weights = self._weights(element)
        source = self._trial.asked.sources[0]
        low, high = (bound - self._points[source] for bound in self._trial.asked.bounds(source))
        found = reached(weights.reshape(-1).tolist(), low, high, wanted)
        if found is None:
            return None
        shaped = torch.tensor(found).reshape(weights.shape) + self._points[source]
        return levels | {source: shaped}

    def around(self, element: int, lift: Lift, begins: Sequence[int]) -> Iterator[dict[Node, torch.Tensor]]:
        """Yield levels where another map of them lies on the other side of a boundary.

        Args:
            element: an element whose accumulator is another map.
            lift: the program's.
            begins: the sums that levels begin at.

        """
        levels, weights = self._weights(element)
        source = self._trial.asked.sources[0]
        own = _gradient(lambda x: lift.run({**_floats(levels), source: x}), levels[source], element)
        scale = _ratio(own, weights)
        apart = (own - weights * scale).reshape(-1)
        low, high = (bound - self._points[source] for bound in self._trial.asked.bounds(source))
        for place in apart.abs().argsort(descending=True)[:4].tolist():
            for end in (high, low):
                moved = int(apart[place]) * end
                for wanted in [begin - max(moved, 0) for begin in begins if moved][:_AIMED]:
                    flat = [int(one) for one in weights.reshape(-1).tolist()]
                    rest = wanted - flat[place] * end
                    others = [0 if index == place else one for index, one in enumerate(flat)]
                    found = reached(others, low, high, rest, abs(moved) - 1)
                    if found is not None:
                        found[place] = end
                        shaped = torch.tensor(found).reshape(weights.shape) + self._points[source]
                        yield levels | {source: shaped}

    def _weights(self, element: int) -> tuple[dict[Node, torch.Tensor], torch.Tensor]:
        """Return levels of all operands, and what one more of each of the first adds to an element's sum."""
        levels = {}
        for index, (node, shape) in enumerate(self._trial.shapes.items()):
            point = self._points[node]
            levels[node] = torch.full(shape, point)
            if index:  # of a product of two: as much as there is, and one that is 1
                flat = torch.full(shape, self._trial.asked.bounds(node)[1])
                flat.reshape(-1)[::2] = min(point + 1, self._trial.asked.bounds(node)[1])
                levels[node] = flat
        centred = {node: one.double() - self._points[node] for node, one in levels.items()}
        source = self._trial.asked.sources[0]
        weights = _gradient(lambda x: self._sums.sums({**centred, source: x}), centred[source], element)
        return levels, weights.round()


def reached(weights: Sequence[float], low: int, high: int, wanted: int, slack: int = 0) -> list[int] | None:
    """Return whole numbers from `low` to `high` whose sum, weighted, is what is wanted, or up to `slack` more.

    None where none were found.
    They begin at random, the heaviest are moved first, and the two lightest are tried in all ways.
    """
    whole = [int(weight) for weight in weights]
    order = sorted((index for index, weight in enumerate(whole) if weight), key=lambda at: -abs(whole[at]))
    generator = random.Random()  # noqa: S311 - no secret
    for attempt in range(max(1, min(_ATTEMPTS, _EFFORT // max(len(whole), 1)))):
        found = [generator.randint(low, high) if attempt else min(max(0, low), high) for _ in whole]
        rest = wanted + slack // 2 - sum(weight * one for weight, one in zip(whole, found, strict=True))
        for index in order:
            moved = max(low, min(high, found[index] + round(rest / whole[index])))
            rest -= (moved - found[index]) * whole[index]
            found[index] = moved
        if rest - slack // 2 <= 0 <= rest + slack - slack // 2 or _settled(whole, found, order[-2:], (low, high), rest):
            return found
    return None


def _settled(weights: list[int], found: list[int], last: list[int], bounds: tuple[int, int], rest: int) -> bool:
    """Move two numbers so that nothing is left, if that can be."""
    if len(last) < 2:
        return False
    (first, second), (low, high) = last, bounds
    rest += weights[first] * found[first] + weights[second] * found[second]
    for one in range(low, high + 1):
        other, left = divmod(rest - weights[first] * one, weights[second])
        if not left and low <= other <= high:
            found[first], found[second] = one, other
            return True
    return False


def _gradient(function: Any, at: torch.Tensor, element: int) -> torch.Tensor:
    with torch.enable_grad():
        x = at.double().clone().requires_grad_()
        (found,) = torch.autograd.grad(function(x).reshape(-1)[element], x)
    return found


def _ratio(own: torch.Tensor, weights: torch.Tensor) -> float:
    """Return by what most of the one are multiples of the other."""
    known = weights != 0
    return float((own[known] / weights[known]).median()) if bool(known.any()) else 1.0


def _floats(levels: Mapping[Node, torch.Tensor]) -> dict[Node, torch.Tensor]:
    return {node: one.double() for node, one in levels.items()}
