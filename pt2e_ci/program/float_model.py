"""The float model that a Q/DQ program was made of, and whether what was prepared is still it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from pt2e_ci.program.memory import stale_writes, written_by
from pt2e_ci.program.trace import copied, shapes_in, tensors_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import GraphModule

# What folding a batch norm into the weights before it may cost, as a share of the largest output.
_FOLDED = 2.0**-16
# Where that is more, as before a norm that makes much of small differences: so many times what weights that are
# rounded otherwise cost, by two units of float32's last place.
_TIMES = 16
_OTHERWISE = 2.0**-22


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
        if self.lost is not None:
            self.hold(expected, found, _rounded_otherwise(self.graph)(*tree_map(copied, [*inputs])))

    def hold_writes(self, qdq: GraphModule) -> None:
        """Hold what a Q/DQ program writes in place: state that is quantized is a constant, and so are levels."""
        state, stale = sorted(_state(self.graph) - _state(qdq)), [node.name for node in stale_writes(qdq.graph)]
        if self.lost is None and state:
            self.lost = f"it no longer reads what it writes to {', '.join(state)}"
        if self.lost is None and stale:
            self.lost = f"it reads the levels from before {', '.join(stale)} wrote"

    def hold(self, expected: Any, found: Any, otherwise: Any = None) -> None:
        """Hold what a prepared program gives against what the model does; and does with weights rounded otherwise."""
        leaves = tree_flatten(expected)[0], tree_flatten(found)[0]
        if len(leaves[0]) != len(leaves[1]):
            self.lost = f"it gives {len(leaves[1])} outputs, and not {len(leaves[0])}"
            return
        others = [None] * len(leaves[0]) if otherwise is None else tree_flatten(otherwise)[0]
        triples = enumerate(zip(*leaves, others, strict=True))
        texts = (_difference(index, a, b, other) for index, (a, b, other) in triples)
        self.lost = next((text for text in texts if text), None)

    def _look(self, name: str, module: Any, given: Any) -> None:
        """Look at what an observer is given."""
        if any(tensor.is_floating_point() and not bool(tensor.isfinite().all()) for tensor in tensors_in(given)):
            self.unbounded.append(name)


def _state(graph: GraphModule) -> set[str]:
    """Name the tensors of a program that it writes in place, and reads."""
    found = set()
    for node in graph.graph.nodes:
        if node.op != "get_attr":
            continue
        writers = [user for user in node.users if written_by(user) is node]
        readers = {*node.users, *(user for writer in writers for user in writer.users)} - {*writers}
        if writers and readers:
            found.add(str(node.target))
    return found


def _rounded_otherwise(graph: GraphModule) -> GraphModule:
    """Return a model whose weights are a little larger and smaller, in turn."""
    made = copy.deepcopy(graph)
    with torch.no_grad():
        for tensor in (*made.parameters(), *made.buffers()):
            if tensor.is_floating_point():
                signs = 1.0 - 2.0 * (torch.arange(tensor.numel()) % 2)
                tensor.mul_((1 + _OTHERWISE * signs).reshape(tensor.shape).to(tensor.dtype))
    return made


def _difference(index: int, expected: Any, found: Any, otherwise: Any) -> str | None:
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
    cost = 0.0
    if isinstance(otherwise, torch.Tensor) and a.numel():
        cost = float((a - otherwise.detach().double()).abs().nan_to_num(0, 0, 0).max())
    if worst <= max(largest * bits, _TIMES * cost):
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
