"""What a node calls: its target, its arguments, and its bare name.

A node may call an operator as an overload (``aten.conv2d.default``), a packet, a function of torch or Python, a
method or a module, and any representation may choose another of them. What counts is the bare name.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node
from torch.utils._pytree import tree_flatten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A bare name means what it says only where torch or Python gave it.
_NAMESPACES = ("aten", "prims", "quantized_decomposed", "quantized", "torchao", "torch")
# Where an operator may have a kernel for the CPU.
_KEYS = ("CPU", "CompositeImplicitAutograd", "CompositeExplicitAutograd")
_MODULES = ("torch", "_operator", "operator", "builtins", "math")


def call_of(node: Node) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return what a node calls, and with which arguments.

    The higher-order operator ``out_dtype`` gives way to the operator that it wraps.
    """
    if node.op == "call_function" and is_out_dtype(node.target):
        return node.args[0], tuple(node.args[2:]), dict(node.kwargs)
    return node.target, tuple(node.args), dict(node.kwargs)


def is_out_dtype(target: Any) -> bool:
    """Tell whether a target is the higher-order operator that runs another in a wider dtype."""
    return isinstance(target, torch._ops.HigherOrderOperator) and name_of(target) == "out_dtype"


def named_arguments(node: Node) -> dict[str, Any]:
    """Return the arguments of an operator by the names of its schema; empty for anything but an overload."""
    target, args, kwargs = call_of(node)
    if not isinstance(target, torch._ops.OpOverload):
        return {}
    return by_name(target, args, kwargs)


def by_name(target: torch._ops.OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an overload by the names of its schema."""
    names = [argument.name for argument in target._schema.arguments]
    return dict(zip(names, args, strict=False)) | dict(kwargs)


def written_arguments(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """Return what an operator is given to write into."""
    if not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
        return []
    named = by_name(target, args, kwargs)
    return [named.get(one.name) for one in target._schema.arguments if one.alias_info and one.alias_info.is_write]


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


def is_native(target: Any) -> bool:
    """Tell whether an operator's kernel is one that torch itself brings.

    Anybody may register an operator or a kernel, in a namespace of torch's as in any other.
    """
    if not isinstance(target, torch._ops.OpOverload):
        return False
    name = target.name().replace("::", "/")
    kernels = {f"{name}/{key}" for key in _KEYS} & torch.library._impls
    if target.namespace == "quantized_decomposed":
        module: Any = sys.modules.get("torch.ao.quantization.fx._decomposed")
        return module is not None and bool(kernels) and kernels <= module.quantized_decomposed_lib._op_impls
    return target.namespace == "prims" or (target.namespace in ("aten", "prim") and not kernels)


def tensors_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Node]:
    """Return the nodes among arguments, in order and as often as they occur."""
    return [leaf for leaf in tree_flatten((list(args), dict(kwargs)))[0] if isinstance(leaf, Node)]
