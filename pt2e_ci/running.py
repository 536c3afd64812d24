"""From a case to a result: the flow's stages, timed, with an exception kept as the outcome of its stage."""

from __future__ import annotations

import time
import traceback
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.cases.inputs import build_model, input_sets
from pt2e_ci.checks.judge import judge
from pt2e_ci.errors import one_line
from pt2e_ci.exact.rounding import Rounding
from pt2e_ci.flows.exporting import export
from pt2e_ci.flows.nearest import nearest
from pt2e_ci.flows.representation import apply, apply_upstream
from pt2e_ci.outcomes import Outcome, Result, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch.fx import GraphModule

    from pt2e_ci.cases.catalogue import Case
    from pt2e_ci.checks.structure import Operator
    from pt2e_ci.flows.homes import Home
    from pt2e_ci.flows.patterns import PatternGraphs
    from pt2e_ci.flows.representation import Reference, Representation


def qdq_program(
    case: Case, home: Home, seed: int, inputs: tuple[torch.Tensor, ...], patterns: PatternGraphs | None = None
) -> GraphModule:
    """Return a case's Q/DQ program, calibrated on `inputs`: what `run_case` does in stages, which it times apart."""
    graph = export(home.quantize_ahead(build_model(case, seed), case.scheme), inputs)
    prepared = home.prepare(graph, home.quantizer(case.scheme))
    with torch.no_grad():
        prepared(*inputs)
    with patterns.serve(prepared) if patterns else nullcontext():
        return home.convert(prepared)


class _StageError(Exception):
    """A stage raised."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.stage = stage


def run_case(
    case: Case,
    home: Home,
    seed: int,
    *,
    representation: Representation | None = None,
    patterns: PatternGraphs | None = None,
    rounding: Rounding = Rounding.HALF_EVEN,
    engines: Sequence[str] = (),
    enter: Callable[[Stage], None] = lambda stage: None,
) -> Result:
    """Take a case through the flow and judge it.

    Args:
        case: the case.
        home: the home of the flow.
        seed: of parameters and inputs.
        representation: makes the reference program; upstream's own by default.
        patterns: keeps upstream's pattern graphs from one case to the next.
        rounding: the scheme of the exact result.
        engines: whose kernels are measured beside.
        enter: called as each stage begins, so that it is known even if the process dies in it.

    """
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: Stage) -> Iterator[None]:
        enter(name)
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            raise _StageError(name) from error
        finally:
            seconds[name.value] = round(time.perf_counter() - started, 6)

    try:
        sets = input_sets(case, seed)
        with stage(Stage.EXPORT):
            graph = export(home.quantize_ahead(build_model(case, seed), case.scheme), sets[0].tensors)
        with stage(Stage.PREPARE):
            prepared = home.prepare(graph, home.quantizer(case.scheme))
        with stage(Stage.CALIBRATE), torch.no_grad():
            prepared(*sets[0].tensors)
        with stage(Stage.CONVERT):
            with patterns.serve(prepared) if patterns else nullcontext():
                qdq = home.convert(prepared)
            # A representation of the user's own may change the program, and then call upstream's.
            with patterns.serve(None if representation else qdq) if patterns else nullcontext():
                reference = apply(representation, qdq) if representation else apply_upstream(home, qdq)
        with stage(Stage.RUN):
            judgement = judge(
                case, qdq, reference.program, reference.rewrites, sets, rounding=rounding, engines=engines
            )
    except _StageError as error:
        cause = error.__cause__
        return Result(
            case.name,
            case.family,
            Outcome.ERROR,
            stage=error.stage,
            reason=one_line(cause),
            seconds=seconds,
            traceback="".join(traceback.format_exception(cause)),
        )
    return Result(
        case.name,
        case.family,
        judgement.outcome,
        reason=judgement.reason,
        structure=judgement.structure | {"nearest": _nearest(qdq, judgement.left, reference)},
        numerics=judgement.numerics,
        exact=judgement.exact,
        engines=judgement.engines,
        seed_check=judgement.seed_check,
        deterministic=judgement.deterministic,
        digest=judgement.digest,
        seconds=seconds | judgement.seconds,
        programs=judgement.programs,
    )


def _nearest(qdq: GraphModule, left: Iterable[Operator], reference: Reference) -> list[dict[str, Any]]:
    """Say of each operator that no rewrite took which of upstream's patterns comes nearest to it."""
    nodes = {node.name: node for node in qdq.graph.nodes}
    alone = [operator for operator in left if operator.node not in reference.rewritten]
    found = [(operator, nearest(qdq, nodes[operator.node], reference.patterns)) for operator in alone]
    return [{"operator": operator.name, "node": operator.node, **one.record()} for operator, one in found if one]
