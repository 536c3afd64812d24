"""Walking back from an output to its grid, and to its integer levels."""

from __future__ import annotations

import pytest
import torch
import torch.ao.quantization.fx._decomposed
from torch.fx import symbolic_trace

from pt2e_ci.checks.grids import find_grid, integer_frontier, output_nodes
from pt2e_ci.checks.recording import record

X = torch.tensor([[[[1.0, -2.0], [0.5, 0.25]]]])
ops = torch.ops.quantized_decomposed


def quantized(x, scale=0.25):
    q = ops.quantize_per_tensor.default(x, scale, 1, -128, 127, torch.int8)
    return ops.dequantize_per_tensor.default(q, scale, 1, -128, 127, torch.int8)


def grids(function):
    return [find_grid(node) for node in output_nodes(symbolic_trace(function))]


def test_scale_of_the_last_quantize_node():
    (grid,) = grids(lambda x: quantized(quantized(x, 0.5) * 2, 0.125))
    assert grid.scale == 0.125


@pytest.mark.parametrize(
    "move",
    [
        lambda x: x.reshape(4),
        lambda x: torch.relu(x),
        lambda x: torch.nn.functional.max_pool2d(x, 2),
        lambda x: x.permute(0, 1, 3, 2),
        lambda x: x.flatten(1),
    ],
)
def test_what_only_moves_values_keeps_them_on_their_grid(move):
    (grid,) = grids(lambda x: move(quantized(x)))
    assert grid.scale == 0.25


@pytest.mark.parametrize("compute", [lambda x: x * 2, lambda x: x.mean(), lambda x: torch.sigmoid(x)])
def test_what_computes_leaves_the_grid(compute):
    assert grids(lambda x: compute(quantized(x))) == [None]


def test_every_output_has_its_own():
    first, second, third = grids(lambda x: (quantized(x, 0.5), [quantized(x, 0.25), x]))
    assert (first.scale, second.scale, third) == (0.5, 0.25, None)


def test_scale_that_is_found_at_run_time():
    def dynamic(x):
        scale, zero_point = ops.choose_qparams.tensor(x, -128, 127, 1e-5, torch.int8)
        q = ops.quantize_per_tensor.tensor(x, scale, zero_point, -128, 127, torch.int8)
        return ops.dequantize_per_tensor.tensor(q, scale, zero_point, -128, 127, torch.int8)

    program = symbolic_trace(dynamic)
    (grid,) = [find_grid(node) for node in output_nodes(program)]
    recording = record(program, (X,), keep=[grid.scale])
    assert grid.steps(recording, recording.outputs[0]) == pytest.approx(3 / 255)


def test_per_channel():
    scales, zeros = torch.tensor([0.5, 0.25]), torch.tensor([0, 0])

    def program(x):
        q = ops.quantize_per_channel.default(x, scales, zeros, 3, -128, 127, torch.int8)
        return ops.dequantize_per_channel.default(q, scales, zeros, 3, -128, 127, torch.int8)

    traced = symbolic_trace(program)
    (grid,) = [find_grid(node) for node in output_nodes(traced)]
    recording = record(traced, (X,), keep=[grid.scale])
    assert grid.steps(recording, recording.outputs[0]).tolist() == [[[[0.5, 0.25]]]]


def test_levels_are_the_last_integers():
    program = symbolic_trace(lambda x: torch.relu(quantized(x)))
    recording = record(program, (X,))
    (node,) = integer_frontier(program, recording)
    kept = record(program, (X,), keep=[node]).kept
    assert kept[node].tolist() == [[[[5, -7], [3, 2]]]]


def test_constants_are_no_levels():
    weight = torch.tensor([1, 2], dtype=torch.int8)
    program = symbolic_trace(lambda x: x * weight)
    assert integer_frontier(program, record(program, (X,))) == []


def test_levels_that_are_written_in_place():
    def program(x):
        out = torch.zeros_like(x)
        out.copy_(quantized(x))
        return out

    traced = symbolic_trace(program)
    (node,) = integer_frontier(traced, record(traced, (X,)))
    assert record(traced, (X,), keep=[node]).kept[node].tolist() == [[[[5, -7], [3, 2]]]]
