"""How far the two programs are from the truth, end to end and operator by operator."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.checks.dataflow import dependents
from pt2e_ci.checks.delegate import Delegate
from pt2e_ci.checks.kernels import Kernels
from pt2e_ci.checks.numerics import Comparison
from pt2e_ci.checks.recording import TensorInfo
from pt2e_ci.errors import one_line
from pt2e_ci.exact.oracle import Exact, quantize_nodes, run_exactly, runtime_nodes
from pt2e_ci.exact.rounding import Rounding
from pt2e_ci.operators import Kind, call_of, kind_of, name_of, named_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch.fx import GraphModule, Node

    from pt2e_ci.checks.grids import Grid
    from pt2e_ci.checks.recording import Recording

# Levels of the reference program are known by their values: those of another operator are further off than this.
_SAME_OPERATOR = 16.0


@dataclass
class _Operator:
    """What was measured of the operator before one quantize node.

    `own` is against what it should have made of the operands that it had, `through` against the exact program.
    """

    name: str
    qdq_own: Comparison = field(default_factory=Comparison)
    qdq_through: Comparison = field(default_factory=Comparison)
    reference_own: Comparison = field(default_factory=Comparison)
    reference_through: Comparison = field(default_factory=Comparison)


class Exactness:
    """Collects the differences of a Q/DQ program and a reference program from the exact result.

    Attributes:
        reference: of the reference program's outputs, end to end.
        qdq: of the Q/DQ program's outputs, end to end.
        approximated: operators that have no exact form.
        unavailable: why there is no exact result, if there is none.
        seconds: what the exact result took, kernels and all, and what the kernels took of it.

    """

    def __init__(
        self,
        qdq: GraphModule,
        reference: GraphModule,
        recording: Recording,
        rounding: Rounding = Rounding.HALF_EVEN,
        engines: Sequence[str] = (),
    ) -> None:
        self.reference, self.qdq = Comparison(), Comparison()
        self.approximated: list[str] = []
        self.unavailable: str | None = None
        self._program = qdq
        self._rounding = rounding
        self._runtime = runtime_nodes(qdq)
        self._operators = {node: _Operator(operator_before(node)) for node in quantize_nodes(qdq)}
        depends = dependents(reference)
        self._candidates = [
            node
            for node, info in recording.tensors.items()
            if isinstance(info, TensorInfo) and info.is_integer and node in depends
        ]
        self._aligned: dict[Node, Node] | None = None
        self._kernels = Kernels(qdq, engines)
        self._delegate: Delegate | None = None
        self._wants_delegate = "executorch" in engines
        self.seconds: dict[str, float] = {}

    @property
    def keep_of_qdq(self) -> list[Node]:
        """The nodes of the Q/DQ program whose values `add` needs."""
        return [*self._operators, *self._runtime]

    @property
    def keep_of_reference(self) -> list[Node]:
        """The nodes of the reference program whose values `add` needs."""
        return self._candidates if self._aligned is None else [*self._aligned.values()]

    def add(
        self, inputs: Sequence[torch.Tensor], qdq: Recording, reference: Recording, grids: Sequence[Grid | None]
    ) -> None:
        """Take in what both programs gave on one input set. What real arithmetic makes of NaN is not defined."""
        if self.unavailable or any(bool(tensor.isnan().any()) for tensor in inputs):
            return
        with self._clock("exact"):
            self._add(inputs, qdq, reference, grids)

    def _add(
        self, inputs: Sequence[torch.Tensor], qdq: Recording, reference: Recording, grids: Sequence[Grid | None]
    ) -> None:
        try:
            exact = self._run(inputs, qdq, None)
        except Exception as error:  # a program that is no plain Q/DQ program, as another quantizer may give
            self.unavailable = one_line(error)
            return
        self.approximated = [*dict.fromkeys((*self.approximated, *exact.approximated))]
        for a, b, truth, grid in zip(reference.outputs, qdq.outputs, exact.outputs, grids, strict=True):
            if isinstance(b, torch.Tensor):
                step = grid.steps(qdq, b) if grid else None
                self.reference.add(a, truth, step)
                self.qdq.add(b, truth, step)
        if self._aligned is None:
            self._aligned = _align(exact.levels, self._candidates, reference.kept)
        qdq_levels = {node: qdq.kept[node] for node in self._operators}
        reference_levels = {node: reference.kept[other] for node, other in self._aligned.items()}
        own = self._compare(inputs, qdq, exact, qdq_levels, "qdq")
        self._compare(inputs, qdq, exact, reference_levels, "reference")
        with self._clock("kernels"):
            self._kernels.add(qdq.kept, own.levels)
            if self._wants_delegate:
                self._delegate = self._delegate or Delegate(self._program, inputs)
                steps = [grid.steps(qdq, b) if grid else None for grid, b in zip(grids, qdq.outputs, strict=True)]
                self._delegate.add(inputs, exact.outputs, steps)

    def engines(self) -> dict[str, Any]:
        """Return the report's fields of the machine's engines, which ran the same operators on the same levels."""
        with self._clock("kernels"):
            found = self._kernels.record()
        if self._delegate is not None:
            found["executorch"] = self._delegate.record()
        return found

    def record(self) -> dict[str, Any]:
        """Return the report's fields: of each operator, in order, and what could not be computed exactly."""
        return {
            "rounding": self._rounding.value,
            "unavailable": self.unavailable,
            "approximated": self.approximated,
            "reference_starts_at": self._start("reference", self.reference),
            "qdq_starts_at": self._start("qdq", self.qdq),
            "operators": [
                {
                    "operator": operator.name,
                    "node": node.name,
                    "qdq": _brief(operator.qdq_own),
                    "reference": _brief(operator.reference_own),
                }
                for node, operator in self._operators.items()
            ],
        }

    @contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def _run(self, inputs: Sequence[torch.Tensor], qdq: Recording, operands: Mapping[Node, Any] | None) -> Exact:
        runtime = {node: qdq.kept[node] for node in self._runtime}
        return run_exactly(self._program, inputs, runtime=runtime, operands=operands, rounding=self._rounding)

    def _compare(
        self, inputs: Sequence[torch.Tensor], qdq: Recording, exact: Exact, levels: Mapping[Node, Any], which: str
    ) -> Exact:
        """Compare levels with the exact ones, and with what their own operands should have given; return the latter."""
        same = all(bool((exact.levels[node] == found).all()) for node, found in levels.items())
        # The same levels everywhere are the same operands, too.
        own = exact if same else self._run(inputs, qdq, levels)
        for node, found in levels.items():
            operator = self._operators[node]
            getattr(operator, f"{which}_own").add(found.double(), own.levels[node].double(), 1.0)
            getattr(operator, f"{which}_through").add(found.double(), exact.levels[node].double(), 1.0)
        return own

    def _start(self, which: str, whole: Comparison) -> str | None:
        """Name the first operator whose levels differ from the exact program's."""
        unseen = None
        for node, operator in self._operators.items():
            through: Comparison = getattr(operator, f"{which}_through")
            if through.max_lsb:
                return f"{operator.name} ({node.name})"
            if not through.compared:
                unseen = unseen or f"{operator.name} ({node.name})"
        return unseen if whole.max_lsb else None


