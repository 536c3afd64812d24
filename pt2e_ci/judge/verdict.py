"""From two programs and their inputs to one outcome, with what was measured on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.judge.alignment import integer_frontier
from pt2e_ci.judge.digest import Digest
from pt2e_ci.judge.exactness import Exactness
from pt2e_ci.judge.listing import listing
from pt2e_ci.judge.numerics import Comparison
from pt2e_ci.judge.rules import Findings, decide
from pt2e_ci.judge.structure import Operator, Structure, left_float, read_structure
from pt2e_ci.program.segments import Reading
from pt2e_ci.program.trace import Run, Trace, run, tensors_in, trace
from pt2e_ci.record import records
from pt2e_ci.record.criteria import DEFAULT
from pt2e_ci.record.outcomes import Outcome, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import GraphModule, Node

    from pt2e_ci.program.oracle import Sample
    from pt2e_ci.program.segments import Grid
    from pt2e_ci.record.criteria import Criteria


@dataclass(frozen=True)
class InputSet:
    """One call's worth of inputs."""

    label: str
    tensors: tuple[Any, ...]


@dataclass(frozen=True)
class Judgement:
    """The verdict on a pair of programs.

    Attributes:
        case: an outcome, the reason where it is not a plain pass, and what was measured; the case has no name yet.
        left: the operators of the Q/DQ program that were annotated and stayed float.
        outputs: what the Q/DQ program and the reference program gave on the first input set.
        reading: the Q/DQ program, read.
        samples: what engines are held against.

    """

    case: records.Case
    left: tuple[Operator, ...]
    outputs: tuple[list[Any], list[Any]]
    reading: Reading
    samples: list[Sample]


class ProgramError(Exception):
    """The reference program ran, and gave what cannot be compared with the Q/DQ program's outputs."""


def judge(
    qdq: GraphModule,
    reference: GraphModule,
    inputs: Sequence[InputSet],
    criteria: Criteria = DEFAULT,
    *,
    rounding: Rounding = Rounding.HALF_EVEN,
) -> Judgement:
    """Run both programs on every input set, and compare them with each other and with the exact result.

    Raises what a program raises, and `ProgramError`.
    """
    pair = _Pair(qdq, reference, inputs, rounding)
    for given in inputs:
        pair.add(given)
    exactness, structures, traces = pair.exactness, pair.structures, pair.traces
    measured = (pair.comparison, exactness)
    keeps_state = len(traces[1].state) > len(traces[0].state)
    seen = (pair.deterministic, keeps_state, _takes_one_way(traces[1], inputs))
    outcome, reason = decide(Findings(criteria, *structures, *measured, *seen))
    case = records.Case(
        name="",
        family="",
        outcome=outcome,
        reason=reason,
        stage=Stage.JUDGE if outcome is Outcome.ERROR else None,
        structure=_record(structures[1], traces[1], pair.reading),
        operators=exactness.operators(),
        numerics=records.Numerics(
            reference_vs_qdq=pair.comparison.record(),
            reference_vs_exact=exactness.reference.record(),
            qdq_vs_exact=exactness.qdq.record(),
        ),
        exact=exactness.record(),
        deterministic=pair.deterministic,
        digest=pair.digest.value(),
        programs=records.Programs(qdq=listing(traces[0], structures[0]), reference=listing(traces[1], structures[1])),
    )
    return Judgement(case, left_float(*structures), pair.outputs, pair.reading, exactness.samples)


@dataclass
class _Side:
    """One of the two programs: its trace, and the nodes whose values are wanted of each run."""

    trace: Trace
    levels: list[Node] = field(default_factory=list)

    def run(self, given: InputSet, keep: Sequence[Node]) -> Run:
        return run(self.trace.program, given.tensors, keep, self.trace)


