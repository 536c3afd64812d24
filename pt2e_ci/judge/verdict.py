"""From two programs and their inputs to one outcome, with what was measured on the way."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from msgspec import structs
from torch.utils._pytree import tree_map

from pt2e_ci.judge.alignment import frontier
from pt2e_ci.judge.conduct import Caller, in_training
from pt2e_ci.judge.cost import costs
from pt2e_ci.judge.digest import Digest
from pt2e_ci.judge.evidence import gather
from pt2e_ci.judge.exactness import Exactness, Given
from pt2e_ci.judge.listing import listing
from pt2e_ci.judge.numerics import Comparison
from pt2e_ci.judge.observation import Observation, Observed, Observer
from pt2e_ci.judge.rules import Findings, decide
from pt2e_ci.operators.names import name_of
from pt2e_ci.operators.row import Kind
from pt2e_ci.operators.rows import kind_of
from pt2e_ci.program.segments import Reading, module_of, source_of
from pt2e_ci.program.trace import Trace, laid_out_like, run, shapes_in, tensors_in, trace, trace_call
from pt2e_ci.record import records
from pt2e_ci.record.criteria import DEFAULT
from pt2e_ci.record.outcomes import Outcome, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from torch.fx import GraphModule, Node

    from pt2e_ci.exact.schemes import Rounding
    from pt2e_ci.judge.alignment import Alignment
    from pt2e_ci.judge.exactness import Measured
    from pt2e_ci.program.float_model import FloatModel
    from pt2e_ci.program.oracle import Sample
    from pt2e_ci.program.segments import Grid, QuantizedOperator
    from pt2e_ci.program.trace import Run, Value
    from pt2e_ci.record.criteria import Criteria

# Levels are known by their values on so many runs.
_ALIGNED_ON = 3
# What is among the inputs where programs are looked at outside of the reals: reported, and judged in no case but those
# that are about it.
_DOMAINS: dict[Literal["infinite", "nan"], tuple[float, ...]] = {"infinite": (math.inf, -math.inf), "nan": (math.nan,)}


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
        left: the operators of the Q/DQ program that were annotated and do not compute on integers.
        outputs: what the Q/DQ program and the reference program gave on the first input set.
        reading: the Q/DQ program, read.
        samples: what engines are held against.

    """

    case: records.Case
    left: tuple[Observed, ...]
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
    model: FloatModel | None = None,
    rounding: Rounding | None = None,
    keeps_samples: bool = True,
) -> Judgement:
    """Run both programs on every input set, and judge the reference program's operators on their own operands.

    Args:
        qdq: the Q/DQ program.
        reference: the reference program.
        inputs: what both are run on; the first is what the Q/DQ program was calibrated on.
        criteria: what the reference program is held to.
        model: the float model that the Q/DQ program was made of; None where that is not known.
        rounding: the scheme of the exact result, in place of that of the criteria.
        keeps_samples: whether engines are held against what is measured here.

    Raises what a program raises, and `ProgramError`.

    """
    pair = _Pair(qdq, reference, inputs, rounding or criteria.rounding, keeps_samples=keeps_samples)
    found = pair.measure(criteria, model)
    outcome, reason, notes = decide(found)
    reading, exactness, observation = pair.reading, found.exactness, found.observation
    case = records.Case(
        name="",
        family="",
        outcome=outcome,
        reason=reason,
        notes=notes,
        stage=Stage.JUDGE if outcome is Outcome.ERROR else None,
        structure=_structure(pair, observation),
        operators=_operators(pair, exactness, observation, found.evidence),
        unquantized=[_unquantized(one) for one in reading.unquantized],
        costs=pair.costs[1],
        numerics=records.Numerics(
            reference_vs_qdq=found.comparison.record(),
            reference_vs_exact=exactness.reference.record(),
            qdq_vs_exact=exactness.qdq.record(),
        ),
        exact=exactness.record(),
        deterministic=found.conduct.is_deterministic,
        digest=pair.digest.value(),
        programs=records.Programs(
            qdq=listing(pair.qdq, _marks_of_qdq(reading, pair.qdq)),
            reference=listing(pair.interpreted, observation.marks if found.conduct.is_its_graph else {}),
        ),
    )
    return Judgement(case, tuple(observation.left), pair.outputs, reading, exactness.samples)


