"""The same quantized operators run by the engines of this machine, and how far they are from the exact result.

Each operator of a Q/DQ program is run on the levels that it had there, with the same scales, by torch's quantized
kernels. What an engine cannot take is skipped with its own words.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.fx import GraphModule, Node

from pt2e_ci.checks.numerics import Comparison
from pt2e_ci.errors import death_reason, one_line
from pt2e_ci.operators import Kind, kind_of, name_of, named_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from multiprocessing.connection import Connection

# torch's engine behind each of ours, and the dtypes of activations that it takes, the first that it does being used:
# oneDNN's convolution takes quint8 only. Where torch is built with XNNPACK, that is what the engine called qnnpack
# runs for qint8.
_ENGINES: dict[str, tuple[str, tuple[torch.dtype, ...]]] = {
    "qnnpack": ("qnnpack", (torch.quint8,)),
    "fbgemm": ("fbgemm", (torch.quint8,)),
    "x86": ("x86", (torch.quint8,)),
    "onednn": ("onednn", (torch.qint8, torch.quint8)),
    "xnnpack": ("qnnpack", (torch.qint8,)),
}


_SECONDS = 60


class NotTakenError(Exception):
    """An engine has no kernel for an operator as it is."""


@dataclass(frozen=True)
class QParams:
    """Scale and zero point of int8 levels."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class QuantizedOperator:
    """An operator between dequantize and quantize nodes.

    Attributes:
        name: as in ``conv2d``.
        node: the node that calls it.
        quantize: the quantize node that takes its result.
        relu: whether a ReLU is fused into it.
        operands: the nodes that give the levels of its operands, with their grids.
        arguments: its other arguments, by the names of its schema.
        weight: a quantized weight, as torch's kernels take it.
        bias: in float, or None.
        output: the grid of its result.

    """

    name: str
    node: Node
    quantize: Node
    relu: bool
    operands: tuple[tuple[Node, QParams], ...]
    arguments: Mapping[str, Any]
    weight: torch.Tensor | None
    bias: torch.Tensor | None
    output: QParams


