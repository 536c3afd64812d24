"""The public functions, which tell whether a model is integer, and whether the integers are right."""

from __future__ import annotations

import platform
import sysconfig
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from torch.fx import GraphModule

from pt2e_ci.cells.capabilities import detect, quietly
from pt2e_ci.cells.cell import current_cell
from pt2e_ci.checking.inputs import accepted, copied_model, made_up
from pt2e_ci.checking.question import Question, form_of, question
from pt2e_ci.checking.result import Result, held
from pt2e_ci.errors import InputError, one_line
from pt2e_ci.flow.homes import import_home
from pt2e_ci.flow.patterns import PatternGraphs
from pt2e_ci.flow.representation import Reference
from pt2e_ci.judge.verdict import InputSet
from pt2e_ci.pipeline import Clock, Converted, Flow, StageError, failed, record_of
from pt2e_ci.program.segments import line_in
from pt2e_ci.record.criteria import DEFAULT, Criteria
from pt2e_ci.record.outcomes import Stage
from pt2e_ci.record.running import run_here
from pt2e_ci.record.unchanged import result_key

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from torch import nn
    from torch.export import ExportedProgram

    from pt2e_ci.cells.cell import Cell
    from pt2e_ci.flow.homes import Home
    from pt2e_ci.pipeline import Judged
    from pt2e_ci.record.records import Case, Operator, Reason

_FAMILY = "model"


def check(
    model: nn.Module | ExportedProgram | GraphModule,
    inputs: Any,
    *,
    quantizer: Any = None,
    representation: Callable[[GraphModule], GraphModule] | str | None = None,
    criteria: Criteria | str = DEFAULT,
    calibration: Any = None,
    dynamic_shapes: Any = None,
    qat: bool = False,
    train: Callable[[GraphModule], Any] | None = None,
    known: Mapping[str, int] | None = None,
    engines: Sequence[str] = (),
    name: str | None = None,
) -> Result:
    """Quantize a model by PT2E, make its reference program, and judge every operator of that for all its inputs.

    Args:
        model: an `nn.Module` in eval mode on the CPU; or a program that is captured (torch 2.5 on), calibrated or
            converted already. It stays as it is.
        inputs: the arguments of one call as a tuple, those by keyword as a dict, or a tensor alone; or a list of
            several calls. Arguments are what the model takes: tensors of any shape and dtype, numbers, lists, dicts,
            None. Further inputs are made of the first call, of which floating tensors alone are varied.
        quantizer: a quantizer, a function that makes one, ``module:name``, or the name of an entry point; by default
            XNNPACK's symmetric one, int8, one scale for each tensor.
        representation: a function from a Q/DQ program to a reference program, ``module:name``, or the name of an entry
            point; by default upstream's.
        criteria: what the program is held to.
        calibration: the calls that observers see, as `inputs`; by default its first.
        dynamic_shapes: as `torch.export.export` takes them.
        qat: whether it is prepared for quantization-aware training.
        train: trains the prepared program, in place; by default it only sees the calibration.
        known: what is known to be wrong: how many operators (or 1) by the code of the reason. Any other count fails, a
            lower one too.
        engines: devices that the quantized operators are run on beside, by the names that ``pt2e-ci engines`` has or
            as ``module:name``: it is told where one would part from the Q/DQ program, and never judged.
        name: what the model is called in the result; by default its class.

    Returns:
        The result, whose `passed` says whether all is right or known. What export, the quantizer or the representation
        raises is an outcome.

    Raises:
        InputError: something that was given will not do; one line says what, and what to do.

    """
    asked = question(
        model,
        inputs,
        quantizer=quantizer,
        representation=representation,
        criteria=criteria,
        calibration=calibration,
        dynamic_shapes=dynamic_shapes,
        qat=qat,
        train=train,
        known=known,
        engines=engines,
        name=name,
    )
    return answer(asked)


def compare(
    qdq: GraphModule,
    reference: GraphModule,
    inputs: Any,
    *,
    criteria: Criteria | str = DEFAULT,
    known: Mapping[str, int] | None = None,
    name: str | None = None,
) -> Result:
    """Judge a reference program that you have against the Q/DQ program that it was made of.

    Args:
        qdq: what `convert_pt2e` gives by default.
        reference: what computes the same in integers.
        inputs: the calls, as `check` takes them.
        criteria: what the reference program is held to.
        known: what is known to be wrong, as `check` takes it.
        name: what the program is called in the result.

    Raises:
        InputError: one of them is no program, or something else will not do.

    """
    for called, one in (("qdq", qdq), ("reference", reference)):
        if not isinstance(one, GraphModule):
            raise InputError(f"{called} is {type(one).__name__}: give a GraphModule")
    if form_of(qdq) != "converted":
        raise InputError("qdq has no quantize or dequantize operator: give what convert_pt2e returned")
    asked = question(qdq, inputs, criteria=criteria, known=known, name=name or "program")
    return answer(asked, Reference(reference, None))