class _Pair:
    """Both programs, side by side on one input set after another."""

    def __init__(
        self,
        qdq: GraphModule,
        reference: GraphModule,
        inputs: Sequence[InputSet],
        rounding: Rounding,
        *,
        keeps_samples: bool,
    ) -> None:
        self._keeps_samples = keeps_samples
        first = inputs[0].tensors
        self.reading = Reading(qdq)
        self.qdq, self.interpreted = trace(qdq, first), trace(reference, first)
        self.called = trace_call(reference, first)
        _check_outputs(self.qdq, self.called)
        self.digest = Digest()
        self.outputs: tuple[list[Any], list[Any]] = ([], [])
        self.domains: dict[Node, dict[Literal["infinite", "nan"], float]] = defaultdict(dict)
        self.costs: tuple[dict[Node, records.Cost], list[records.Cost | None]] = ({}, [])
        self._inputs, self._rounding = inputs, rounding
        self._grids = [self.reading.output_grid(node) for node in self.reading.outputs]
        self._frontiers = frontier(self.qdq), frontier(self.called)
        self._traces = {(id(one), _shapes(first)): one for one in (self.qdq, self.called)}

    def measure(self, criteria: Criteria, model: FloatModel | None) -> Findings:
        """Run both programs on every input set."""
        caller = Caller(self.called, self.interpreted)
        comparison = Comparison()
        given = (self.reading, self.qdq, self.called, self._rounding, criteria)
        exactness = Exactness(*given, keeps_samples=self._keeps_samples)
        chosen = [self._inputs[0], *self._inputs[1:][1 - _ALIGNED_ON :]]
        keep = [*exactness.keep_of_qdq, *(node for grid in self._grids if grid for node in grid.nodes)]
        # One run's tensors are what is decided on. Of the others those are kept that are compared.
        wanted = self._compared(has_floats=bool(exactness.results))
        runs = {id(one): self._run(one, caller, keep, None if one is chosen[0] else wanted) for one in chosen}
        exactness.align([*runs.values()])
        first = runs[id(chosen[0])]
        if model is not None:
            self.costs = costs(model.graph, self.reading, first.inputs, first.qdq, first.steps)
        if exactness.alignment is not None:
            self._look_beyond(exactness.alignment)
        observation = Observer(self.reading, self.called, first.values, exactness.alignment).observe()
        evidence = self._decide(exactness.alignment, first, observation, criteria)
        for value in first.values.keys() - wanted:
            del first.values[value]
        for one in self._inputs:
            run = runs.pop(id(one), None) or self._run(one, caller, keep, wanted)
            for a, b, step in zip(run.outputs, run.qdq.outputs, run.steps, strict=True):
                if isinstance(b, torch.Tensor):
                    comparison.add(a, b, step)
            exactness.add(run)
            self._digest(one, run)
            self.outputs = self.outputs if any(self.outputs) else (run.qdq.outputs, [*run.outputs])
        for one in self._inputs[1:2]:
            if _shapes(one.tensors) == _shapes(self._inputs[0].tensors):
                caller.hold_trace(one.tensors)
        conduct = caller.finish(self.qdq, is_integer=not observation.left)
        conduct.keeps[:0] = _kept(self.called, self.qdq)
        if any(before in self.qdq.inputs for step in self.qdq.steps for before, _ in step.written):
            conduct.writes_inputs = False  # as the model does
        return Findings(
            criteria=criteria,
            reading=self.reading,
            observation=observation,
            comparison=comparison,
            exactness=exactness,
            evidence=evidence,
            conduct=conduct,
            model=model,
            training=in_training(self.reading.program),
            qdq_left=(_qdq_in(self.qdq), _qdq_in(self.called)),
            dtypes=_other_dtypes(self.qdq, self.called),
        )

    def _decide(
        self, alignment: Alignment | None, first: Given, observation: Observation, criteria: Criteria
    ) -> dict[Node, records.Evidence]:
        """Decide each operator for all its inputs; what looks at values on the way cannot be."""
        if alignment is None or self.called.branches or self.called.exits:
            return {}
        given = (self.reading, self.called, first.values, alignment)
        left = {one.operator.node: f"{one.verdict}: {one.why}" for one in observation.left}
        return gather(*given, first.inputs, left, criteria, self._rounding)

    def _look_beyond(self, alignment: Alignment) -> None:
        """Compare levels where inputs have infinities, or NaN."""
        given = self._inputs[0].tensors
        for name, values in _DOMAINS.items():
            inputs = tree_map(partial(_strewn, values), [*given])
            if not any(tensor.is_floating_point() for tensor in tensors_in(inputs)):
                return
            qdq = _kept_or_none(self.qdq, inputs, alignment.levels)
            if qdq is None:
                continue
            try:
                reference = self.called.replay(tensors_in(inputs), keep={*alignment.levels.values()})
            except Exception:  # where the Q/DQ program gives something: all of it is something else
                self._note_domain(name, dict.fromkeys(alignment.levels, 1.0))
                continue
            differ = {node: qdq[node].long() != reference[value].long() for node, value in alignment.levels.items()}
            shares = {node: float(one.double().mean()) if one.numel() else 0.0 for node, one in differ.items()}
            self._note_domain(name, shares)

    def _note_domain(self, name: Literal["infinite", "nan"], shares: Mapping[Node, float]) -> None:
        for node, share in shares.items():
            self.domains[node][name] = share

    def _run(self, one: InputSet, caller: Caller, keep: Sequence[Node], wanted: Collection[Value] | None) -> Given:
        """Run both programs: the reference program as it is called, and as its trace is replayed."""
        qdq = run(self.reading.program, one.tensors, keep, self.qdq)
        outputs = caller(one.tensors)
        line = self._line(self.called, trace_call, one.tensors)
        if not _is_same_line(line, self.called):
            caller.conduct.branches.append("other operators run on other shapes")
        values = line.replay(tensors_in(one.tensors), keep=wanted)
        caller.hold_replay(outputs, values)
        steps = [_steps(grid, qdq, b) for grid, b in zip(self._grids, qdq.outputs, strict=True)]
        return Given(one.tensors, qdq, outputs, values, steps)

    def _line(self, first: Trace, how: Callable[[GraphModule, Sequence[Any]], Trace], inputs: Sequence[Any]) -> Trace:
        """Return the trace of a program on inputs of these shapes: not the first one where a dimension is dynamic."""
        place = id(first), _shapes(inputs)
        if place not in self._traces:
            self._traces[place] = how(first.program, inputs)
        return self._traces[place]

    def _compared(self, *, has_floats: bool) -> set[Value]:
        """Return the reference program's tensors that may be an operator's levels, or its result, and its outputs."""
        found = {value for value, info in self.called.info.items() if has_floats or info.is_integer}
        return found.union(value for value in self.called.output_values if value is not None)

    def _digest(self, one: InputSet, run: Given) -> None:
        line = self._line(self.qdq, trace, one.tensors)
        levels = self._frontiers[0] if _is_same_line(line, self.qdq) else []
        qdq = line.replay(tensors_in(one.tensors), keep=levels) if levels else {}
        for name, values, wanted in (("qdq", qdq, levels), ("reference", run.values, self._frontiers[1])):
            self.digest.add(f"{one.label}/{name}", (values[value] for value in wanted))


