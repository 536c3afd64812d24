"""The row of whatever a node calls, and what follows from it.

What only moves values, works element by element, or reduces is read off torch's own schemas and tags where it has
them; the rows name the rest.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from pt2e_ci.operators import contraction, join, movement, pointwise, unary, window
from pt2e_ci.operators.names import is_known, name_of
from pt2e_ci.operators.row import Kind, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

ROWS: tuple[Row, ...] = (
    *(*contraction.ROWS, *window.ROWS, *pointwise.ROWS),
    *(*join.ROWS, *movement.ROWS, *unary.ROWS),
)
"""All operators that are known by name."""

_BY_NAME = {name: row for row in ROWS for name in row.names}
# Their schemas give views that are more, or something else, than moved values.
_NO_MOVEMENT = frozenset("as_strided view_as_real view_as_complex real imag conj _conj _neg_view positive".split())
# Element by element, though torch does not tag them so, or some torch does not.
_UNTAGGED = frozenset(
    """_to_copy to floor_divide floordiv where bucketize searchsorted masked_fill fill copy type_as and or xor rshift
    lshift isinf isfinite hardtanh relu6 threshold hardswish hardsigmoid silu leaky_relu elu prelu _prelu_kernel
    _assert_async""".split()
)
# What may be done in float on the way from integers to levels: scaling, rounding, clamping, comparing, selecting.
_SCALING = frozenset(
    """add sub rsub mul div neg addcmul addcdiv lerp reciprocal true_divide round floor ceil trunc frac fmod remainder
    floor_divide ldexp clamp clamp_min clamp_max hardtanh relu relu6 threshold minimum maximum min max abs sign sgn
    copysign signbit heaviside where masked_fill nan_to_num isnan isinf isfinite eq ne lt le gt ge
    logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_xor bitwise_not and or xor
    bucketize searchsorted _to_copy to type_as fill copy clone positive sum mean amin amax any all""".split()
)
# Moves values, though its schema does not say so; the ids of elements can be run through it.
_MOVING = frozenset(
    """cat stack rot90 constant_pad_nd _unsafe_view as_strided unfold im2col slice_scatter select_scatter narrow_copy
    lift_fresh_copy contiguous _reshape_alias reshape flatten movedim chunk split split_with_sizes unbind""".split()
)
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


def has_integer_form(name: str) -> bool:
    """Tell whether an operator has a form in the integer representation."""
    row = _BY_NAME.get(name)
    return row is not None and row.integer is not None


def on_input_grid(target: Any) -> bool:
    """Tell whether an operator only picks or moves values."""
    row = row_of(target)
    return row is not None and row.on_input_grid


@cache
def is_elementwise(name: str) -> bool:
    """Tell whether an operator of aten works element by element."""
    return name in _UNTAGGED or any(torch.Tag.pointwise in overload.tags for overload in _overloads(name))


def is_scaling(name: str) -> bool:
    """Tell whether an operator may take an accumulator to levels in float: what it does is affine, or a step."""
    return name in _SCALING


def is_moving(target: Any) -> bool:
    """Tell whether an operator puts elements elsewhere, and leaves each as it is."""
    row = row_of(target)
    return (row is not None and row.moves) or name_of(target) in _MOVING


def operands_of(target: Any, nodes: Sequence[Any]) -> list[Any]:
    """Return those of an operator's tensors that it computes on: two for a contraction (no bias), all of them else."""
    row = row_of(target)
    if row and row.kind is Kind.CONTRACTION and row.name != "einsum":
        return [nodes[position] for position in row.operands if position < len(nodes)]
    return [*nodes]


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
