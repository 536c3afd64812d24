"""From a model to a verdict: the flow's stages, in order, and a case taken through them."""

from __future__ import annotations

import dataclasses
import time
import traceback
from contextlib import nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from msgspec.structs import replace
from torch.fx import GraphModule

from pt2e_ci.catalogue.inputs import build_model, input_sets
from pt2e_ci.catalogue.seed_rule import seed_check
from pt2e_ci.errors import InputError, one_line
from pt2e_ci.flow.capture import dynamic_batch, export
from pt2e_ci.flow.nearest import nearest
from pt2e_ci.flow.quantizers import Ahead
from pt2e_ci.flow.representation import apply, apply_upstream
from pt2e_ci.judge.conduct import in_training
from pt2e_ci.judge.verdict import judge
from pt2e_ci.measuring import measure
from pt2e_ci.plugins import load
from pt2e_ci.program.float_model import FloatModel, check_shapes
from pt2e_ci.program.segments import FROM_QUANTIZER
from pt2e_ci.record.outcomes import Outcome, Stage
from pt2e_ci.record.reasons import reason
from pt2e_ci.record.records import Case as CaseRecord
from pt2e_ci.record.records import Near

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from torch import nn

    from pt2e_ci.catalogue.cases import Case, SeedRule
    from pt2e_ci.exact.schemes import Rounding
    from pt2e_ci.flow.homes import Home
    from pt2e_ci.flow.patterns import PatternGraphs
    from pt2e_ci.flow.representation import Reference, Representation
    from pt2e_ci.judge.observation import Observed
    from pt2e_ci.judge.verdict import InputSet, Judgement
    from pt2e_ci.record.criteria import Criteria

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Flow:
    """How models are taken through PT2E.

    Attributes:
        home: the home of the flow.
        representation: makes the reference program; None for upstream's own.
        patterns: keeps upstream's pattern graphs from one model to the next.
        rounding: the scheme of the exact result, in place of that of a case's criteria.
        quantizer: makes the quantizer, in place of a case's.
        criteria: what cases are held to in place of their own, by a pattern of their names, but for what they are
            about; of several that match the last one counts.
        engines: whose kernels are measured beside.

    """

    home: Home
    representation: Representation | None = None
    patterns: PatternGraphs | None = None
    rounding: Rounding | None = None
    engines: Sequence[str] = ()
    quantizer: Callable[[], Any] | None = None
    criteria: Mapping[str, Criteria] = field(default_factory=dict)

    def convert(
        self,
        model: Callable[[], nn.Module],
        inputs: tuple[Any, ...],
        quantizer: Callable[[], Any],
        shapes: Any = None,
        *,
        is_captured: bool = False,
        calibration: Sequence[tuple[Any, ...]] = (),
        training: Callable[[GraphModule], Any] | None = None,
    ) -> Generator[Stage, None, Converted]:
        """Yield each stage as it begins; return the Q/DQ program of a model.

        Args:
            model: makes it; what it makes is used up.
            inputs: it is exported with these.
            quantizer: makes the quantizer.
            shapes: dynamic shapes, as `torch.export.export` takes them.
            is_captured: whether what it makes is a captured graph already.
            calibration: the calls that observers see; `inputs` where there are none.
            training: trains the prepared program, in place of a calibration.

        """
        yield Stage.PREPARE if is_captured else Stage.EXPORT
        chosen = quantizer()
        if isinstance(chosen, Ahead):
            return Converted(export(chosen.quantize(model()), inputs, shapes), None)
        made = model()
        graph = made if is_captured and isinstance(made, GraphModule) else export(made, inputs, shapes)
        if training is not None:
            return (yield from self._train(graph, chosen, training))
        if names := in_training(graph):  # which upstream would take for training that is over, for a minute
            raise TrainingModeError(names)
        return (yield from self._quantize(graph, chosen, calibration or [inputs]))

    def _quantize(
        self, graph: GraphModule, quantizer: Any, calibration: Sequence[tuple[Any, ...]]
    ) -> Generator[Stage, None, Converted]:
        """Yield the stages from a captured graph, which is used up, to its Q/DQ program."""
        yield Stage.PREPARE
        float_model = FloatModel.of(graph)
        prepared = self.home.prepare(graph, quantizer)
        yield Stage.CALIBRATE
        with torch.no_grad():
            for inputs in calibration:
                float_model.calibrate(prepared, inputs)
        made = yield from self.finish(prepared, float_model)
        float_model.hold_writes(made.qdq)
        return made

    def _train(
        self, graph: GraphModule, quantizer: Any, training: Callable[[GraphModule], Any]
    ) -> Generator[Stage, None, Converted]:
        """Yield the same stages where a captured graph is prepared for training, and trained by a function."""
        yield Stage.PREPARE
        prepared = self.home.prepare(graph, quantizer, qat=True)
        yield Stage.CALIBRATE
        training(prepared)
        self.home.evaluate(prepared)
        return (yield from self.finish(prepared, None))

    def finish(self, prepared: GraphModule, float_model: FloatModel | None) -> Generator[Stage, None, Converted]:
        """Yield the last stage: from a calibrated program, which is used up, to its Q/DQ program."""
        yield Stage.CONVERT
        with self.patterns.serve(prepared) if self.patterns else nullcontext():
            qdq = self.home.convert(prepared)
        qdq.meta[FROM_QUANTIZER] = True
        return Converted(qdq, float_model)

    def represent(self, qdq: GraphModule) -> Reference:
        """Return the reference program of a Q/DQ program, which stays as it is."""
        # A representation of the user's own may change the program, and then call upstream's.
        with self.patterns.serve(None if self.representation else qdq) if self.patterns else nullcontext():
            return apply(self.representation, qdq) if self.representation else apply_upstream(self.home, qdq)

    def judge(
        self,
        converted: Generator[Stage, None, Converted],
        inputs: Sequence[InputSet],
        criteria: Criteria,
        *,
        is_dynamic: bool = False,
        reference: Reference | None = None,
    ) -> Generator[Stage, None, Judged]:
        """Yield each stage of a conversion, and of what follows; return the verdict.

        The reference program may be given; it is made otherwise.

        Raises:
            InputError: an input set has other shapes than the first, and they are not dynamic.

        """
        if not is_dynamic and (wrong := check_shapes([one.tensors for one in inputs])):
            raise InputError(wrong)
        made = yield from converted
        reference = reference or self.represent(made.qdq)
        yield Stage.RUN
        judgement = judge(
            made.qdq,
            reference.program,
            inputs,
            criteria,
            model=made.model,
            rounding=self.rounding,
            keeps_samples=bool(self.engines),
        )
        return Judged(made.qdq, reference, judgement)


