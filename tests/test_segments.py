"""The one reading of a Q/DQ program: grids, quantized operators, and whose word it is that they are quantized."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.ao.quantization.fx._decomposed
from conftest import converted, flow
from torch import nn
from torch.fx import symbolic_trace

from pt2e_ci.catalogue.cases import select_cases
from pt2e_ci.flow.capture import export
from pt2e_ci.judge import alignment
from pt2e_ci.pipeline import Clock
from pt2e_ci.program.segments import ANNOTATION, FROM_QUANTIZER, Reading
from pt2e_ci.program.trace import run, trace_call

X = torch.tensor([[[[1.0, -2.0], [0.5, 0.25]]]])
ops = torch.ops.quantized_decomposed


def quantized(x, scale=0.25):
    q = ops.quantize_per_tensor.default(x, scale, 1, -128, 127, torch.int8)
    return ops.dequantize_per_tensor.default(q, scale, 1, -128, 127, torch.int8)


def grids(function):
    reading = Reading(symbolic_trace(function))
    return [reading.output_grid(node) for node in reading.outputs]


def test_grid_of_the_last_quantize_node():
    (grid,) = grids(lambda x: quantized(quantized(x, 0.5) * 2, 0.125))
    assert (grid.one, grid.low, grid.high, grid.dtype) == ((0.125, 1), -128, 127, torch.int8)


@pytest.mark.parametrize(
    "move",
    [
        lambda x: x.reshape(4),
        lambda x: torch.relu(x),
        lambda x: torch.nn.functional.max_pool2d(x, 2),
        lambda x: x.permute(0, 1, 3, 2),
        lambda x: x.flatten(1),
        lambda x: x.unbind(0)[0],
    ],
)
def test_what_only_moves_values_keeps_them_on_their_grid(move):
    (grid,) = grids(lambda x: move(quantized(x)))
    assert grid.scales == (0.25,)


@pytest.mark.parametrize("compute", [lambda x: x * 2, lambda x: x.mean(), lambda x: torch.sigmoid(x)])
def test_what_computes_leaves_the_grid(compute):
    assert grids(lambda x: compute(quantized(x))) == [None]


def test_every_output_has_its_own():
    first, second, third = grids(lambda x: (quantized(x, 0.5), [quantized(x, 0.25), x]))
    assert (first.scales, second.scales, third) == ((0.5,), (0.25,), None)


def test_grid_that_is_found_at_run_time():
    def dynamic(x):
        scale, zero_point = ops.choose_qparams.tensor(x, -128, 127, 1e-5, torch.int8)
        q = ops.quantize_per_tensor.tensor(x, scale, zero_point, -128, 127, torch.int8)
        return ops.dequantize_per_tensor.tensor(q, scale, zero_point, -128, 127, torch.int8)

    reading = Reading(symbolic_trace(dynamic))
    (grid,) = [reading.output_grid(node) for node in reading.outputs]
    assert grid.is_runtime
    assert grid.one is None
    assert reading.runtime == grid.nodes
    kept = run(reading.program, (X,), grid.nodes).kept
    assert float(kept[grid.scales]) == pytest.approx(3 / 255)


def test_grid_of_channels():
    scales, zeros = torch.tensor([0.5, 0.25]), torch.tensor([0, 0])

    def program(x):
        q = ops.quantize_per_channel.default(x, scales, zeros, 3, -128, 127, torch.int8)
        return ops.dequantize_per_channel.default(q, scales, zeros, 3, -128, 127, torch.int8)

    (grid,) = grids(program)
    assert (grid.scales, grid.zero_points, grid.axis, grid.one) == ((0.5, 0.25), (0, 0), 3, None)
    assert grids(lambda x: program(x).reshape(4)) == [None]  # the axis is lost


def frontier(function, *inputs):
    program = symbolic_trace(function)
    found = trace_call(program, inputs or (X,))
    values = found.replay(inputs or (X,))
    return [values[value].tolist() for value in alignment.frontier(found)]


def test_levels_are_the_last_integers():
    assert frontier(lambda x: torch.relu(quantized(x))) == [[[[[5, -7], [3, 2]]]]]


def test_constants_are_no_levels():
    weight = torch.tensor([1, 2], dtype=torch.int8)
    assert frontier(lambda x: x * weight) == []


def test_levels_that_are_written_in_place():
    def program(x):
        out = torch.zeros_like(x)
        out.copy_(quantized(x))
        return out

    assert frontier(program) == [[[[[5, -7], [3, 2]]]]]


def test_furthest_of_int32_is_not_the_nearest():
    def reference(x):
        far = torch.full_like(x, -(2**31), dtype=torch.int32) + (0 * x).int()
        return (torch.round(x / 0.25) + 1).clamp(-128, 127).int() + 0 * far.clamp(0, 1)

    reading, level_0 = Reading(symbolic_trace(quantized)), torch.full((1, 1, 2, 2), -0.25)
    trace = trace_call(symbolic_trace(reference), (level_0,))
    found = alignment.Alignment(reading, trace, [trace.replay((level_0,))])
    (one,) = reading.levels
    found.align([{one.quantize.node: torch.zeros(1, 1, 2, 2, dtype=torch.int32)}])
    assert not trace.replay((level_0,))[found.levels[one.quantize.node]].any()


class Model(nn.Module):
    """A gelu between two annotated operators, and a product with a number."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.second(torch.nn.functional.gelu(self.first(x))) * 0.3


