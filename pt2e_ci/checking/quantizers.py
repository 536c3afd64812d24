"""Runs a quantizer on every operator, each in a model of its own, and says what became of it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import torch
from msgspec.structs import replace

from pt2e_ci.catalogue.operators import OPERATORS
from pt2e_ci.cells.capabilities import quietly
from pt2e_ci.cells.cell import current_cell, platform_tag
from pt2e_ci.errors import one_line
from pt2e_ci.flow.capture import export
from pt2e_ci.flow.exact import representation
from pt2e_ci.flow.homes import import_home
from pt2e_ci.flow.patterns import PatternGraphs
from pt2e_ci.judge.verdict import InputSet
from pt2e_ci.operators.names import call_of, name_of
from pt2e_ci.operators.rows import is_moving, on_input_grid
from pt2e_ci.pipeline import Clock, Converted, Flow, StageError
from pt2e_ci.program.segments import Reading
from pt2e_ci.record.criteria import DEFAULT
from pt2e_ci.record.outcomes import Outcome, Stage
from pt2e_ci.record.quantizers import Annotated, QuantizerReport

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from torch.fx import GraphModule

    from pt2e_ci.catalogue.operators import Operator
    from pt2e_ci.flow.families import Known, Row
    from pt2e_ci.program.segments import QuantizedOperator
    from pt2e_ci.record.records import Case, Kind

_ALSO = ("amax", "pad")
"""What moves or picks values, too, though its row does not say so."""
_IMAGES = 4
"""The dimensions of a batch of images, which alone can be channels last."""


def run(row: Row, known: Sequence[Known], operators: Iterable[Operator] = OPERATORS) -> QuantizerReport:
    """Run a quantizer on operators, on the torch of this process.

    Args:
        row: the quantizer.
        known: what of it is known to be otherwise, somewhere.
        operators: the operators.

    """
    with quietly():
        cell = current_cell()
        home = import_home(cell.flow)
        flow = Flow(home, patterns=PatternGraphs(home))
        about = {
            "quantizer": row.name,
            "family": row.family,
            "torch": torch.__version__.partition("+")[0],
            "torchao": cell.torchao,
            "platform": platform_tag(),
        }
        if row.missing:
            return QuantizerReport(**about, missing=row.missing)
        here = [one for one in known if _is_about(one, row, about["torch"], cell.torchao)]
        absent = any(one.absent for one in here)
        try:
            make = resolve_name(row.make)
            make()
        except Exception as error:  # a package that is not there, or not beside this torch
            why = one_line(error)
            return QuantizerReport(**about, missing=why, unexpected=None if absent else f"cannot be made: {why}")
        results = [_tried(one, make, row, flow) for one in operators]
    unexpected = "can be made, and is known to be absent" if absent else None
    return QuantizerReport(**about, unexpected=unexpected, results=[_held(one, row, here) for one in results])


def _is_about(known: Known, row: Row, version: str, torchao: str | None) -> bool:
    return (
        fnmatchcase(row.name, known.quantizer)
        and fnmatchcase(version, known.torch)
        and fnmatchcase(torchao or "none", known.torchao)
    )


def _held(one: Annotated, row: Row, known: Sequence[Known]) -> Annotated:
    """Return a result with what is not as the row has it, both ways."""
    name = one.operator
    broken = any(name in some.broken for some in known)
    lacks, adds = any(name in some.lacks for some in known), any(name in some.adds for some in known)
    expected = (name in row.operators or adds) and not lacks
    wrong = None
    if bool(one.error) != broken:
        wrong = f"raises {one.error}" if one.error else "raises nothing any more"
    elif not one.error and one.annotated != expected:
        wrong = "is annotated, and not listed" if one.annotated else "is listed, and not annotated"
    return replace(one, unlisted=wrong)


def _tried(one: Operator, make: Callable[[], Any], row: Row, flow: Flow) -> Annotated:
    try:
        made = Clock().follow(_converted(one, make, row, flow))
    except StageError as error:
        return Annotated(operator=one.name, annotated=False, error=one_line(error.__cause__))
    reading = Reading(made.qdq)
    marked = [found for found in reading.operators if found.annotated and not found.in_float]
    if not _is_marked(one, reading, marked):
        return Annotated(operator=one.name, annotated=False)
    if not marked:
        return Annotated(operator=one.name, annotated=True, grids=_dtype(reading.levels[-1].quantize.grid), moves=True)
    (upstream, _), (exact, raised) = (_judged(one, made, flow, how) for how in (None, representation))
    return Annotated(
        operator=one.name,
        annotated=True,
        grids="; ".join(dict.fromkeys(_grids(found) for found in marked)),
        upstream=upstream.outcome if upstream else Outcome.ERROR,
        exact=exact.outcome if exact else Outcome.ERROR,
        evidence=_evidence(exact),
        error=raised,
    )


def _is_marked(one: Operator, reading: Reading, marked: Sequence[QuantizedOperator]) -> bool:
    """Tell whether a quantizer marked an operator, or all that it made of it before it marked anything."""
    left = [found.name for found in reading.unquantized]
    if any(found.name == one.name for found in [*marked, *reading.unquantized]):
        return any(found.name == one.name for found in marked)
    if marked or left:
        return not left
    moved = [node for node in reading.items if node.op == "call_function" and _moves(call_of(node)[0])]
    return bool(moved) and len(reading.levels) > 1  # it is between levels where it is marked


def _moves(target: Any) -> bool:
    """Tell whether an operator only moves or picks values, a maximum among them."""
    return is_moving(target) or on_input_grid(target) or name_of(target) in _ALSO


def _converted(one: Operator, make: Callable[[], Any], row: Row, flow: Flow) -> Generator[Stage, None, Converted]:
    """Yield the stages from an operator's model to its Q/DQ program, as the quantizer needs it."""
    yield Stage.EXPORT
    model, inputs = one.model(), one.inputs()
    if "channels_last" in row.needs and any(tensor.dim() == _IMAGES for tensor in inputs):
        inputs = tuple(_channels_last(tensor) for tensor in inputs)
        model = model.to(memory_format=torch.channels_last)
    graph = export(model, inputs)
    if "no_guards" in row.needs:
        _drop_guards(graph)
    return (yield from flow.convert(lambda: graph, inputs, make, is_captured=True))


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(memory_format=torch.channels_last) if tensor.dim() == _IMAGES else tensor