class Kernels:
    """Collects how far each engine is from the exact result.

    `engines` are names of `pt2e_ci.capabilities`; ``xnnpack`` among them where torch has it.
    """

    def __init__(self, qdq: GraphModule, engines: Sequence[str]) -> None:
        self._engines = [engine for engine in engines if engine in _ENGINES]
        self._operators = read_operators(qdq) if self._engines else []
        taken = {operator.node for operator in self._operators}
        self._unread = {
            name_of(node.target): "its result, or an operand, is on no grid that is known before the program runs"
            for node in qdq.graph.nodes
            if node.op == "call_function" and name_of(node.target) in _KERNELS and node not in taken
        }
        self._given: list[tuple[dict[Node, torch.Tensor], dict[Node, torch.Tensor]]] = []
        self._prepacked: dict[tuple[str, Node], Any] = {}

    def add(self, levels: Mapping[Node, torch.Tensor], exact: Mapping[Node, torch.Tensor]) -> None:
        """Take in the levels that every operator's operands had, and the exact ones of its result, by node."""
        operands = {node for operator in self._operators for node, _ in operator.operands}
        results = {operator.quantize for operator in self._operators}
        self._given.append(({node: levels[node] for node in operands}, {node: exact[node] for node in results}))

    def record(self) -> dict[str, Any]:
        """Run every operator on every engine, and return the report's fields by engine.

        They are a comparison in LSB, and the operators that were skipped.
        """
        measured, reason = self._measure_apart(self._engines)
        if reason and len(self._engines) > 1:
            # One of them ended the process: find out which.
            for engine in self._engines:
                alone, reason = self._measure_apart([engine])
                measured |= alone or {engine: self._without(reason)}
        elif reason:
            measured = {engine: self._without(reason) for engine in self._engines}
        return measured

    def _measure_apart(self, engines: Sequence[str]) -> tuple[dict[str, Any], str]:
        """Measure in a process of its own, for a kernel that the CPU cannot run would end this one.

        Returns the fields by engine, or nothing and how the process ended.
        """
        if not engines:
            return {}, ""
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=self._send, args=(engines, sender), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of a fork beside threads; the child uses none of them
            process.start()
        sender.close()
        try:
            if not receiver.poll(_SECONDS):
                return {}, f"still running after {_SECONDS} s"
            return receiver.recv(), ""
        except EOFError:
            process.join()
            return {}, death_reason(process.exitcode)
        finally:
            process.kill()
            process.join()

    def _send(self, engines: Sequence[str], sender: Connection) -> None:
        """Measure, in the child."""
        faulthandler.disable()  # an end is reported by its signal
        torch.set_num_threads(1)  # threads of the parent are not here
        sender.send({engine: self._measure(engine) for engine in engines})

    def _without(self, reason: str) -> dict[str, Any]:
        """Return the fields of an engine that gave nothing."""
        skipped = dict.fromkeys((operator.name for operator in self._operators), reason)
        return _as_lsb(Comparison()) | {"skipped": self._unread | skipped}

    def _measure(self, engine: str) -> dict[str, Any]:
        comparison, skipped = Comparison(), dict(self._unread)
        for levels, exact in self._given:
            for operator in self._operators:
                if operator.name in skipped:
                    continue
                try:
                    found = self._run(engine, operator, [levels[node] for node, _ in operator.operands])
                except NotTakenError as error:
                    skipped[operator.name] = str(error)
                    continue
                comparison.add(found.double(), exact[operator.quantize].double(), 1.0)
        return _as_lsb(comparison) | {"skipped": skipped}

    def _run(self, engine: str, operator: QuantizedOperator, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the levels that an engine gives; raise NotTakenError with its words if it gives none."""
        backend, dtypes = _ENGINES[engine]
        with _current(backend):
            key = (engine, operator.node)
            for dtype in dtypes:
                try:
                    if operator.weight is not None and key not in self._prepacked:
                        self._prepacked[key] = _prepack(operator)
                    return _call(operator, levels, self._prepacked.get(key), dtype)
                except (RuntimeError, NotImplementedError, AttributeError) as error:
                    refusal = one_line(error, 200)
        raise NotTakenError(refusal)


def _call(operator: QuantizedOperator, levels: Sequence[torch.Tensor], packed: Any, dtype: torch.dtype) -> torch.Tensor:
    """Run an operator on activations of a dtype. The levels of int8 and those of uint8 are 128 apart."""
    offset, integer = (128, torch.uint8) if dtype is torch.quint8 else (0, torch.int8)
    tensors = [
        torch._make_per_tensor_quantized_tensor(
            (value.to(torch.int16) + offset).to(integer), grid.scale, grid.zero_point + offset
        )
        for value, (_, grid) in zip(levels, operator.operands, strict=True)
    ]
    result = _KERNELS[operator.name](operator, tensors, packed, operator.output.zero_point + offset)
    return result.int_repr().to(torch.int16) - offset


def read_operators(qdq: GraphModule) -> list[QuantizedOperator]:
    """Return the operators of a Q/DQ program that engines may have a kernel for."""
    found = []
    for node in qdq.graph.nodes:
        if node.op == "call_function" and name_of(node.target) == "quantize_per_tensor":
            operator = _read(qdq, node)
            if operator is not None:
                found.append(operator)
    return found


def _read(qdq: GraphModule, quantize: Node) -> QuantizedOperator | None:
    node = quantize.all_input_nodes[0]
    relu = _is(node, "relu") and not _is(node.all_input_nodes[0], "dequantize_per_tensor")
    node = node.all_input_nodes[0] if relu else node
    output = _grid(quantize)
    if node.op != "call_function" or name_of(node.target) not in _KERNELS or output is None:
        return None
    operands, rest = [], {}
    weight = bias = None
    for name, value in named_arguments(node).items():
        if name == "bias":
            bias = _constant(qdq, value) if isinstance(value, Node) else None
        elif name == "weight":
            weight = _weight(qdq, value)
        elif isinstance(value, Node) or (isinstance(value, list | tuple) and any(isinstance(v, Node) for v in value)):
            for source in [value] if isinstance(value, Node) else value:
                grid = _grid(source) if isinstance(source, Node) and _is(source, "dequantize_per_tensor") else None
                if grid is None or _is_constant(source):
                    return None
                operands.append((source.all_input_nodes[0], grid))
        else:
            rest[name] = value
    if name_of(node.target) in ("linear", "conv2d") and weight is None:
        return None
    return QuantizedOperator(name_of(node.target), node, quantize, relu, tuple(operands), rest, weight, bias, output)


def _grid(node: Node) -> QParams | None:
    arguments = named_arguments(node)
    scale, zero_point = arguments.get("scale"), arguments.get("zero_point")
    if isinstance(scale, Node) or isinstance(zero_point, Node) or arguments.get("dtype") is not torch.int8:
        return None
    return QParams(float(scale or 0), int(zero_point or 0))


def _is(node: Node, name: str) -> bool:
    return node.op == "call_function" and name_of(node.target) == name


def _is_constant(dequantize: Node) -> bool:
    return not any(
        kind_of(node.target) is Kind.QDQ for node in dequantize.all_input_nodes if node.op == "call_function"
    )


def _constant(qdq: GraphModule, node: Node) -> torch.Tensor:
    tensor: torch.Tensor = attrgetter(str(node.target))(qdq)
    return tensor.detach()


def _weight(qdq: GraphModule, node: Node) -> torch.Tensor | None:
    """Return a dequantized constant as a quantized tensor."""
    if not isinstance(node, Node) or not node.all_input_nodes or node.all_input_nodes[0].op != "get_attr":
        return None
    arguments = named_arguments(node)
    levels = _constant(qdq, node.all_input_nodes[0])
    if levels.dtype is not torch.int8:
        return None
    if "axis" not in arguments:
        return torch._make_per_tensor_quantized_tensor(levels, float(arguments["scale"]), int(arguments["zero_point"]))
    scales, zero_points = (_constant(qdq, arguments[name]) for name in ("scales", "zero_points"))
    return torch._make_per_channel_quantized_tensor(
        levels, scales.to(torch.float64), zero_points.to(torch.int64), arguments["axis"]
    )


@contextmanager
def _current(engine: str) -> Iterator[None]:
    """Make an engine torch's current one."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer releases say at each call that quantized tensors are to go
            yield
    finally:
        torch.backends.quantized.engine = before


def _prepack(operator: QuantizedOperator) -> Any:
    if operator.name == "linear":
        return torch.ops.quantized.linear_prepack(operator.weight, operator.bias)
    arguments = operator.arguments
    if isinstance(arguments.get("padding"), str):
        raise NotTakenError("torch's kernels take no padding by name")
    pairs = [_pair(arguments.get(name, default)) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))]
    return torch.ops.quantized.conv2d_prepack(operator.weight, operator.bias, *pairs, arguments.get("groups", 1))