class _Pair:
    """Both programs, side by side on one input set after another."""

    def __init__(
        self, qdq: GraphModule, reference: GraphModule, inputs: Sequence[InputSet], rounding: Rounding
    ) -> None:
        self.traces = trace(qdq, inputs[0].tensors), trace(reference, inputs[0].tensors)
        _check_outputs(*self.traces)
        self.reading = Reading(qdq)
        self.structures = (
            read_structure(self.traces[0], self.reading.annotated),
            read_structure(self.traces[1]),
        )
        self.comparison, self.digest, self.deterministic = Comparison(), Digest(), True
        self.exactness = Exactness(self.reading, self.traces[1], rounding)
        self.outputs: tuple[list[Any], list[Any]] = ([], [])
        self._sides = [_Side(one, integer_frontier(one)) for one in self.traces]
        self._grids = [self.reading.output_grid(node) for node in self.reading.outputs]
        scales = [node for grid in self._grids if grid for node in grid.nodes]
        self._keep = [*self._sides[0].levels, *scales, *self.exactness.keep_of_qdq]

    def add(self, given: InputSet) -> None:
        """Run both programs on one input set, twice: a program must not depend on what ran before."""
        qdq, reference = self._sides
        expected = qdq.run(given, self._keep)
        actual = reference.run(given, [*reference.levels, *self.exactness.keep_of_reference])
        self.outputs = self.outputs if any(self.outputs) else (expected.outputs, actual.outputs)
        steps = [_steps(grid, expected, b) for grid, b in zip(self._grids, expected.outputs, strict=True)]
        for a, b, step in zip(actual.outputs, expected.outputs, steps, strict=True):
            if isinstance(b, torch.Tensor):
                self.comparison.add(a, b, step)
        self.exactness.add(given.tensors, expected, actual, steps)
        for name, once, side in (("qdq", expected, qdq), ("reference", actual, reference)):
            self.digest.add(f"{given.label}/{name}", (once.kept[node] for node in side.levels))
        for once, side, keep in ((expected, qdq, self._keep), (actual, reference, reference.levels)):
            self.deterministic = self.deterministic and _same(once, side.run(given, keep))


def _takes_one_way(first: Trace, inputs: Sequence[InputSet]) -> bool:
    """Tell whether other inputs take the same way through a program, and the line of the first gives what it gives.

    A program that branches on values, or that makes a part of its result out of sight, does not.
    """
    for given in inputs[1:2]:
        second = trace(first.program, given.tensors)
        if second.line != first.line:
            return False
        again = first.replay(tensors_in(given.tensors))
        pairs = zip(first.output_values, second.outputs, strict=True)
        return _alike([leaf if value is None else again[value] for value, leaf in pairs], second.outputs)
    return True


def _steps(grid: Grid | None, qdq: Run, output: Any) -> float | torch.Tensor | None:
    """Return the step of an output's grid as a number, or as a float64 tensor that broadcasts against it."""
    if grid is None:
        return None
    if isinstance(grid.scales, tuple):
        scale = torch.tensor(grid.scales, dtype=torch.float64)
    else:
        scale = torch.as_tensor(qdq.kept[grid.scales]).to(torch.float64)
    if grid.axis is None:
        return float(scale.reshape(()))
    shape = [1] * output.dim()
    shape[grid.axis] = -1
    return scale.reshape(shape)


def _record(structure: Structure, reference: Trace, reading: Reading) -> records.Structure:
    return records.Structure(
        integer=structure.integer,
        in_float=sum(structure.in_float.values()),
        coverage=structure.coverage,
        rewrites=None,
        float_operators=dict(sorted(structure.in_float.items())),
        qdq=len(structure.qdq),
        # Upstream's dynamic linear gives float64, for its scale is one: no wrong number, but worth a look.
        outputs=[_describe(output) for output in reference.outputs],
        annotated_by="quantizer" if reading.by_quantizer else "neighbours",
    )


def _check_outputs(expected: Trace, actual: Trace) -> None:
    if actual.layout != expected.layout:
        raise ProgramError(f"gives {actual.layout}, where the Q/DQ program gives {expected.layout}")
    for index, (a, b) in enumerate(zip(actual.outputs, expected.outputs, strict=True)):
        both = isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
        if a.shape != b.shape if both else type(a) is not type(b) or a != b:
            raise ProgramError(f"output {index} is {_describe(a)}, where the Q/DQ program gives {_describe(b)}")


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return repr(value)


def _same(once: Run, again: Run) -> bool:
    """Tell whether two runs gave the same outputs and levels."""
    return _alike(once.outputs, again.outputs) and _alike(
        [once.kept[node] for node in again.kept], [*again.kept.values()]
    )


def _alike(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Tell whether values are the same, bit by bit, NaN for NaN."""
    return all(
        bool(((a == b) | ((a != a) & (b != b))).all()) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(some, others, strict=True)
    )