@dataclass(frozen=True)
class Converted:
    """A Q/DQ program, and the float model that it was made of; None where it was quantized ahead."""

    qdq: GraphModule
    model: FloatModel | None


@dataclass(frozen=True)
class Judged:
    """Both programs, and the verdict."""

    qdq: GraphModule
    reference: Reference
    judgement: Judgement


class TrainingModeError(InputError):
    """A model works as in training where none was asked for; the reason says by which operators."""

    def __init__(self, names: Sequence[str]) -> None:
        self.reason = reason("PQ040", names=", ".join(names))
        super().__init__(self.reason.text)


class StageError(Exception):
    """A stage raised; the cause is what."""

    def __init__(self, stage: Stage | None) -> None:
        super().__init__(stage)
        self.stage = stage


@dataclass
class Clock:
    """Goes through stages, and notes what each takes.

    Attributes:
        enter: called as each stage begins, so that it is known even if the process dies in it.
        seconds: what each stage took.

    """

    enter: Callable[[Stage], None] = lambda stage: None
    seconds: dict[str, float] = field(default_factory=dict)

    def follow(self, stages: Generator[Stage, None, _Result]) -> _Result:
        """Run stages to their end, and return what they return.

        Raises:
            StageError: one of them raised.

        """
        stage: Stage | None = None
        while True:
            started = time.perf_counter()
            try:
                following = next(stages)
            except StopIteration as end:
                result: _Result = end.value
                return result
            except (Exception, SystemExit) as error:
                raise StageError(stage) from error
            finally:
                if stage is not None:
                    self.seconds[stage.value] = round(time.perf_counter() - started, 6)
            stage = following
            self.enter(stage)


