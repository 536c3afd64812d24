"""What is asked of a model, from arguments or from a file, and refused in one line where it makes no sense."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from pt2e_ci.cells.capabilities import exports_dynamic_shapes
from pt2e_ci.cells.engines import place_of_engine
from pt2e_ci.checking.inputs import Call, by_position, calls_of, check_calls
from pt2e_ci.errors import InputError, kind_of_value, need_numpy
from pt2e_ci.flow.capture import captures_programs
from pt2e_ci.flow.quantizers import quantizer_of
from pt2e_ci.flow.representation import load_representation
from pt2e_ci.operators.row import Kind
from pt2e_ci.operators.rows import kind_of
from pt2e_ci.record.criteria import DEFAULT, Criteria, criteria_of
from pt2e_ci.record.reasons import REASONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pt2e_ci.flow.representation import Representation


@dataclass(frozen=True)
class Question:
    """What is asked, checked.

    Attributes:
        name: what the model is called.
        model: a module, or a program: captured, calibrated or converted.
        calls: the arguments of each call; the first is what further inputs are made of.
        calibration: the calls that observers see.
        quantizer: makes the quantizer; None for XNNPACK's.
        representation: makes the reference program; None for upstream's.
        represented_by: what that is called.
        criteria: what it is held to.
        dynamic_shapes: as `torch.export.export` takes them.
        training: trains a prepared program, for quantization-aware training; None without.
        known: how often each reason is known, by code.
        engines: the devices that it is run on beside, by name.

    """

    name: str
    model: nn.Module
    calls: list[Call]
    calibration: list[Call]
    quantizer: Callable[[], Any] | None = None
    representation: Representation | None = None
    represented_by: str = "upstream"
    criteria: Criteria = DEFAULT
    dynamic_shapes: Any = None
    training: Callable[[GraphModule], Any] | None = None
    known: Mapping[str, int] = field(default_factory=dict)
    engines: tuple[str, ...] = ()


def question(
    model: Any,
    inputs: Any,
    *,
    quantizer: Any = None,
    representation: Any = None,
    criteria: Any = DEFAULT,
    calibration: Any = None,
    dynamic_shapes: Any = None,
    qat: bool = False,
    train: Any = None,
    known: Any = None,
    engines: Any = (),
    name: str | None = None,
) -> Question:
    """Return what is asked; see `pt2e_ci.check`.

    Raises:
        InputError: something of it will not do.

    """
    module = _module(model)
    _check_state(module)
    moved, calls = by_position(module, calls_of(inputs))
    if dynamic_shapes is not None and not exports_dynamic_shapes():
        raise InputError(f"torch {torch.__version__} exports fixed shapes only: leave dynamic_shapes out")
    if train is not None and not qat:
        raise InputError("train is for quantization-aware training: give qat=True, too")
    if train is not None and not callable(train):
        raise InputError(f"train is {kind_of_value(train)}: give a function that trains the prepared program")
    if qat and (form_of(moved) is not None):
        raise InputError("qat needs the model itself, as an nn.Module: a program is captured already")
    check_calls(moved, calls)
    given = calls if calibration is None else by_position(module, calls_of(calibration, "calibration"))[1]
    calibrating = given[:1] if calibration is None else given
    return Question(
        name=name or type(module).__name__,
        model=moved,
        calls=calls,
        calibration=calibrating,
        quantizer=None if quantizer is None else quantizer_of(quantizer),
        representation=None if representation is None else _representation(representation),
        represented_by=_named(representation),
        criteria=criteria_of(criteria),
        dynamic_shapes=dynamic_shapes,
        training=(train or _run_on(calibrating)) if qat else None,
        known=_known(known),
        engines=_engines(engines),
    )


def form_of(model: nn.Module) -> str | None:
    """Tell what a program is: converted, calibrated or captured; None for a module that is yet to be exported."""
    if not isinstance(model, GraphModule):
        return None
    if any(node.op == "call_function" and kind_of(node.target) is Kind.QDQ for node in model.graph.nodes):
        return "converted"
    if any(hasattr(module, "calculate_qparams") for module in model.modules()):
        return "calibrated"
    # What torch.fx traced by itself calls modules and functions of torch's, and is exported as any other module.
    is_aten = all(
        isinstance(node.target, torch._ops.OpOverload | torch._ops.HigherOrderOperator)
        or getattr(node.target, "__module__", "") == "_operator"
        for node in model.graph.nodes
        if node.op == "call_function"
    )
    called = any(
        node.op in ("call_module", "call_method") and "guards" not in str(node.target) for node in model.graph.nodes
    )
    return "captured" if is_aten and not called else None


def _module(model: Any) -> nn.Module:
    if isinstance(model, type):
        raise InputError(f"model is the class {model.__name__}: give an instance, {model.__name__}()")
    is_exported = isinstance(model, ExportedProgram)
    found: Any = model.module() if is_exported and captures_programs() else model
    if is_exported or (isinstance(found, nn.Module) and form_of(found) == "captured"):
        if not captures_programs():
            raise InputError(
                f"model is a captured program, and torch {torch.__version__} captures none that can be prepared: give"
                " the nn.Module, or use torch 2.5 or later"
            )
        return found
    if not isinstance(found, nn.Module):
        raise InputError(f"model is {kind_of_value(model)}: give an nn.Module, an ExportedProgram or a GraphModule")
    return found


def _check_state(model: nn.Module) -> None:
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.device.type != "cpu":
            raise InputError(f"{name} is on {tensor.device}: programs are judged on the CPU: call model.cpu()")
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not bool(parameter.isfinite().all()):
            raise InputError(f"{name} has a value that is NaN or infinite: no scale can represent it")


def _representation(given: Any) -> Representation:
    found: Representation = load_representation(given) if isinstance(given, str) else given
    if not callable(found) or isinstance(found, type):
        raise InputError(
            f"representation is {kind_of_value(found)}: give a function from a GraphModule to a GraphModule"
        )
    return found


def _named(given: Any) -> str:
    if given is None or isinstance(given, str):
        return given or "upstream"
    return f"{getattr(given, '__module__', '')}:{getattr(given, '__qualname__', type(given).__name__)}".lstrip(":")


def _known(given: Any) -> Mapping[str, int]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InputError(f"known is {kind_of_value(given)}: give counts by code, as {{'PQ012': 3}}")
    for code, count in given.items():
        if code not in REASONS or REASONS[code].outcome is None:
            raise InputError(
                f"known has {code!r}, which is not a reason that fails a model: `pt2e-ci explain` lists them"
            )
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise InputError(f"known has {code}: {count!r}: give how many there are, 1 or more")
    return dict(given)


def _engines(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        raise InputError(f"engines is {kind_of_value(given)}: give a list of names")
    if given:
        need_numpy()
        from pt2e_ci.engines.running import Worker
    for name in given:
        with Worker(place_of_engine(name)):
            pass  # one that cannot be started should not cost the time of all else
    return tuple(dict.fromkeys(given))


def _run_on(calls: Sequence[Call]) -> Callable[[GraphModule], None]:
    """Train nothing: what is prepared for training only sees its inputs."""

    def run(prepared: GraphModule) -> None:
        with torch.no_grad():
            for call in calls:
                prepared(*copy.deepcopy(call))

    return run