def _is_same_line(one: Trace, other: Trace) -> bool:
    return [step.target for step in one.steps] == [step.target for step in other.steps]


def _kept_or_none(program: Trace, inputs: Sequence[Any], keep: Iterable[Node]) -> dict[Node, Any] | None:
    try:
        return run(program.program, inputs, keep, program).kept
    except Exception:  # some find no scale for a NaN, and say so
        return None


def _strewn(values: tuple[float, ...], leaf: Any) -> Any:
    """Put values into every third element of a float tensor."""
    if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
        return leaf
    strewn = leaf.detach().clone().contiguous()
    for index, value in enumerate(values):
        strewn.view(-1)[3 * index :: 3 * len(values)] = value
    return laid_out_like(strewn, leaf)


def _shapes(inputs: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(shapes_in(inputs))


def _kept(reference: Trace, qdq: Trace) -> list[str]:
    """Name what a run of the reference program changes of its own, where the Q/DQ program does not."""
    fresh = {value for step in reference.steps if name_of(step.target) == "lift_fresh" for value in step.takes}
    own = reference.constants.keys() - fresh  # a literal is made again by each run
    is_written = any(before in own for step in reference.steps for before, _ in step.written)
    changed = max(_memories(reference), int(is_written))
    return [f"{changed} of its tensors"] if changed > _memories(qdq) else []


def _memories(found: Trace) -> int:
    """Count the memories that a run changes: a program may have several names for one."""
    return len({tensor.untyped_storage().data_ptr() for tensor in found.state})


def _qdq_in(found: Trace) -> list[str]:
    """Name the quantize and dequantize operators that the outputs depend on."""
    return [
        name_of(step.target)
        for step in found.steps
        if kind_of(step.target) is Kind.QDQ and any(value in found.live for value in step.gives)
    ]


def _marks_of_qdq(reading: Reading, found: Trace) -> dict[int, str]:
    """Mark what computes in the Q/DQ program, which is in float."""
    nodes = {item.node for item in reading.computes}
    return {place: "float" for call in found.calls if call.node in nodes for place in range(call.first, call.end)}


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


def _structure(pair: _Pair, observation: Observation) -> records.Structure:
    total, left = len(observation.operators), len(observation.left)
    return records.Structure(
        integer=total - left,
        in_float=left,
        coverage=(total - left) / total if total else None,
        rewrites=None,
        float_operators=dict(sorted(observation.names_left.items())),
        qdq=len(_qdq_in(pair.called)),
        outputs=[_describe(output) for output in pair.called.outputs],
        annotated_by="quantizer" if pair.reading.by_quantizer else "neighbours",
    )


def _operators(
    pair: _Pair, exactness: Exactness, observation: Observation, evidence: Mapping[Node, records.Evidence]
) -> list[records.Operator]:
    """Return an entry for each quantized operator, in order, whether it ends in levels or stays float."""
    reading = pair.reading
    quantized = {one.node: one for one in reading.operators}
    observed = {one.operator.node: one for one in observation.operators}
    order = {node: position for position, node in enumerate(reading.items)}
    found: list[tuple[int, records.Operator]] = []
    for one in reading.levels:
        node, measured = one.quantize.node, exactness.levels[one.quantize.node]
        own = one.before.node if one.before else node
        entry = _entry(one.name, own, node.name, quantized.get(own), observed.get(own))
        grid = one.quantize.grid
        numbers = {"qdq": measured.qdq.distance(), "reference": measured.distance(), "cost": pair.costs[0].get(node)}
        numbers["through"] = measured.through.distance()
        known = {"evidence": _known(evidence.get(node), measured)}
        used = {"used": len(measured.used), "available": grid.high - grid.low + 1} if measured.used else {}
        found.append(
            (order[node], structs.replace(entry, **numbers, **used, **known, domains=pair.domains.get(node, {})))
        )
    ended = {one.before.node for one in reading.levels if one.before}
    for operator in reading.operators:
        if operator.node not in ended:
            entry = _entry(operator.name, operator.node, None, operator, observed.get(operator.node))
            if operator.node in exactness.results:
                result = exactness.results[operator.node]
                known = {"evidence": _known(evidence.get(operator.node), result)}
                entry = structs.replace(entry, reference=result.distance(), **known)
            found.append((order[operator.node], entry))
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0])]