def assert_integer(model: nn.Module | ExportedProgram | GraphModule, inputs: Any, **options: Any) -> Result:
    """Assert in a test that a model is integer and right; fail in ten lines that say what is not, why and where.

    Args:
        model: the model.
        inputs: its calls.
        **options: what else `check` takes.

    Raises:
        AssertionError: it is not, or not in just what is `known`.
        InputError: something that was given will not do.

    """
    __tracebackhide__ = True
    result = check(model, inputs, **options)
    if not result.passed:
        raise AssertionError(f"{result.case.complaint}\n{result}")
    return result


def answer(
    asked: Question, reference: Reference | None = None, on_error: Callable[[BaseException], None] | None = None
) -> Result:
    """Answer a question, on the torch of this process.

    Args:
        asked: the question.
        reference: the reference program; it is made otherwise.
        on_error: is told what a stage of the flow raised.

    Raises:
        InputError: the model is in training mode, or the quantizer's function returns something else.

    """
    with quietly():
        cell = current_cell()
        home = _home(cell.flow)
        flow = Flow(home, asked.representation, _patterns(home), engines=())
        case = _judge(asked, flow, reference, on_error or (lambda error: None))
        key = result_key(Path(sysconfig.get_path("purelib")), platform.python_version(), {"model": asked.name})
        represented_by = "given" if reference else asked.represented_by
        run = run_here(cell, detect(), key, represented_by, 0)
    return Result(run=run, case=held(case, asked.known, asked.criteria.allow))


def converted_here(asked: Question, cell: Cell) -> GraphModule:
    """Return the Q/DQ program of what is asked, on the torch of this process.

    Raises:
        InputError: a stage of the flow raised.

    """
    home = _home(cell.flow)
    try:
        return Clock().follow(_converted(asked, Flow(home, patterns=_patterns(home)))).qdq
    except StageError as error:
        raise InputError(f"{asked.name} cannot be converted: {one_line(error.__cause__)}") from None


def _judge(asked: Question, flow: Flow, reference: Reference | None, on_error: Callable[[BaseException], None]) -> Case:
    sets = [InputSet(f"input-{number}", call) for number, call in enumerate(asked.calls, 1)]
    notes: list[Reason] = []
    clock = Clock()

    def stages() -> Generator[Stage, None, Converted]:
        made = yield from _converted(asked, flow)
        taken, refused = accepted(made.qdq, made_up(asked.calls[0]))
        sets.extend(taken)
        notes.extend(refused)
        return made

    try:
        judged = clock.follow(
            flow.judge(stages(), sets, asked.criteria, is_dynamic=asked.dynamic_shapes is not None, reference=reference)
        )
    except StageError as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise cause from None
        if cause is not None:
            on_error(cause)
        record = failed(asked.name, _FAMILY, error, clock)
        return _placed(record, cause)
    record = record_of(judged, asked.name, _FAMILY, clock)
    if record.reason is not None and record.reason.code == "PQ040":
        raise InputError(record.reason.text)
    return replace(record, notes=[*record.notes, *notes], operators=_on_devices(record, judged, asked))


def _on_devices(record: Case, judged: Judged, asked: Question) -> list[Operator]:
    """Add to the operators of a record where devices would part from the Q/DQ program."""
    if not asked.engines:
        return record.operators
    from pt2e_ci.checking.devices import departures  # which needs numpy

    found = {name: departures(judged.judgement.reading, asked.calls[0], name) for name in asked.engines}
    return [
        replace(one, devices={name: apart[one.node] for name, apart in found.items() if one.node in apart})
        for one in record.operators
    ]


def _converted(asked: Question, flow: Flow) -> Generator[Stage, None, Converted]:
    """Yield the stages from what was given to its Q/DQ program."""
    model, form = copied_model(asked.model), form_of(asked.model)
    if isinstance(model, GraphModule) and form == "converted":
        yield Stage.CONVERT
        return Converted(model, None)
    if isinstance(model, GraphModule) and form == "calibrated":
        return (yield from flow.finish(model, None))
    quantizer = asked.quantizer or (lambda: flow.home.xnnpack(is_per_channel=False, is_qat=asked.training is not None))
    return (
        yield from flow.convert(
            lambda: model,
            asked.calls[0],
            quantizer,
            asked.dynamic_shapes,
            is_captured=form == "captured",
            calibration=asked.calibration,
            training=asked.training,
        )
    )


def _placed(record: Case, error: BaseException | None) -> Case:
    """Add to a stage's own reason the line of the user's source that it is about."""
    # Export tells it in its message.
    place = line_in(str(error))
    if place is None or record.reason is None:
        return record
    return replace(record, reason=replace(record.reason, text=f"{record.reason.text} ({place})"))


@cache
def _home(flow: Any) -> Home:
    return import_home(flow)


@cache
def _patterns(home: Home) -> PatternGraphs:
    return PatternGraphs(home)
