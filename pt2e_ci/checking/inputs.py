"""The inputs of a model: what its user gives, one call or several, and further ones that are made up of them."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from pt2e_ci.errors import InputError, kind_of_value, one_line
from pt2e_ci.judge.deciding.witness import draw
from pt2e_ci.judge.verdict import InputSet
from pt2e_ci.program.trace import laid_out_like, tensors_in
from pt2e_ci.record.reasons import reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import GraphModule

    from pt2e_ci.record.records import Reason

Call = tuple[Any, ...]

_FAR = 16.0
"""So far outside of the calibrated range, where levels saturate."""

_MANY = 1 << 14
"""Of so many elements one more run is enough to tell tensors apart."""


class ByKeyword(nn.Module):
    """A model whose keyword-only arguments are given by position, in the order of their names here."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, [*names]

    def forward(self, *given: Any) -> Any:
        """Call the model."""
        first = len(given) - len(self.names)
        # Spelled so that torch 2.1 exports it, too.
        return self.model(*given[:first], **{name: given[first + index] for index, name in enumerate(self.names)})


def calls_of(given: Any, name: str = "inputs") -> list[Call | dict[str, Any]]:
    """Return the calls in what a user gives.

    Args:
        given: a tuple of the arguments of one call, a dict of its keyword arguments, or a tensor that is its one
            argument; or a list of several of them.
        name: what it is called in a message.

    Raises:
        InputError: it is something else.

    """
    if not isinstance(given, list):
        return [_call(given, name)]
    if not given:
        raise InputError(f"{name} is an empty list: give one call at least")
    return [_call(one, f"{name}[{index}]") for index, one in enumerate(given)]


def _call(given: Any, name: str) -> Call | dict[str, Any]:
    if isinstance(given, torch.Tensor):
        return (given,)
    if isinstance(given, tuple):
        return given
    if isinstance(given, dict) and all(isinstance(key, str) for key in given):
        return given
    raise InputError(
        f"{name} is {kind_of_value(given)}: give the arguments of a call as a tuple, or those by keyword as a"
        " dict; several calls are a list of them"
    )


def by_position(model: nn.Module, calls: Sequence[Call | dict[str, Any]]) -> tuple[nn.Module, list[Call]]:
    """Return a model, and calls whose arguments are all given by position.

    Raises:
        InputError: a keyword argument is none of the model's, or the calls differ in those that have to be named.

    """
    names: list[str] = []
    found: list[Call] = []
    for index, call in enumerate(calls):
        if isinstance(call, tuple):
            found.append(call)
            continue
        try:
            bound = inspect.signature(model.forward).bind(**call)
        except TypeError as error:
            raise InputError(f"inputs[{index}] does not fit the model: {error}") from error
        if bound.kwargs:
            bound.apply_defaults()  # one that was left out may stand before one that is given
        if index and [*bound.kwargs] != names:
            raise InputError(f"inputs[{index}] names other arguments than inputs[0]: give the same ones in each")
        names = [*bound.kwargs]
        found.append((*bound.args, *bound.kwargs.values()))
    if names and len({len(call) for call in found}) > 1:
        raise InputError("inputs by keyword and by position are mixed: give all of them one way")
    return (ByKeyword(model, names) if names else model), found


def check_calls(model: nn.Module, calls: Sequence[Call]) -> None:
    """Call a model on what it is to be judged on.

    Raises:
        InputError: a tensor is not on the CPU or has a NaN, or the model cannot be called.

    """
    for index, call in enumerate(calls):
        for tensor in tensors_in([*call]):
            if tensor.device.type != "cpu":
                raise InputError(f"inputs[{index}] has a tensor on {tensor.device}: programs are judged on the CPU")
            if tensor.is_floating_point() and bool(tensor.isnan().any()):
                raise InputError(f"inputs[{index}] has a NaN: no scale can represent it")
        try:
            with torch.no_grad():
                copied_model(model)(*copy.deepcopy(call))
        except Exception as error:
            raise InputError(f"the model cannot be called on inputs[{index}]: {one_line(error)}") from error


def copied_model(model: Any) -> Any:
    """Return a copy of a model, of tensors too that it has worked out, as an old weight norm does before each call."""
    kept = [value for module in model.modules() for value in vars(module).values() if isinstance(value, torch.Tensor)]
    return copy.deepcopy(model, {id(one): one.detach().clone() for one in kept if not one.is_leaf})


def made_up(first: Call) -> list[InputSet]:
    """Return further inputs for a call: its floating tensors are redrawn, and far out; the rest stays.

    They serve to tell tensors apart by their values, and to compare what cannot be decided for all inputs.
    """
    floats = [tensor for tensor in tensors_in([*first]) if tensor.is_floating_point() and tensor.numel()]
    if not floats or not all(bool(tensor.isfinite().all()) for tensor in floats):
        return []
    drawn = draw(first, 1)
    if sum(tensor.numel() for tensor in floats) >= _MANY:
        return [InputSet("half saturating", tuple(tree_map(_half_far_out, drawn)))]
    return [InputSet("drawn", tuple(drawn)), InputSet("saturating", tuple(tree_map(_far_out, [*first])))]


def _far_out(leaf: Any) -> Any:
    return leaf.detach() * _FAR if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf


def _half_far_out(leaf: Any) -> Any:
    if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
        return leaf
    half = leaf.detach().clone().contiguous()
    half.view(-1)[::2] *= _FAR
    return laid_out_like(half, leaf)


def accepted(qdq: GraphModule, sets: Sequence[InputSet]) -> tuple[list[InputSet], list[Reason]]:
    """Return those of some made-up inputs that a program takes, and a note on each that it does not."""
    taken, notes = [], []
    for one in sets:
        try:
            with torch.no_grad():
                copy.deepcopy(qdq)(*copy.deepcopy(one.tensors))
        except Exception as error:  # a model may take anything for a reason to refuse
            notes.append(reason("PQ056", label=one.label, error=one_line(error)))
        else:
            taken.append(one)
    return taken, notes
