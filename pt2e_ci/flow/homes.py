"""The two homes of the PT2E flow: torch.ao in torch up to 2.10, and torchao."""

from __future__ import annotations

import inspect
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.errors import InputError
from pt2e_ci.flow.folding import fold_quantized_constants

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from torch.fx import GraphModule

    from pt2e_ci.cells.cell import FlowName

# home: (flow, XNNPACK's quantizer, the rewrites of the reference representation, those of conv with batch norm,
# what ends a training)
_MODULES: dict[FlowName, tuple[str, str, str, str, str]] = {
    "torch.ao": (
        "torch.ao.quantization.quantize_pt2e",
        "torch.ao.quantization.quantizer.xnnpack_quantizer",
        "torch.ao.quantization.pt2e.representation.rewrite",
        "torch.ao.quantization.pt2e.qat_utils",
        "torch.ao.quantization",
    ),
    "torchao": (
        "torchao.quantization.pt2e.quantize_pt2e",
        "torchao.testing.pt2e._xnnpack_quantizer",
        "torchao.quantization.pt2e.reference_representation_rewrite",
        "torchao.quantization.pt2e.qat_utils",
        "torchao.quantization.pt2e",
    ),
}

QUANTIZERS: dict[FlowName, str] = {
    "torch.ao": "torch.ao.quantization.quantizer",
    "torchao": "torchao.quantization.pt2e.quantizer",
}
"""The package that has the class of quantizers, their specifications, and Inductor's."""

_in_use: ContextVar[Home] = ContextVar("home")


@dataclass(frozen=True)
class Home:
    """One home of the flow, as imported."""

    name: FlowName
    rewrites: ModuleType
    fusions: ModuleType
    """Rewrites that converting to Q/DQ looks for: in 2.1 and 2.2 in every model, later only beside batch norm."""
    _flow: ModuleType
    _quantizer: ModuleType
    _evaluation: ModuleType

    def xnnpack(self, **options: bool) -> Any:
        """Return XNNPACK's symmetric quantizer, set globally to the configuration of these options."""
        config = self._quantizer.get_symmetric_quantization_config(**options)
        return self._quantizer.XNNPACKQuantizer().set_global(config)

    def prepare(self, graph: GraphModule, quantizer: Any, *, qat: bool = False) -> GraphModule:
        """Insert the observers that the quantizer asks for, or what is trained (QAT). The graph is used up."""
        return (self._flow.prepare_qat_pt2e if qat else self._flow.prepare_pt2e)(graph, quantizer)

    def evaluate(self, trained: GraphModule) -> None:
        """Put a program that was prepared for training, and trained, into eval mode: its batch norm and dropout."""
        self._evaluation.move_exported_model_to_eval(trained)

    def convert(self, prepared: GraphModule) -> GraphModule:
        """Return the Q/DQ program of a calibrated graph, with constant weights quantized. The graph is used up."""
        if "fold_quantize" in inspect.signature(self._flow.convert_pt2e).parameters:
            # 2.2 and later; the default was False in 2.2
            return self._flow.convert_pt2e(prepared, fold_quantize=True)
        return fold_quantized_constants(self._flow.convert_pt2e(prepared))

    @property
    def rewrite(self) -> Callable[[GraphModule], GraphModule]:
        """Upstream's own representation: it turns a Q/DQ program into a reference program, in place.

        This is what ``convert_pt2e(..., use_reference_representation=True)`` does last.
        """
        return self.rewrites.reference_representation_rewrite


def import_home(name: FlowName) -> Home:
    """Import a home of the flow, which is then the one in use.

    Raises:
        InputError: this torch does not hold it, or the torchao that should cannot be imported.

    """
    try:
        flow, quantizer, rewrites, fusions, evaluation = (import_module(module) for module in _MODULES[name])
    except Exception as error:  # torchao beside the wrong torch fails at import in many ways
        raise InputError(
            f"the PT2E flow of {name} cannot be imported beside torch {torch.__version__}"
            f" ({type(error).__name__}: {error}): install a pair that `pt2e-ci cells` lists"
        ) from error
    home = Home(name, rewrites, fusions, flow, quantizer, evaluation)
    _in_use.set(home)
    return home


def home_in_use() -> Home:
    """Return the home that was imported last: a process has one torch, and so one."""
    return _in_use.get()
