"""The row of whatever a node calls, and what follows from it.

What only moves values, works element by element, or reduces is read off torch's own schemas and tags where it has
them; the rows name the rest.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule, Node

from pt2e_ci.operators import contraction, join, movement, pointwise, table, window
from pt2e_ci.operators.names import is_known, is_out_dtype, name_of
from pt2e_ci.operators.row import Kind, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

ROWS: tuple[Row, ...] = (
    *(*contraction.ROWS, *window.ROWS, *pointwise.ROWS),
    *(*join.ROWS, *movement.ROWS, *table.ROWS),
)
"""All operators that are known by name."""

_BY_NAME = {name: row for row in ROWS for name in row.names}
# Their schemas give views that are more, or something else, than moved values.
_NO_MOVEMENT = frozenset("as_strided view_as_real view_as_complex real imag conj _conj _neg_view positive".split())
# Element by element, though torch does not tag them so.
_UNTAGGED = frozenset("_to_copy to floor_divide floordiv where bucketize searchsorted masked_fill".split())
# torch 2.13 has the tag and 2.4 has not (2026-11); without it, a reduction is known by its arguments.
_REDUCTION = getattr(torch.Tag, "reduction", None)


def row_of(target: Any) -> Row | None:
    """Return what is known of an operator; None where that is nothing."""
    if not is_known(target):
        return None
    name = name_of(target)
    return _BY_NAME.get(name) or (movement.VIEW if _gives_view(name) else None)


def kind_of(target: Any) -> Kind:
    """Tell what an operator does."""
    if not is_known(target):
        return Kind.OTHER
    name = name_of(target)
    if "quantize_" in name or name in ("quantize", "dequantize"):
        return Kind.QDQ
    if row := row_of(target):
        return row.kind
    return Kind.POOLING if _is_reduction(name) else Kind.OTHER


def family_of(name: str) -> str:
    """Return one name for operators that do the same work under several: a linear may be spelled as addmm."""
    row = _BY_NAME.get(name)
    if row and row.family:
        return row.family
    return "batch_norm" if "batch_norm" in name else name.lstrip("_")


def on_input_grid(target: Any) -> bool:
    """Tell whether an operator only picks or moves values."""
    row = row_of(target)
    return row is not None and row.on_input_grid


@cache
def is_elementwise(name: str) -> bool:
    """Tell whether an operator of aten works element by element."""
    return name in _UNTAGGED or any(torch.Tag.pointwise in overload.tags for overload in _overloads(name))


def operands_of(target: Any, nodes: Sequence[Any]) -> list[Any]:
    """Return those of an operator's tensors that it computes on: two for a contraction (no bias), all of them else."""
    row = row_of(target)
    if row and row.kind is Kind.CONTRACTION and row.name != "einsum":
        return [nodes[position] for position in row.operands if position < len(nodes)]
    return [*nodes]


def is_opaque(node: Node, program: Any) -> bool:
    """Tell whether a node calls code of the user's own, whose operators the graph does not show."""
    if node.op == "call_module":
        return not _checks_only(program.get_submodule(node.target))
    if node.op != "call_function":
        return False
    target = node.target
    if isinstance(target, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        return False
    if isinstance(target, torch._ops.HigherOrderOperator):
        return not is_out_dtype(target)
    return row_of(target) is None


def _checks_only(module: torch.nn.Module) -> bool:
    """Tell whether a submodule gives nothing on (the guards that export adds)."""
    return isinstance(module, GraphModule) and not any(
        node.op == "output" and node.all_input_nodes for node in module.graph.nodes
    )


@cache
def _gives_view(name: str) -> bool:
    """Tell whether an operator of aten gives a view of what it takes, by the schema of its first overload."""
    returns = [argument for overload in _overloads(name)[:1] for argument in overload._schema.returns]
    return name not in _NO_MOVEMENT and any(one.alias_info and not one.alias_info.is_write for one in returns)


@cache
def _is_reduction(name: str) -> bool:
    overloads = _overloads(name)
    if _REDUCTION is not None:
        return any(_REDUCTION in overload.tags for overload in overloads)
    return any({"dim", "keepdim"} <= {one.name for one in overload._schema.arguments} for overload in overloads)


def _overloads(name: str) -> list[Any]:
    packet = getattr(torch.ops.aten, name, None) if name.isidentifier() else None
    return [getattr(packet, overload) for overload in packet.overloads()] if packet is not None else []
