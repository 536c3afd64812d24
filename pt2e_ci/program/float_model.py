"""The float model that a Q/DQ program was made of, and whether what was prepared is still it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from pt2e_ci.program.trace import copied, shapes_in, tensors_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import GraphModule

# What folding a batch norm into the weights before it may cost, as a share of the largest output.
_FOLDED = 2.0**-16


@dataclass
class FloatModel:
    """A float model, and what became of it before it was quantized.

    Attributes:
        graph: the exported model.
        lost: how the prepared program, whose observers change nothing, differs from it; None where it does not.
        unbounded: the observers that saw a value that is not finite. Some leave it out of their range in silence, and
            a mask of minus infinity no longer masks.

    """

    graph: GraphModule
    lost: str | None = None
    unbounded: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, graph: GraphModule) -> FloatModel:
        """Keep a copy of an exported model: preparing it uses it up, and folds into its weights."""
        return cls(copy.deepcopy(graph))

    def calibrate(self, prepared: GraphModule, inputs: Sequence[Any]) -> None:
        """Calibrate a prepared program on inputs, and hold what it gives against the model."""
        expected = self.graph(*tree_map(copied, [*inputs]))
        hooks = [
            module.register_forward_pre_hook(partial(self._look, name))
            for name, module in prepared.named_modules()
            if hasattr(module, "calculate_qparams")
        ]
        try:
            found = prepared(*tree_map(copied, [*inputs]))
        finally:
            for hook in hooks:
                hook.remove()
        self.hold(expected, found)

    def hold(self, expected: Any, found: Any) -> None:
        """Hold what a prepared program gives against what the model gives."""
        leaves = tree_flatten(expected)[0], tree_flatten(found)[0]
        if len(leaves[0]) != len(leaves[1]):
            self.lost = f"it gives {len(leaves[1])} outputs, and not {len(leaves[0])}"
            return
        texts = (_difference(index, a, b) for index, (a, b) in enumerate(zip(*leaves, strict=True)))
        self.lost = next((text for text in texts if text), None)

    def _look(self, name: str, module: Any, given: Any) -> None:
        """Look at what an observer is given."""
        if any(tensor.is_floating_point() and not bool(tensor.isfinite().all()) for tensor in tensors_in(given)):
            self.unbounded.append(name)


def _difference(index: int, expected: Any, found: Any) -> str | None:
    if not isinstance(expected, torch.Tensor) or not isinstance(found, torch.Tensor):
        return None
    if expected.shape != found.shape:
        return f"output {index} has shape {tuple(found.shape)}, and not {tuple(expected.shape)}"
    a, b = expected.detach().double(), found.detach().double()
    same = (a == b) | (a.isnan() & b.isnan())
    largest = float(a.nan_to_num(0, 0, 0).abs().max()) if a.numel() else 0.0
    bits = max(_FOLDED, float(torch.finfo(expected.dtype).eps) if expected.is_floating_point() else 0.0)
    apart = (a - b).abs().masked_fill(same, 0.0).nan_to_num(torch.inf)
    worst = float(apart.max()) if a.numel() else 0.0
    if worst <= largest * bits:
        return None
    return f"output {index} is up to {worst:.3g} off, of {largest:.3g}"


def check_shapes(inputs: Sequence[Sequence[Any]]) -> str | None:
    """Say where inputs have other shapes than the first, which a program with static shapes does not take."""
    first = shapes_in([*inputs[0]])
    for number, others in enumerate(inputs[1:], 1):
        for index, (a, b) in enumerate(zip(first, shapes_in([*others]), strict=False)):
            if a != b:
                return (
                    f"tensor {index} of inputs[{number}] has shape {b}, that of inputs[0] has {a}:"
                    " give inputs of one shape, or export with that dimension dynamic"
                )
    return None
