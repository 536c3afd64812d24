"""A quantizer that marks every operator of which there is an exact form: what the checks can decide, on any torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.flow.homes import QUANTIZERS, home_in_use
from pt2e_ci.operators.names import call_of
from pt2e_ci.operators.row import Kind
from pt2e_ci.operators.rows import row_of
from pt2e_ci.program.segments import ANNOTATION

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

# What holds observers, by home.
_OBSERVERS = {"torch.ao": "torch.ao.quantization.observer", "torchao": "torchao.quantization.pt2e"}
_COUNTED = (Kind.CONTRACTION, Kind.POOLING, Kind.ELEMENTWISE, Kind.JOIN, Kind.ACTIVATION, Kind.OTHER, Kind.NEUTRAL)


class _Everything:
    """Activations int8 and asymmetric, weights int8 in [-127, 127], one scale for each tensor; a bias stays float."""

    def __init__(self) -> None:
        home = home_in_use().name
        self._specifications = import_module(QUANTIZERS[home])
        self._observer = import_module(_OBSERVERS[home]).MinMaxObserver

    def annotate(self, model: GraphModule) -> GraphModule:
        """Mark the float operands and the result of every operator that has an exact form, and does not only move."""
        for node in model.graph.nodes:
            row = row_of(call_of(node)[0]) if node.op == "call_function" else None
            if row is None or row.exact is None or row.moves or row.kind not in _COUNTED or not _is_float(node):
                continue
            operands = {one: self._specified(one) for one in node.all_input_nodes if _is_operand(one)}
            first = next(iter(operands), None)
            shared: Any = first and self._specifications.SharedQuantizationSpec((first, node))
            output = shared if row.on_input_grid and row.kind is Kind.POOLING else self._activation()
            node.meta[ANNOTATION] = self._specifications.QuantizationAnnotation(
                input_qspec_map=operands, output_qspec=output, _annotated=True
            )
        return model

    def validate(self, model: GraphModule) -> None:
        """Accept every graph."""

    def _specified(self, node: Node) -> Any:
        return self._weight() if node.op == "get_attr" else self._activation()

    def _activation(self) -> Any:
        return self._specification(torch.per_tensor_affine, -128)

    def _weight(self) -> Any:
        return self._specification(torch.per_tensor_symmetric, -127)

    def _specification(self, scheme: Any, low: int) -> Any:
        return self._specifications.QuantizationSpec(
            dtype=torch.int8, quant_min=low, quant_max=127, qscheme=scheme, is_dynamic=False,
            observer_or_fake_quant_ctr=self._observer.with_args(eps=2**-12),
        )  # fmt: skip


def everything() -> Any:
    """Return the quantizer, of the class that the home of the flow takes."""
    base = import_module(QUANTIZERS[home_in_use().name]).Quantizer
    return type("Everything", (_Everything, base), {})()


def _is_float(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _is_operand(node: Node) -> bool:
    """Tell whether a node gives a float tensor that is no bias, and no scalar."""
    value = node.meta.get("val")
    if value is None and node.op == "get_attr":
        value = getattr(node.graph.owning_module, str(node.target), None)
    return isinstance(value, torch.Tensor) and value.is_floating_point() and (node.op != "get_attr" or value.dim() > 1)