def converted(case: Case, flow: Flow, seed: int, inputs: Sequence[InputSet]) -> Generator[Stage, None, Converted]:
    """Yield the stages of a case's conversion, calibrated on the first of its input sets."""
    quantizer = flow.quantizer or load("quantizers", case.quantizer.value)
    first = inputs[0].tensors
    return flow.convert(
        lambda: build_model(case, seed), first, quantizer, dynamic_batch(first) if case.dynamic_batch else None
    )


def run_case(
    case: Case, flow: Flow, seed: int, enter: Callable[[Stage], None] = lambda stage: None
) -> tuple[CaseRecord, str | None]:
    """Take a case through the flow and judge it; return its record, and the traceback if a stage raised."""
    clock = Clock(enter)
    try:
        sets = input_sets(case, seed)
        stages = converted(case, flow, seed, sets)
        judged = clock.follow(flow.judge(stages, sets, _criteria(case, flow), is_dynamic=case.dynamic_batch))
    except StageError as error:
        return failed(case.name, case.family, error, clock), "".join(traceback.format_exception(error.__cause__))
    return record_of(judged, case.name, case.family, clock, flow.engines, case.seed_rule), None


def _criteria(case: Case, flow: Flow) -> Criteria:
    """Return what a case is held to; what it claims, and which operators it is about, are its own."""
    found = [criteria for pattern, criteria in flow.criteria.items() if fnmatchcase(case.name, pattern)]
    if not found:
        return case.criteria
    return dataclasses.replace(found[-1], claims=case.criteria.claims, annotated=case.criteria.annotated)


def failed(name: str, family: str, error: StageError, clock: Clock) -> CaseRecord:
    """Return the record of a case of which a stage raised."""
    cause = error.__cause__
    known = cause.reason if isinstance(cause, TrainingModeError) else None
    return CaseRecord(
        name=name,
        family=family,
        outcome=Outcome.ERROR,
        stage=error.stage,
        reason=known or reason("PQ043", error=one_line(cause)),
        seconds=clock.seconds,
    )


def record_of(
    judged: Judged, name: str, family: str, clock: Clock, engines: Sequence[str] = (), rule: SeedRule | None = None
) -> CaseRecord:
    """Return the record of a verdict, with what is told of it beside: by engines, and by upstream's own rule."""
    found, qdq, reference = judged.judgement, judged.qdq, judged.reference
    started = time.perf_counter()
    measured = measure(qdq, found.reading, found.samples, engines)
    clock.seconds["engines"] = round(time.perf_counter() - started, 6)
    structure = found.case.structure
    if structure is not None:
        rewrites = None if reference.rewrites is None else dict(sorted(reference.rewrites.items()))
        structure = replace(structure, rewrites=rewrites, nearest=_nearest(qdq, found.left, reference))
    return replace(
        found.case,
        name=name,
        family=family,
        structure=structure,
        engines=measured,
        seed_check=seed_check(rule, qdq, reference.program, found.outputs) if rule else None,
        seconds=clock.seconds,
    )


def _nearest(qdq: GraphModule, left: Iterable[Observed], reference: Reference) -> list[Near]:
    """Say of each operator that no rewrite took which of upstream's patterns comes nearest to it."""
    nodes = {node.name: node for node in qdq.graph.nodes}
    alone = [one.operator for one in left if one.operator.node.name not in reference.rewritten]
    found = [(operator, nearest(qdq, nodes[operator.node.name], reference.patterns)) for operator in alone]
    return [Near(operator=operator.name, node=operator.node.name, **vars(one)) for operator, one in found if one]