def _drop_guards(graph: GraphModule) -> None:
    """Take away the call that checks guards: some passes know no call of a module."""
    for node in [*graph.graph.nodes]:
        if node.op == "call_module" and "guards" in str(node.target):
            graph.graph.erase_node(node)
    graph.recompile()


def _judged(one: Operator, made: Converted, flow: Flow, how: Any) -> tuple[Case | None, str | None]:
    """Judge an operator in a representation; return its record, or what that raised."""
    flow = Flow(flow.home, how, flow.patterns)

    def converted() -> Generator[Stage, None, Converted]:
        yield Stage.CONVERT
        return made

    try:
        stages = flow.judge(converted(), [InputSet("calibration", one.inputs())], DEFAULT)
        return Clock().follow(stages).judgement.case, None
    except StageError as error:
        return None, one_line(error.__cause__)


def _evidence(case: Case | None) -> Kind | None:
    """Return how well the least known of the marked operators is known."""
    known = [one.evidence.kind for one in (case.operators if case else ()) if one.evidence and one.verdict]
    return max(known, key=lambda kind: kind.rank, default=None)


def _grids(operator: QuantizedOperator) -> str:
    """Name the dtypes of what an operator takes and gives, constants in brackets."""
    grids = [(f"({_dtype(one.grid)})" if one.levels is not None else _dtype(one.grid)) for _, one in operator.operands]
    output = _dtype(operator.output.grid) if operator.output else "float"
    return f"{', '.join(dict.fromkeys(grids))} to {output}"


def _dtype(grid: Any) -> str:
    name = str(grid.dtype).removeprefix("torch.")
    scales = "" if grid.axis is None else " per channel"
    return f"{name}{scales}{'' if not grid.is_runtime else ' at run time'}"
