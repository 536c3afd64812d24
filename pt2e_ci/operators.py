"""Operators by name, and what kind of work each does.

A node may call an operator as an overload (``aten.conv2d.default``), a packet, a function of torch or Python, a
method or a module, and any representation may choose another of them. What counts is the bare name.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule, Node

if TYPE_CHECKING:
    from collections.abc import Sequence


class Kind(Enum):
    """What an operator does with the tensors that flow through a program."""

    CONTRACTION = "contraction"  # sums of products of two operands: the first two tensors, or as _OPERANDS says
    POOLING = "pooling"
    ELEMENTWISE = "elementwise"  # compute only if it joins two tensors that both depend on the inputs
    JOIN = "join"  # likewise
    ACTIVATION = "activation"  # part of the compute operator before it, if that feeds nothing else
    QDQ = "qdq"  # between floats and integers
    QPARAMS = "qparams"  # finds scales and zero points from a float tensor
    NEUTRAL = "neutral"  # moves, casts, rounds, clamps or compares; also in any requantization
    OTHER = "other"  # anything else is compute


_KINDS: dict[Kind, str] = {
    Kind.CONTRACTION: """linear mm addmm bmm baddbmm matmul dot mv addmv einsum _int_mm bilinear
        conv1d conv2d conv3d convolution _convolution conv_transpose1d conv_transpose2d conv_transpose3d
        scaled_dot_product_attention""",
    Kind.POOLING: """max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices
        avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
        _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d mean sum""",
    Kind.ELEMENTWISE: "add sub rsub mul div truediv maximum minimum multiply divide subtract",
    Kind.JOIN: "cat concat concatenate stack",
    Kind.ACTIVATION: """relu relu6 hardtanh leaky_relu prelu hardswish hardsigmoid sigmoid tanh gelu elu silu
        softmax _softmax log_softmax""",
    Kind.QPARAMS: """choose_qparams choose_qparams_symmetric choose_qparams_per_token
        choose_qparams_per_token_asymmetric _choose_qparams_per_token_asymmetric_impl choose_qparams_affine
        amin amax aminmax""",
    Kind.NEUTRAL: """view reshape flatten unflatten permute transpose t contiguous clone expand expand_as
        squeeze unsqueeze slice select narrow index getitem gather index_select split split_with_sizes chunk
        unbind pad constant_pad_nd unfold im2col repeat tile roll flip movedim swapaxes as_strided detach alias
        lift_fresh_copy lift_fresh to _to_copy type float double half bfloat16 int long short char type_as
        clamp clamp_min clamp_max clip round floor ceil trunc neg abs sign where masked_fill bitwise_and
        bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift lshift rshift floor_divide floordiv
        remainder fmod mod eq ne lt le gt ge logical_and logical_or logical_not isnan isinf isfinite nan_to_num
        dropout feature_dropout zeros_like ones_like full_like empty_like new_zeros new_full copy fill
        reciprocal size sym_size dim numel stride device dtype getattr _assert_tensor_metadata _assert_async
        _guards_fn""",
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names.split()}

# Which positional arguments hold the two operands, where they are not the first two.
_OPERANDS = {"addmm": (1, 2), "baddbmm": (1, 2), "addmv": (1, 2)}


def call_of(node: Node) -> tuple[Any, tuple[Any, ...]]:
    """Return what a node calls, and with which positional arguments.

    The higher-order operator ``out_dtype`` gives way to the operator that it wraps.
    """
    if node.op == "call_function" and name_of(node.target) == "out_dtype":
        return node.args[0], tuple(node.args[2:])
    return node.target, tuple(node.args)


def name_of(target: Any) -> str:
    """Return an operator's bare name: no namespace, no overload, no in-place underscore."""
    if isinstance(target, str):  # a method
        name = target
    elif isinstance(target, torch._ops.OpOverload):
        name = target._schema.name.rsplit("::", 1)[-1]
    else:
        name = getattr(target, "__name__", None) or str(target)
        name = name.rsplit(".", 1)[-1]
    return name.removesuffix("_") if not name.startswith("__") else name.strip("_")


def qualified_name(target: Any) -> str:
    """Return an operator's name as printed: ``quantized_decomposed.quantize_per_tensor.default``."""
    if isinstance(target, torch._ops.OpOverload):
        return f"{target._schema.name.replace('::', '.')}.{target._overloadname}"
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"higher_order.{target.__name__}"
    return str(target)


def kind_of(target: Any) -> Kind:
    """Tell what an operator does, by its name."""
    name = name_of(target)
    if "quantize_" in name or name in ("quantize", "dequantize"):
        return Kind.QDQ
    return _KIND_OF.get(name, Kind.OTHER)


def operands_of(target: Any, args: Sequence[Any]) -> list[Node]:
    """Return the nodes that an operator computes on: two for a contraction (no bias), all of them else."""
    if kind_of(target) is Kind.CONTRACTION:
        positions = _OPERANDS.get(name_of(target), (0, 1))
        return [args[i] for i in positions if i < len(args) and isinstance(args[i], Node)]
    found: list[Node] = []
    for arg in args:
        if isinstance(arg, Node):
            found.append(arg)
        elif isinstance(arg, list | tuple):
            found += [item for item in arg if isinstance(item, Node)]
    return found


def is_opaque(node: Node, program: Any) -> bool:
    """Tell whether a node calls code of the user's own, whose operators the graph does not show."""
    if node.op == "call_module":
        module = program.get_submodule(node.target)
        return name_of(node.target) != "_guards_fn" and not _checks_only(module)
    if node.op != "call_function":
        return False
    target = node.target
    if isinstance(target, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        return False
    if isinstance(target, torch._ops.HigherOrderOperator):
        return name_of(target) != "out_dtype"
    return name_of(target) not in _KIND_OF


def _checks_only(module: torch.nn.Module) -> bool:
    """Tell whether a submodule gives nothing on (the guards that export adds)."""
    return isinstance(module, GraphModule) and not any(
        node.op == "output" and node.all_input_nodes for node in module.graph.nodes
    )