@pytest.fixture(scope="module")
def reading():
    inputs = (torch.arange(-8.0, 8.0).reshape(4, 4) / 4,)
    quantizer = lambda: flow().home.xnnpack(is_per_channel=False)  # noqa: E731
    return Reading(Clock().follow(flow().convert(Model().eval, inputs, quantizer)).qdq)


def test_annotated_is_what_the_quantizer_says(reading):
    assert reading.by_quantizer
    assert [(one.name, one.annotated) for one in reading.operators] == [
        ("linear", True),
        ("gelu", False),
        ("linear", True),
        ("mul", True),
    ]


def test_quantized_number_is_an_operand(reading):
    *_, product = reading.operators
    (left, right) = [operand for _, operand in product.operands]
    assert left.levels is None
    assert float((right.levels - right.grid.zero_points[0]) * right.grid.scales[0]) == pytest.approx(0.3, rel=0.01)


def test_operators_know_where_they_are_in_the_users_model(reading):
    assert [one.module for one in reading.operators] == ["first", "", "second", ""]
    assert len({one.source for one in reading.operators}) == 1  # one line of this file
    assert reading.operators[0].source.startswith("test_segments.py:")


@pytest.mark.parametrize(
    ("inner", "source"),
    [
        (f"{Path(torch.__file__).parent}/nn/modules/linear.py", "net.py:41"),
        ("/elsewhere/lib/python3.12/site-packages/torch/nn/modules/linear.py", "net.py:41"),
        ("/home/me/torch/layers.py", "layers.py:7"),
    ],
)
def test_line_of_source_is_the_users(inner, source):
    program = symbolic_trace(lambda x: quantized(torch.sigmoid(quantized(x))))
    for node in program.graph.nodes:
        node.meta["stack_trace"] = (
            f'  File "/home/me/net.py", line 41, in forward\n  File "{inner}", line 7, in forward\n'
        )
    assert [one.source for one in Reading(program).operators] == [source]


def test_neighbours_are_asked_where_no_quantizer_has_left_a_word():
    (case,) = select_cases(["residual_block"])
    program = converted(case)[0]
    with_word = [one.name for one in Reading(program).operators if one.annotated]
    kept = {node: node.meta.pop(ANNOTATION) for node in program.graph.nodes if ANNOTATION in node.meta}
    del program.meta[FROM_QUANTIZER]
    try:
        without = Reading(program)
        assert not without.by_quantizer
        assert [one.name for one in without.operators if one.annotated] == with_word == ["conv2d", "conv2d", "add"]
    finally:
        program.meta[FROM_QUANTIZER] = True
        for node, word in kept.items():
            node.meta[ANNOTATION] = word


def test_operator_is_read_with_all_that_an_engine_needs():
    (case,) = select_cases(["conv2d_padding"])
    ((name, operator),) = [(one.name, one) for one in Reading(converted(case)[0]).operators]
    assert name == "conv2d"
    assert (operator.weight.levels.dtype, operator.weight.grid.low) == (torch.int8, -127)
    assert operator.options["padding"] == [1, 1]
    assert operator.bias.shape == (4,)
    assert len(operator.activations) == 1


def test_capture_keeps_composite_operators():
    graph = export(Model().eval(), (torch.zeros(1, 4),))
    assert [node.target for node in graph.graph.nodes].count(torch.ops.aten.linear.default) == 2


def test_nothing_annotated_is_a_word_too():
    inputs = (torch.ones(4, 4),)
    quantizer = lambda: flow().home._quantizer.XNNPACKQuantizer()  # noqa: E731
    found = Reading(Clock().follow(flow().convert(Model().eval, inputs, quantizer)).qdq)
    assert found.by_quantizer
    assert found.operators == ()
