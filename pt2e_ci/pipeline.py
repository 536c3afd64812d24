"""From a model to a verdict: the flow's stages, in order, and a case taken through them."""

from __future__ import annotations

import time
import traceback
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from msgspec.structs import replace

from pt2e_ci.catalogue.inputs import build_model, input_sets
from pt2e_ci.catalogue.seed_rule import seed_check
from pt2e_ci.errors import InputError, one_line
from pt2e_ci.flow.capture import export
from pt2e_ci.flow.nearest import nearest
from pt2e_ci.flow.quantizers import Ahead
from pt2e_ci.flow.representation import apply, apply_upstream
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
    from collections.abc import Callable, Generator, Iterable, Sequence

    from torch import nn
    from torch.fx import GraphModule

    from pt2e_ci.catalogue.cases import Case
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
        engines: whose kernels are measured beside.

    """

    home: Home
    representation: Representation | None = None
    patterns: PatternGraphs | None = None
    rounding: Rounding | None = None
    engines: Sequence[str] = ()

    def convert(
        self,
        model: Callable[[], nn.Module],
        inputs: tuple[Any, ...],
        quantizer: Callable[[], Any],
        *,
        dynamic_batch: bool = False,
    ) -> Generator[Stage, None, Converted]:
        """Yield each stage as it begins; return the Q/DQ program of a model, calibrated on `inputs`."""
        yield Stage.EXPORT
        chosen = quantizer()
        if isinstance(chosen, Ahead):
            return Converted(export(chosen.quantize(model()), inputs), None)
        graph = export(model(), inputs, dynamic_batch=dynamic_batch)
        yield Stage.PREPARE
        float_model = FloatModel.of(graph)
        prepared = self.home.prepare(graph, chosen)
        yield Stage.CALIBRATE
        with torch.no_grad():
            float_model.calibrate(prepared, inputs)
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
        dynamic_batch: bool = False,
    ) -> Generator[Stage, None, Judged]:
        """Yield each stage of a conversion, and of what follows; return the verdict.

        Raises:
            InputError: an input set has other shapes than the first, and they are not dynamic.

        """
        if not dynamic_batch and (wrong := check_shapes([one.tensors for one in inputs])):
            raise InputError(wrong)
        made = yield from converted
        reference = self.represent(made.qdq)
        yield Stage.RUN
        judgement = judge(made.qdq, reference.program, inputs, criteria, model=made.model, rounding=self.rounding)
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
    quantizer = load("quantizers", case.quantizer.value)
    shapes = {"dynamic_batch": case.dynamic_batch}
    return flow.convert(lambda: build_model(case, seed), inputs[0].tensors, quantizer, **shapes)


def run_case(
    case: Case, flow: Flow, seed: int, enter: Callable[[Stage], None] = lambda stage: None
) -> tuple[CaseRecord, str | None]:
    """Take a case through the flow and judge it; return its record, and the traceback if a stage raised."""
    clock = Clock(enter)
    try:
        sets = input_sets(case, seed)
        stages = converted(case, flow, seed, sets)
        judged = clock.follow(flow.judge(stages, sets, case.criteria, dynamic_batch=case.dynamic_batch))
    except StageError as error:
        cause = error.__cause__
        record = CaseRecord(
            name=case.name,
            family=case.family,
            outcome=Outcome.ERROR,
            stage=error.stage,
            reason=reason("PQ043", error=one_line(cause)),
            seconds=clock.seconds,
        )
        return record, "".join(traceback.format_exception(cause))
    found, qdq, reference = judged.judgement, judged.qdq, judged.reference
    started = time.perf_counter()
    engines = measure(qdq, found.reading, found.samples, flow.engines)
    clock.seconds["engines"] = round(time.perf_counter() - started, 6)
    rule, structure = case.seed_rule, found.case.structure
    if structure is not None:
        rewrites = None if reference.rewrites is None else dict(sorted(reference.rewrites.items()))
        structure = replace(structure, rewrites=rewrites, nearest=_nearest(qdq, found.left, reference))
    return replace(
        found.case,
        name=case.name,
        family=case.family,
        structure=structure,
        engines=engines,
        seed_check=seed_check(rule, qdq, reference.program, found.outputs) if rule else None,
        seconds=clock.seconds,
    ), None


def _nearest(qdq: GraphModule, left: Iterable[Observed], reference: Reference) -> list[Near]:
    """Say of each operator that no rewrite took which of upstream's patterns comes nearest to it."""
    nodes = {node.name: node for node in qdq.graph.nodes}
    alone = [one.operator for one in left if one.operator.node.name not in reference.rewritten]
    found = [(operator, nearest(qdq, nodes[operator.node.name], reference.patterns)) for operator in alone]
    return [Near(operator=operator.name, node=operator.node.name, **vars(one)) for operator, one in found if one]
