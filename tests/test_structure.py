"""Integer coverage, read off small programs that are written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace

from pt2e_ci.judge.structure import read_structure, still_float
from pt2e_ci.program.segments import Reading
from pt2e_ci.program.trace import trace

X = torch.arange(-8, 8, dtype=torch.float32).reshape(2, 8)
WEIGHT = torch.arange(-32, 32, dtype=torch.int8).reshape(8, 8)


def structure(function, *inputs):
    return structure_of(symbolic_trace(function), *inputs)


def structure_of(program, *inputs):
    return read_structure(trace(program, inputs or (X,)), Reading(program).annotated)


def quantize(x, scale=0.5, zero_point=3):
    return (torch.round(x / scale).to(torch.int32) + zero_point).clamp(-128, 127).to(torch.int8)


def dequantize(q, scale=0.5, zero_point=3):
    return (q.to(torch.float32) - zero_point) * scale


def counts(found):
    return found.integer, dict(found.in_float)


def test_spelled_out_quantize_and_dequantize_are_no_compute():
    assert counts(structure(lambda x: dequantize(quantize(x)))) == (0, {})
    assert structure(lambda x: dequantize(quantize(x))).coverage is None


def test_linear_on_integers():
    def program(x):
        accumulator = nn.functional.linear(quantize(x).to(torch.int32) - 3, WEIGHT.to(torch.int32))
        return dequantize(torch.round(accumulator * 0.01).to(torch.int32).clamp(-128, 127))

    assert counts(structure(program)) == (1, {})


def test_linear_on_integers_that_were_cast_to_float():
    def program(x):
        accumulator = nn.functional.linear(quantize(x).to(torch.float32) - 3, WEIGHT.to(torch.float32))
        return dequantize(torch.round(accumulator * 0.01).to(torch.int32).clamp(-128, 127))

    assert counts(structure(program)) == (0, {"linear": 1})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_every_float_is_float(dtype):
    def program(x):
        return torch.matmul(quantize(x).to(dtype), WEIGHT.to(dtype))

    assert counts(structure(program)) == (0, {"matmul": 1})


@pytest.mark.parametrize(
    "multiply", [torch.matmul, torch.mm, lambda a, b: torch.addmm(torch.zeros(8, dtype=torch.int32), a, b)]
)
def test_other_words_for_a_product(multiply):
    found = structure(lambda x: multiply(quantize(x).to(torch.int32), WEIGHT.to(torch.int32)) * 0.5)
    assert counts(found) == (1, {})


def test_addition_of_two_activations_is_compute():
    def program(x, y):
        return dequantize(quantize(x).to(torch.int32) + quantize(y).to(torch.int32))

    assert counts(structure(program, X, X)) == (1, {})
    assert counts(structure(lambda x, y: x + y, X, X)) == (0, {"add": 1})
    assert counts(structure(lambda x: x + x)) == (0, {"add": 1})


def test_relu_belongs_to_the_operator_before_it():
    assert counts(structure(lambda x, y: torch.relu(x + y), X, X)) == (0, {"add": 1})
    assert counts(structure(lambda x: torch.relu(x))) == (0, {"relu": 1})


def test_relu_of_a_value_that_is_used_elsewhere_stands_alone():
    def program(x, y):
        total = x + y
        return torch.relu(total), total

    assert counts(structure(program, X, X)) == (0, {"add": 1, "relu": 1})


def test_unknown_operator_on_floats_is_float_compute():
    assert counts(structure(lambda x: torch.erf(x))) == (0, {"erf": 1})


def test_compute_for_nothing_does_not_count():
    def program(x):
        q = quantize(x)
        torch.matmul(q.to(torch.int32), WEIGHT.to(torch.int32))
        return torch.matmul(dequantize(q), WEIGHT.to(torch.float32))

    assert counts(structure(program)) == (0, {"matmul": 1})


def test_scales_found_at_run_time_are_no_operands():
    def program(x):
        scale = (torch.amax(x) - torch.amin(x)) / 255
        q = torch.round(x / scale).to(torch.int32).clamp(-128, 127)
        return torch.matmul(q, WEIGHT.to(torch.int32)) * scale

    assert counts(structure(program)) == (1, {})


class FloatInside(nn.Module):
    """A module that hides a float product behind integers on both sides."""

    def forward(self, q):
        return torch.matmul(q.to(torch.float32), WEIGHT.to(torch.float32)).to(torch.int32)


class Hiding(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, x):
        return dequantize(self.inside(quantize(x)))


class LeafTracer(torch.fx.Tracer):
    def is_leaf_module(self, m, module_qualified_name):
        return m is not self.root


def test_module_is_looked_into():
    root = Hiding(FloatInside())
    program = torch.fx.GraphModule(root, LeafTracer().trace(root))
    assert any(node.op == "call_module" for node in program.graph.nodes)
    found = structure_of(program)
    assert counts(found)[0] == 0
    assert sum(found.in_float.values()) == 1


def hidden_product(q):
    return torch.matmul(q.to(torch.float32), WEIGHT.to(torch.float32)).to(torch.int32)


def test_function_is_looked_into():
    program = symbolic_trace(lambda x: dequantize(quantize(x)))
    cast = next(node for node in program.graph.nodes if torch.int8 in node.args)
    with program.graph.inserting_after(cast):
        call = program.graph.call_function(hidden_product, (cast,))
    cast.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)
    program.recompile()
    found = structure_of(program)
    assert found.integer == 0
    assert sum(found.in_float.values()) == 1


def test_left_alone_by_the_quantizer_is_no_fault_of_the_representation():
    def qdq(x):
        q = torch.ops.quantized_decomposed.quantize_per_tensor.default(x, 0.5, 0, -128, 127, torch.int8)
        x = torch.ops.quantized_decomposed.dequantize_per_tensor.default(q, 0.5, 0, -128, 127, torch.int8)
        return torch.erf(torch.nn.functional.linear(x, WEIGHT.to(torch.float32)))

    import torch.ao.quantization.fx._decomposed

    found = structure(qdq)
    assert [(operator.name, operator.quantized) for operator in found.operators] == [
        ("linear", False),  # its weight was not quantized
        ("erf", False),
    ]
    assert not still_float(found, found)


def float_weight():
    return WEIGHT.to(torch.float32)


def multiply_and_return(x, out):
    torch.matmul(x, float_weight(), out=out)
    return out


def copied(x):
    result = torch.empty_like(x)
    result.copy_(torch.matmul(x, float_weight()))
    return result


@pytest.mark.parametrize(
    "program",
    [
        lambda x: nn.functional.linear(input=x, weight=float_weight()),
        lambda x: torch.matmul(input=x, other=float_weight()),
        lambda x: torch.einsum("ij,jk->ik", x, float_weight()),
        lambda x: torch.ops.aten.einsum.default("ij,jk->ik", [x, float_weight()]),
        lambda x: torch.add(input=x, other=x),
        lambda x: torch.cat(tensors=[x, x]),
        lambda x: torch.cat(torch.split(x, 1)),
        lambda x: multiply_and_return(x, torch.empty_like(x)),
        lambda x: copied(x)[:1],
        lambda x: torch.matmul(torch.amax(x, 1, keepdim=True).expand(2, 8), float_weight()),
    ],
    ids=["linear", "matmul", "einsum", "aten.einsum", "add", "cat", "split", "out", "copy_", "after amax"],
)
def test_float_compute_is_seen_however_it_is_written(program):
    found = structure(program)
    assert found.integer == 0
    assert found.in_float.total() == 1


def clamp(q):
    """A function that only shares its name with an operator that computes nothing."""
    return torch.matmul(q.to(torch.float32), float_weight()).to(torch.int32)


def linear(q):
    """One that branches on a value, which cannot be traced."""
    product = torch.matmul(q.to(torch.float32), float_weight())
    return (product + 1 if float(product.sum()) > 1e30 else product).to(torch.int32)


def square(a, b):
    return a * b


def calling(function, *, twice=False):
    program = symbolic_trace(lambda x: quantize(x).to(torch.float32))
    (output,) = [node for node in program.graph.nodes if node.op == "output"]
    source = output.args[0]
    with program.graph.inserting_before(output):
        output.args = (program.graph.call_function(function, (source, source) if twice else (source,)),)
    program.recompile()
    return structure_of(program)


def test_name_of_a_users_function_means_nothing():
    assert calling(clamp).in_float == {"mm": 1}  # as the dispatcher sees it


def test_what_cannot_be_looked_into_is_not_taken_for_integer():
    assert calling(linear).in_float == {"linear (cannot be looked into)": 1}


def test_operand_that_is_given_twice():
    assert calling(square, twice=True).in_float == {"mul": 1}


@pytest.mark.parametrize(
    "scale",
    [
        lambda x: torch.amax(x.abs(), -1, keepdim=True) / 127,
        lambda x: x.abs().max() / 127,
        lambda x: (torch.aminmax(x)[1] - torch.aminmax(x)[0]) / 255,
    ],
)
def test_dynamic_scales_are_no_operands(scale):
    def program(x):
        q = torch.round(x / scale(x)).to(torch.int32)
        return torch.matmul(q, WEIGHT.to(torch.int32)) * scale(x)

    assert counts(structure(program)) == (1, {})


def test_other_roundings_are_no_compute():
    def program(x):
        a = torch.matmul(quantize(x).to(torch.int32), WEIGHT.to(torch.int32)) * 0.01
        away_from_zero = torch.sign(a) * torch.floor(torch.abs(a) + 0.5)
        return away_from_zero.to(torch.int32) - torch.full_like(away_from_zero, 3)

    assert counts(structure(program)) == (1, {})


def test_largest_of_integers_is_a_pooling():
    assert counts(structure(lambda x: dequantize(torch.amax(quantize(x), -1)))) == (1, {})
