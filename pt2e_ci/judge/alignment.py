"""Which tensors of a reference program are levels: those of each quantize node, and those before each output."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from pt2e_ci.judge.provenance import Segment
from pt2e_ci.operators.names import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch.fx import Node

    from pt2e_ci.program.segments import Levels, Reading
    from pt2e_ci.program.trace import Trace, Value

# In whose place others of so many LSB further off, in the mean, may be taken where it is read around.
_NEAR = 16.0
_NARROW = (torch.int8, torch.uint8, torch.int16)
# What may leave levels as they are: then both tensors are the same levels.
_KEEPING = frozenset("_to_copy to clamp clone copy view _unsafe_view detach alias lift_fresh add sub".split())


def frontier(trace: Trace) -> list[Value]:
    """Return the last integer tensors before each output: its levels, where the output lies on a grid.

    Constants are left out: they do not depend on the inputs.
    """
    seen: set[Value] = set()
    found: set[Value] = set()
    waiting = [value for value in trace.output_values if value is not None]
    while waiting:
        value = waiting.pop()
        if value in seen or value not in trace.depends:
            continue
        seen.add(value)
        if trace.info[value].is_integer:
            found.add(value)
        elif value in trace.maker:
            step = trace.steps[trace.maker[value]]
            waiting += [*step.takes, *(before for before, _ in step.written)]
    return sorted(found, key=lambda value: value.index)


class Alignment:
    """Finds a reference program's tensors for what a Q/DQ program works out.

    Attributes:
        levels: the tensor of each quantize node's levels.
        results: the float tensor of each operator whose result is not quantized.

    """

    def __init__(self, reading: Reading, trace: Trace, runs: Sequence[Mapping[Value, torch.Tensor]]) -> None:
        """Take in the runs of the trace on the inputs that tensors are compared on."""
        self.levels: dict[Node, Value] = {}
        self.results: dict[Node, Value] = {}
        self._reading, self._trace, self._runs = reading, trace, runs
        self._given = dict(zip(reading.inputs, trace.inputs, strict=False))
        self._ancestors = _ancestors(trace)
        computed = [value for step in trace.steps if not step.is_inside for value in step.gives]
        live = [value for value in dict.fromkeys(computed) if value in trace.depends and value in trace.live]
        given = [value for value in trace.inputs if trace.info[value].is_integer]
        self._integers = [*given, *(value for value in live if trace.info[value].is_integer)]
        self._floats = [value for value in live if trace.info[value].dtype.is_floating_point]
        self._bools = [value for value in live if trace.info[value].dtype is torch.bool]
        self._dtypes = {one.quantize.node: one.quantize.grid.dtype for one in reading.levels}
        self._same = self._kept_levels()

    def align(self, exact: Sequence[Mapping[Node, torch.Tensor]]) -> None:
        """Find the levels of each quantize node: in order, of its shape, descending from its operands' levels.

        Of those through which all that comes after reads, the nearest in value to the exact ones; of several as near,
        one of the node's dtype, and the first.
        """
        choices: dict[Node, list[Value]] = {}
        for one in self._reading.levels:
            node = one.quantize.node
            choices[node] = self._candidates(one, exact[0][node].shape)
            if choices[node]:
                self.levels[node] = self._nearest(node, choices[node], [given[node] for given in exact])
        self._separate(choices, exact)

    def find(self, node: Node, exact: Sequence[torch.Tensor], before: Iterable[Node]) -> None:
        """Find the tensor of an operator's result in float: the nearest of its shape that descends from these levels.

        None is taken where none is near: within a thousandth of the largest.
        """
        pool = self._bools if exact[0].dtype is torch.bool else self._floats
        bits = [self._bits(one) for one in before if one in self.levels]
        finite = (one.double()[one.double().isfinite()] for one in exact)
        size = max((float(one.abs().max()) for one in finite if one.numel()), default=0.0)
        ranked = [
            (self._distance(value, exact), value.index, value)
            for value in pool
            if self._trace.info[value].shape == tuple(exact[0].shape)
            and all(self._ancestors[value] & bit for bit in bits)
        ]
        distance, _, found = min(ranked, default=(1.0, 0, None), key=lambda one: one[:2])
        if found is not None and distance <= size * 1e-3:
            self.results[node] = found

    def cuts(self, nodes: Iterable[Node]) -> list[Value]:
        """Return the levels that were found of quantize nodes."""
        return [self.levels[node] for node in nodes if node in self.levels]

    def alike(self, node: Node, target: Value | None = None) -> list[Value]:
        """Return the tensors that have the levels of a quantize node, but for `target` and its copies.

        Each consumer may quantize for itself. What is worked out from the levels is something else, though it may be
        equal, as what a pooling of one element gives.
        """
        if node not in self.levels:
            return []
        found = self.levels[node]
        others = [
            value
            for value in self._of_shape(self._trace.info[found].shape)
            if value != found
            and self._trace.origins.get(value) == self._trace.origins.get(found)
            and (target is None or self._same[value] != self._same.get(target))
            and (self._same[value] == self._same[found] or self._is_twin(value, found))
        ]
        return [found, *others]

    def _is_twin(self, value: Value, found: Value) -> bool:
        """Tell whether a tensor has another's levels, and neither is worked out from the other.

        Twice a number has its levels too, on a grid of twice the step.
        """
        pairs = ((value, self._same[found]), (found, self._same[value]))
        related = any(self._ancestors[one] & 1 << other.index for one, other in pairs)
        return not related and all(_equal(run[value], run[found]) for run in self._runs)

    def _of_shape(self, shape: tuple[int, ...]) -> list[Value]:
        return self._by_shape.get(shape, [])

    @cached_property
    def _by_shape(self) -> dict[tuple[int, ...], list[Value]]:
        found: dict[tuple[int, ...], list[Value]] = defaultdict(list)
        for value in self._integers:
            found[self._trace.info[value].shape].append(value)
        return found

    def behind(self, node: Node) -> set[Value]:
        """Return all tensors that what has the levels of a quantize node is worked out from."""
        bits = 0
        for one in self.alike(node):
            bits |= self._ancestors[one] & ~(1 << one.index)
        return {value for value in self._ancestors if bits >> value.index & 1}

    def _candidates(self, one: Levels, shape: torch.Size) -> list[Value]:
        before = [node for node in self._reading.levels_before(one.quantize.node) if node in self.levels]
        taken = {self._same[self.levels[node]] for node in before}
        bits = [self._bits(node) for node in before]
        given = frozenset(self._given[node] for node in self._made_of[one.quantize.source] if node in self._given)
        return [
            value
            for value in self._of_shape(tuple(shape))
            if self._same[value] not in taken
            and all(self._ancestors[value] & bit for bit in bits)
            # What the program is given is told apart by what it is.
            and (before or not given or self._trace.origins.get(value) == given)
        ]

    @cached_property
    def _made_of(self) -> dict[Node, frozenset[Node]]:
        """What the program is given that each of its nodes is made of."""
        found: dict[Node, frozenset[Node]] = {}
        for node in self._reading.program.graph.nodes:
            own = [node] if node.op == "placeholder" else []
            found[node] = frozenset(own).union(*(found[one] for one in node.all_input_nodes))
        return found

    def _bits(self, node: Node) -> int:
        """Return the bits of all tensors that have the levels of a quantize node."""
        return sum(1 << value.index for value in self.alike(node))

    def _nearest(self, node: Node, values: Iterable[Value], exact: Sequence[torch.Tensor]) -> Value:
        """Return the nearest of some tensors to the levels of a quantize node."""
        # What a part of one run is off by is the least that all can be: most are far from it.
        bounds = sorted((_least(self._runs[0][value], exact[0]), value.index, value) for value in values)
        ranked: list[tuple[tuple[float, bool, int], Value]] = []
        for bound, _, value in bounds:
            if ranked and bound > ranked[0][0][0]:
                break
            ranked = [min([*ranked, (self._rank(node, value, exact), value)], key=lambda one: one[0])]
        return ranked[0][1]

    def _near(self, node: Node, values: Iterable[Value], exact: Sequence[torch.Tensor]) -> list[Value]:
        """Return those of some tensors that are hardly further off than the nearest, the nearest first."""
        ranks = {value: self._rank(node, value, exact) for value in values}
        ranked = sorted(ranks, key=lambda value: ranks[value])
        return [value for value in ranked if ranks[value][0] <= ranks[ranked[0]][0] + _NEAR * len(self._runs)]

    def _rank(self, node: Node, value: Value, exact: Sequence[torch.Tensor]) -> tuple[float, bool, int]:
        return self._distance(value, exact), self._trace.info[value].dtype != self._dtypes[node], value.index

    def _distance(self, value: Value, exact: Sequence[torch.Tensor]) -> float:
        pairs = [(run[value], one) for run, one in zip(self._runs, exact, strict=True) if one.numel()]
        return sum(_apart(found, one) for found, one in pairs)

    def _kept_levels(self) -> dict[Value, Value]:
        """Return for each integer tensor the first that has the same levels, and of which it is no more than a copy."""
        same = {value: value for value in self._trace.inputs}
        for value in self._integers:
            same[value] = value
            if value not in self._trace.maker:
                continue
            step = self._trace.steps[self._trace.maker[value]]
            sources = [one for one in step.takes if one in same]
            if name_of(step.target) not in _KEEPING or len(sources) != 1:
                continue
            (source,) = sources
            if self._trace.info[source].shape == self._trace.info[value].shape and all(
                _equal(run[source], run[value]) for run in self._runs
            ):
                same[value] = same[source]
        return same

    def _separate(self, choices: Mapping[Node, Sequence[Value]], exact: Sequence[Mapping[Node, torch.Tensor]]) -> None:
        """Where what comes after reads around levels, take the nearest others that it does not read around."""
        for one in self._reading.levels:
            operands = [node for node in self._reading.levels_before(one.quantize.node) if node in self.levels]
            if one.quantize.node in self.levels and operands:
                self._settle(self.levels[one.quantize.node], operands, choices, exact)
        for value, node in zip(self._trace.output_values, self._reading.outputs, strict=True):
            operands = [one for one in self._reading.levels_before(node) if one in self.levels] if node else []
            if value is not None and operands:
                self._settle(value, operands, choices, exact)

    def _settle(
        self,
        target: Value,
        operands: Sequence[Node],
        choices: Mapping[Node, Sequence[Value]],
        exact: Sequence[Mapping[Node, torch.Tensor]],
    ) -> None:
        def around() -> int:
            return len(Segment.between(self._trace, self.cuts(operands), target).inputs)

        least = around()
        for node in operands:
            for other in self._near(node, choices[node], [given[node] for given in exact]) if least else ():
                kept, self.levels[node] = self.levels[node], other
                if (now := around()) < least and other != target:
                    least = now
                    break
                self.levels[node] = kept


def _equal(some: torch.Tensor, others: torch.Tensor) -> bool:
    """Tell whether tensors hold the same integers, of whatever dtypes."""
    if some.dtype != others.dtype:
        some, others = some.to(torch.int64), others.to(torch.int64)
    return torch.equal(some, others)


def _apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the mean difference; infinities of a sign, and NaN, are alike."""
    if not any(one.is_floating_point() or one.dtype is torch.bool for one in (found, wanted)):
        wanted = wanted if found.dtype in _NARROW else wanted.to(torch.int64)  # of 32 bits, a difference needs 33
        return float((found - wanted).abs_().sum(dtype=torch.float64)) / wanted.numel()
    found, wanted = found.to(torch.float64), wanted.to(torch.float64)
    same = (found == wanted) | (found.isnan() & wanted.isnan())
    return float((found - wanted).abs().masked_fill(same, 0.0).nan_to_num(torch.inf).mean())


def _least(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return what the mean difference is at least, by an eighth of the elements."""
    dimension = next((index for index, length in enumerate(wanted.shape) if length > 1), None)
    if dimension is None or not wanted.numel():
        return 0.0
    found, part = (one.narrow(dimension, 0, -(-one.shape[dimension] // 8)) for one in (found, wanted))
    return _apart(found, part) * part.numel() / wanted.numel()


def _ancestors(trace: Trace) -> dict[Value, int]:
    """Return what each tensor is worked out from, as the bits of a number: bit `n` is the tensor of index `n`."""
    found = {value: 1 << value.index for value in (*trace.inputs, *trace.constants)}
    for step in trace.steps:
        bits = 0
        for value in step.reads:
            bits |= found.get(value, 0)
        for value in step.gives:
            found[value] = bits | 1 << value.index
    return found