def _pair(value: Any) -> list[int]:
    values = [value] if isinstance(value, int) else [*value]
    return values if len(values) == 2 else values * 2


def _with_relu(operator: QuantizedOperator) -> str:
    return f"{operator.name}_relu" if operator.relu else operator.name


def _packed(operator: QuantizedOperator, tensors: list[torch.Tensor], packed: Any, zero_point: int) -> torch.Tensor:
    kernel = getattr(torch.ops.quantized, _with_relu(operator))
    result: torch.Tensor = kernel(tensors[0], packed, operator.output.scale, zero_point)
    return result


def _binary(operator: QuantizedOperator, tensors: list[torch.Tensor], _: Any, zero_point: int) -> torch.Tensor:
    if len(tensors) != 2:
        raise NotTakenError("one operand is no quantized tensor")
    kernel = getattr(torch.ops.quantized, _with_relu(operator))
    result: torch.Tensor = kernel(*tensors, operator.output.scale, zero_point)
    return result


def _cat(operator: QuantizedOperator, tensors: list[torch.Tensor], _: Any, zero_point: int) -> torch.Tensor:
    dim = operator.arguments.get("dim", 0)
    result: torch.Tensor = torch.ops.quantized.cat(tensors, dim, operator.output.scale, zero_point)
    return result


def _on_input_grid(function: Callable[..., torch.Tensor]) -> Any:
    """Return a kernel whose result is on its input's grid."""

    def kernel(operator: QuantizedOperator, tensors: list[torch.Tensor], _: Any, zero_point: int) -> torch.Tensor:
        if operator.relu or operator.operands[0][1] != operator.output:
            raise NotTakenError("the kernel gives its input's grid to its output, and the program has another")
        return function(tensors[0], **operator.arguments)

    return kernel


def _max_pool2d(
    x: torch.Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> torch.Tensor:
    return F.max_pool2d(x, kernel_size, stride or None, padding, dilation, ceil_mode)


def _avg_pool2d(x: torch.Tensor, kernel_size: Any, stride: Any = None, *rest: Any, **more: Any) -> torch.Tensor:
    return F.avg_pool2d(x, kernel_size, stride or None, *rest, **more)


_KERNELS: dict[str, Any] = {
    "linear": _packed,
    "conv2d": _packed,
    "add": _binary,
    "mul": _binary,
    "cat": _cat,
    "max_pool2d": _on_input_grid(_max_pool2d),
    "avg_pool2d": _on_input_grid(_avg_pool2d),
    "adaptive_avg_pool2d": _on_input_grid(F.adaptive_avg_pool2d),
    "mean": _on_input_grid(torch.mean),
    "hardtanh": _on_input_grid(F.hardtanh),
}


def _as_lsb(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison's fields; one that compared nothing has the unit that it would have had."""
    return comparison.record() | {"unit": "lsb"}
