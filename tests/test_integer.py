"""The exact representation, and the oracle with it: on a network that people ship, and at the edges of operators."""

from __future__ import annotations

import pytest
import torch
from networks import mobilenet_v2
from torch import nn
from torch.fx import Graph, GraphModule
from torch.nn import functional as F

from pt2e_ci.cells.cell import current_cell
from pt2e_ci.flow.capture import export
from pt2e_ci.flow.exact import representation
from pt2e_ci.flow.homes import import_home
from pt2e_ci.program.oracle import run_exactly
from pt2e_ci.program.segments import Reading

HOME = import_home(current_cell().flow)
ops = torch.ops.quantized_decomposed


def qdq_of(model, inputs):
    prepared = HOME.prepare(export(model.eval(), inputs), HOME.xnnpack(is_per_channel=False))
    prepared(*inputs)
    return HOME.convert(prepared)


def test_mobilenet_is_exact_throughout():
    model, inputs = mobilenet_v2(32)
    qdq = qdq_of(model, inputs)
    exact = run_exactly(Reading(qdq), inputs, runtime={})
    assert exact.approximated == []
    assert len(exact.levels) > 60
    # But for the last bit of a float32, in which a program gives its levels' real numbers.
    torch.testing.assert_close(representation(qdq)(*inputs).double(), exact.outputs[0], rtol=2.0**-23, atol=0)


class Pooled(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.conv, self.options = nn.Conv2d(2, 3, 1), options

    def forward(self, x):
        return F.avg_pool2d(self.conv(x), **self.options)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        {"kernel_size": (3, 2), "stride": (2, 3), "ceil_mode": True},
        {"kernel_size": 2, "divisor_override": 3},
        {"kernel_size": [2, 3], "padding": (1, 0), "ceil_mode": True, "count_include_pad": False},
    ],
    ids=str,
)
def test_average_pooling_with_every_option(options):
    inputs = (torch.arange(-49, 49).reshape(1, 2, 7, 7) / 16,)
    qdq = qdq_of(Pooled(**options), inputs)
    program = representation(qdq)
    exact = run_exactly(Reading(qdq), inputs, runtime={})
    assert exact.approximated == []
    torch.testing.assert_close(program(*inputs).double(), exact.outputs[0], rtol=1e-6, atol=1e-6)  # on no grid
    # Windows are added up, in integers: the division is in the unit.
    assert {node.args[-1] for node in program.graph.nodes if node.target == torch.ops.aten.avg_pool2d.default} == {1}


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, y):
        return {"sum": self.linear(x) + self.linear(y), "both": [x, (y,)]}


def test_program_is_called_and_answers_as_the_qdq_program_does():
    inputs = (torch.arange(8.0).reshape(2, 4), torch.ones(2, 4))
    qdq = qdq_of(Named(), inputs)
    expected, found = qdq(*inputs), representation(qdq)(*inputs)
    assert found.keys() == expected.keys()
    assert torch.equal(found["sum"], expected["sum"])
    assert torch.equal(found["both"][1][0], expected["both"][1][0])


def graph_of(build, **buffers):
    root, graph = nn.Module(), Graph()
    for name, value in buffers.items():
        root.register_buffer(name, value)
    graph.output(build(graph))
    return GraphModule(root, graph)


def test_zero_points_between_levels_are_taken_as_they_are():
    """As an embedding's table has them: (level - zero point) * scale, whatever the zero point is."""
    levels, scales = torch.tensor([[0, 15], [7, 8]], dtype=torch.uint8), torch.tensor([0.5, 0.25])

    def build(graph):
        weight, steps, points = (graph.get_attr(name) for name in ("levels", "scales", "points"))
        arguments = (weight, steps, points, 0, 0, 15, torch.uint8)
        table = graph.call_function(ops.dequantize_per_channel.default, arguments)
        x = graph.placeholder("x")
        x.meta["val"] = torch.zeros(2, 2)
        return graph.call_function(torch.ops.aten.add.Tensor, (x, table))

    program = graph_of(build, levels=levels, scales=scales, points=torch.tensor([7.5, 112.25]))
    exact = run_exactly(Reading(program), (torch.zeros(2, 2),), runtime={})
    assert exact.approximated == []
    assert exact.outputs[0].tolist() == [[-3.75, 3.75], [-26.3125, -26.0625]]
    # It has no integer form, and is left as it is.
    kept = representation(program)
    assert [node.target for node in kept.graph.nodes if node.op == "call_function"] == [
        ops.dequantize_per_channel.default,
        torch.ops.aten.add.Tensor,
    ]


def test_quantize_with_a_zero_point_between_levels_has_no_exact_form():
    def build(graph):
        arguments = (graph.placeholder("x"), graph.get_attr("scales"), graph.get_attr("points"), 0, 0, 15, torch.uint8)
        return graph.call_function(ops.quantize_per_channel.default, arguments)

    program = graph_of(build, scales=torch.tensor([0.5, 0.25]), points=torch.tensor([7.0, 3.4]))
    exact = run_exactly(Reading(program), (torch.ones(2, 2),), runtime={})
    assert exact.approximated == ["quantize_per_channel"]