def _known(evidence: records.Evidence | None, measured: Measured) -> records.Evidence:
    """Return what is known of an operator: where nothing was decided, on how many values it was compared."""
    compared = measured.reference.compared
    if evidence is None:
        why = "what it does was looked at out of sight, or it was not found"
        return records.Evidence(kind=records.Kind.TESTED, domain="samples", values=compared, why=why)
    return evidence if evidence.values else structs.replace(evidence, values=compared)


def _entry(
    name: str, node: Node, levels: str | None, operator: QuantizedOperator | None, observed: Observed | None
) -> records.Operator:
    """Return an operator's record without what is measured."""
    is_input = operator is None and name == "input"
    return records.Operator(
        name=name,
        node=node.name,
        levels=levels,
        module=None if is_input else module_of(node),
        source=None if is_input else source_of(node),
        # What the program is given is quantized because the quantizer says so of what takes it.
        annotated=operator.annotated if operator else is_input,
        verdict=observed.verdict if observed else None,
        why=observed.why if observed else None,
        arithmetic=observed.arithmetic if observed else None,
    )


def _unquantized(operator: QuantizedOperator) -> records.Unquantized:
    names = ", ".join(operator.in_float)
    return records.Unquantized(
        name=operator.name,
        node=operator.node.name,
        module=operator.module,
        source=operator.source,
        why=f"annotated, but {names} stays in float" if operator.annotated and names else None,
    )


def _check_outputs(expected: Trace, actual: Trace) -> None:
    if actual.layout != expected.layout:
        raise ProgramError(f"gives {actual.layout}, where the Q/DQ program gives {expected.layout}")
    for index, (a, b) in enumerate(zip(actual.outputs, expected.outputs, strict=True)):
        both = isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
        if a.shape != b.shape if both else type(a) is not type(b) or a != b:
            raise ProgramError(f"output {index} is {_describe(a)}, where the Q/DQ program gives {_describe(b)}")


def _other_dtypes(expected: Trace, actual: Trace) -> list[str]:
    """Say which outputs are of another dtype than the Q/DQ program's, or of a class of their own."""
    return [
        f"output {index} is {_describe(a)}, where the Q/DQ program gives {_describe(b)}"
        for index, (a, b) in enumerate(zip(actual.outputs, expected.outputs, strict=True))
        if isinstance(b, torch.Tensor) and (a.dtype != b.dtype or type(a) is not type(b))
    ]


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return repr(value)
