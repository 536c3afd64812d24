"""Operators by name, and what kind of work each does.

A node may call an operator as an overload (``aten.conv2d.default``), a packet, a function of torch or Python, a
method or a module, and any representation may choose another of them. What counts is the bare name.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import torch
import torch.utils._pytree
from torch.fx import GraphModule, Node

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Kind(Enum):
    """What an operator does with the tensors that flow through a program."""

    CONTRACTION = "contraction"  # sums of products of two operands: the first two tensors, or as _OPERANDS says
    POOLING = "pooling"
    ELEMENTWISE = "elementwise"  # compute only if it joins two tensors that both carry data
    JOIN = "join"  # likewise
    ACTIVATION = "activation"  # part of the compute operator before it, if that feeds nothing else
    QDQ = "qdq"  # between floats and integers
    STATISTIC = "statistic"  # on floats, a range from which scales and zero points are found
    MASK = "mask"  # a sign, or what a comparison gives: it selects, and carries no data
    CONSTANT = "constant"  # takes a shape from a tensor, and nothing else
    NEUTRAL = "neutral"  # moves, casts, rounds or clamps; also in any requantization
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
    Kind.STATISTIC: """choose_qparams choose_qparams_symmetric choose_qparams_per_token
        choose_qparams_per_token_asymmetric _choose_qparams_per_token_asymmetric_impl choose_qparams_affine
        amin amax aminmax max min""",
    Kind.MASK: "sign sgn eq ne lt le gt ge logical_and logical_or logical_not isnan isinf isfinite",
    Kind.CONSTANT: """zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty size sym_size
        dim numel stride device dtype""",
    Kind.NEUTRAL: """view reshape flatten unflatten permute transpose t contiguous clone expand expand_as
        squeeze unsqueeze slice select narrow index getitem gather index_select split split_with_sizes chunk
        unbind pad constant_pad_nd unfold im2col repeat tile roll flip movedim swapaxes as_strided detach alias
        lift_fresh_copy lift_fresh to _to_copy type float double half bfloat16 int long short char type_as
        clamp clamp_min clamp_max clip round floor ceil trunc neg abs where masked_fill bitwise_and
        bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift lshift rshift floor_divide floordiv
        remainder fmod mod nan_to_num bucketize searchsorted view_as reshape_as dropout feature_dropout copy fill
        reciprocal getattr _assert_tensor_metadata _assert_async _guards_fn""",
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names.split()}

# Which of the tensors hold the two operands, where they are not the first two.
_OPERANDS = {"addmm": (1, 2), "baddbmm": (1, 2), "addmv": (1, 2)}
# These pick or move values, so an output behind them is still on the grid of what is before them.
_KEEPS_GRID = frozenset(
    """view reshape flatten unflatten permute transpose t contiguous clone expand squeeze unsqueeze slice select narrow
    getitem split split_with_sizes chunk unbind index index_select flip roll movedim swapaxes detach alias to
    _to_copy dropout max_pool1d max_pool2d relu""".split()
)
# A bare name means what it says only where torch or Python gave it.
_NAMESPACES = ("aten", "prims", "quantized_decomposed", "quantized", "torchao", "torch")
_MODULES = ("torch", "_operator", "operator", "builtins", "math")


def call_of(node: Node) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return what a node calls, and with which arguments.

    The higher-order operator ``out_dtype`` gives way to the operator that it wraps.
    """
    if node.op == "call_function" and name_of(node.target) == "out_dtype" and is_known(node.target):
        return node.args[0], tuple(node.args[2:]), dict(node.kwargs)
    return node.target, tuple(node.args), dict(node.kwargs)


def named_arguments(node: Node) -> dict[str, Any]:
    """Return the arguments of an operator by the names of its schema; empty for anything but an overload."""
    target, args, kwargs = call_of(node)
    if not isinstance(target, torch._ops.OpOverload):
        return {}
    names = [argument.name for argument in target._schema.arguments]
    return dict(zip(names, args, strict=False)) | kwargs


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


def is_known(target: Any) -> bool:
    """Tell whether torch or Python itself gave an operator its name: a user may call anything ``clamp``."""
    if isinstance(target, str):
        return True  # a method of a tensor
    if isinstance(target, torch._ops.OpOverload):
        return target.namespace in _NAMESPACES
    if isinstance(target, torch._ops.OpOverloadPacket):
        return target._qualified_op_name.split("::")[0] in _NAMESPACES
    if isinstance(target, torch._ops.HigherOrderOperator):
        return True
    return (getattr(target, "__module__", None) or "builtins").split(".")[0] in _MODULES


def kind_of(target: Any) -> Kind:
    """Tell what an operator does, by its name."""
    if not is_known(target):
        return Kind.OTHER
    name = name_of(target)
    if "quantize_" in name or name in ("quantize", "dequantize"):
        return Kind.QDQ
    return _KIND_OF.get(name, Kind.OTHER)


def keeps_grid(target: Any) -> bool:
    """Tell whether an operator only picks or moves values."""
    return is_known(target) and name_of(target) in _KEEPS_GRID


def family_of(name: str) -> str:
    """Return one name for operators that do the same work under several: a linear may be spelled as addmm."""
    if name in ("linear", "mm", "addmm", "bmm", "baddbmm", "matmul", "_int_mm", "einsum"):
        return "linear"
    if name.startswith(("conv", "_conv")):
        return "conv"
    if "batch_norm" in name:
        return "batch_norm"
    return name.lstrip("_").removesuffix("_with_indices")


def operands_of(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Node]:
    """Return the nodes that an operator computes on: two for a contraction (no bias), all of them else."""
    nodes = tensors_of(args, kwargs)
    if kind_of(target) is Kind.CONTRACTION and name_of(target) != "einsum":
        positions = _OPERANDS.get(name_of(target), (0, 1))
        return [nodes[position] for position in positions if position < len(nodes)]
    return nodes


def tensors_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Node]:
    """Return the nodes among arguments, in order and as often as they occur."""
    leaves = torch.utils._pytree.tree_flatten((list(args), dict(kwargs)))[0]
    return [leaf for leaf in leaves if isinstance(leaf, Node)]


def written_by(node: Node) -> list[Node]:
    """Return the nodes whose values a call changes in place, or writes its result to."""
    target, args, kwargs = call_of(node)
    found = [kwargs["out"]] if isinstance(kwargs.get("out"), Node) else []
    in_place = False
    if isinstance(target, torch._ops.OpOverload):
        schema = target._schema.arguments
        found += [
            value
            for argument, value in zip(schema, args, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write and isinstance(value, Node)
        ]
    else:
        name = target if isinstance(target, str) else getattr(target, "__name__", "")
        in_place = (name.endswith("_") and not name.endswith("__")) or name.startswith("__i")
        in_place = in_place or kwargs.get("inplace") is True or name in ("setitem", "iadd", "isub", "imul")
    if in_place and args and isinstance(args[0], Node):
        found.append(args[0])
    return found


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
        return name_of(target) != "out_dtype"
    return not is_known(target) or name_of(target) not in _KIND_OF


def _checks_only(module: torch.nn.Module) -> bool:
    """Tell whether a submodule gives nothing on (the guards that export adds)."""
    return isinstance(module, GraphModule) and not any(
        node.op == "output" and node.all_input_nodes for node in module.graph.nodes
    )