def operator_before(node: Node) -> str:
    """Name the operator whose result a quantize node takes; ``input`` for one that the program is given."""
    name, node = "input", node.all_input_nodes[0]
    while node.op in ("call_function", "call_method"):
        kind = kind_of(call_of(node)[0])
        if kind is Kind.QDQ:
            break
        if kind is not Kind.NEUTRAL:
            name = name_of(call_of(node)[0])
        if kind not in (Kind.NEUTRAL, Kind.ACTIVATION) or not node.all_input_nodes:
            break
        node = node.all_input_nodes[0]
    return name


def _align(
    exact: Mapping[Node, torch.Tensor], candidates: Sequence[Node], kept: Mapping[Node, Any]
) -> dict[Node, Node]:
    """Find the reference program's levels for each quantize node: of the same shape, and the nearest values.

    Of several as near, the one of the quantize node's own dtype, and the last: the others come before a clamp.
    """
    found: dict[Node, Node] = {}
    for node, levels in exact.items():
        dtype = named_arguments(node).get("dtype")
        ranked = [
            (float((kept[other] - levels).abs().double().mean()), kept[other].dtype != dtype, -position, other)
            for position, other in enumerate(candidates)
            if kept[other].shape == levels.shape and levels.numel() and not kept[other].is_quantized
        ]
        distance, _, _, nearest = min(ranked, default=(math.inf, None, 0, None), key=lambda one: one[:3])
        if nearest is not None and distance <= _SAME_OPERATOR:
            found[node] = nearest
    return found


def _brief(comparison: Comparison) -> dict[str, Any] | None:
    if not comparison.compared:
        return None
    numbers = comparison.record()
    return {"max": numbers["max"], "mean": numbers["mean"], "differing": numbers["differing"]}
