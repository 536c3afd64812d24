"""What is integer and what is not, on programs from levels to levels that are written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace
from torch.nn import functional as F

from pt2e_ci.judge.provenance import Segment, provenance
from pt2e_ci.program.trace import trace_call

Q = torch.arange(-16, 16, dtype=torch.int8).reshape(4, 8)
P = Q.flip(0)
WEIGHT = torch.arange(-32, 32, dtype=torch.int8).reshape(8, 8)
WIDE = WEIGHT.to(torch.int32).t()
TABLE = torch.arange(256, dtype=torch.int8).flip(0)
BOUNDARIES = torch.arange(-300, 300, 7)


def followed(function, *levels, operator="", constants=()):
    """Follow a function's elements from its integer inputs to what it gives."""
    levels = levels or (Q,)
    program = function if isinstance(function, torch.fx.GraphModule) else symbolic_trace(function)
    found = trace_call(program, levels)
    (target,) = found.output_values
    segment = Segment.between(found, found.inputs, target)
    chosen = [value for value, tensor in found.constants.items() if any(tensor is one for one in constants)]
    return provenance(segment, found.replay(levels), operator, chosen)


def wide(q):
    return q.to(torch.int32) - 3


def to_levels(accumulator, scale=0.01):
    return (torch.round(accumulator * scale).to(torch.int32) + 1).clamp(-128, 127).to(torch.int8)


def product(q):
    return F.linear(wide(q), WEIGHT.to(torch.int32))


def halves(q):
    accumulator = product(q)
    high, low = accumulator >> 8, accumulator & 255
    return torch.round((high.to(torch.float32) * 256 + low.to(torch.float32)) * 0.01).to(torch.int8)


def split_k(q):
    parts = [F.linear(wide(q)[:, part], WEIGHT[:, part].to(torch.int32)) for part in (slice(0, 5), slice(5, 8))]
    return to_levels(parts[0] + parts[1])


def windows(q):
    return wide(q).unfold(1, 2, 2).amax(-1).to(torch.int8)


def larger_by_where(q):
    left, right = wide(q)[:, ::2], wide(q)[:, 1::2]
    return torch.where(left > right, left, right).to(torch.int8)


def written(q):
    result = q.new_zeros(4, 16)
    result[:, :8].copy_(q)
    result[:, 8:].copy_(q + 1)
    return result


def added_in_place(q):
    total = wide(q).clone()
    total.view(-1).add_(1)
    return to_levels(total)


def set_row(x):
    return x.index_put([torch.tensor([0])], x[1])


RIGHT = {
    "rounding": lambda q: to_levels(product(q)),
    "floor": lambda q: torch.floor(product(q) * 0.01 + 0.5).to(torch.int8),
    "fraction": lambda q: (lambda x: (x - (x - torch.floor(x))).to(torch.int8))(product(q) * 0.01),
    "copysign": lambda q: torch.trunc((x := product(q) * 0.01) + torch.copysign(torch.tensor(0.5), x)).to(torch.int8),
    "ldexp": lambda q: torch.round(torch.ldexp(product(q).to(torch.float64), torch.tensor(-7))).to(torch.int8),
    "addcmul": lambda q: torch.addcmul(torch.tensor(1.0), product(q).float(), torch.tensor(0.01)).to(torch.int8),
    "two halves": halves,
    "weight in int64": lambda q: to_levels(q.to(torch.int64) @ WEIGHT.to(torch.int64)),
    "where": larger_by_where,
    "unfold and amax": windows,
    "table": lambda q: TABLE[q.to(torch.int64) + 128],
    "gather": lambda q: torch.gather(TABLE, 0, q.flatten().to(torch.int64) + 128).reshape(4, 8),
    "einsum": lambda q: to_levels(torch.einsum("ij,kj->ik", wide(q), WEIGHT.to(torch.int32))),
    "split K": split_k,
    "never narrowed": lambda q: torch.round(product(q) * 0.01).to(torch.int64),
    "bucketize": lambda q: torch.bucketize(product(q), BOUNDARIES, right=True),
    "comparisons": lambda q: (product(q)[..., None] >= BOUNDARIES).sum(-1) - 128,
    "doubled": lambda q: to_levels(wide(q) * 2),
    "y + y": lambda q: to_levels((y := wide(q)) + y),
    "moved": lambda q: to_levels(torch.cat([product(q).t().flip(0), product(q).t()]).reshape(4, 16)),
    "written": written,
    "added in place": added_in_place,
    "chunked": lambda q: to_levels(torch.cat(torch.chunk(product(q).to(torch.float64), 2, -1), -1)),
    "turned": lambda q: to_levels(torch.rot90(product(q).to(torch.float64), 1, [0, 1])),
    "clamped by a mask of places": lambda q: to_levels(set_row(product(q).to(torch.float64))),
    "resized": lambda q: to_levels(
        torch.mm(wide(q), WEIGHT.to(torch.int32).t(), out=q.new_empty(0, dtype=torch.int32))
    ),
    "unfolded": lambda q: to_levels(F.unfold(product(q).to(torch.float64)[None, None], (2, 2), padding=1)),
    "integer ReLU": lambda q: to_levels(torch.maximum(wide(q), torch.tensor(0))),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_ones(name):
    found = followed(RIGHT[name])
    assert (found.in_float, found.unseen, found.around) == ([], [], frozenset())


def floats(q):
    return q.to(torch.float32) * 0.5


def clamp(q):
    """A function that only shares its name with an operator that computes nothing."""
    return torch.matmul(floats(q), floats(WEIGHT)).to(torch.int32)


def copied(q):
    result = q.new_empty((4, 8), dtype=torch.float32)
    result.copy_(torch.matmul(floats(q), floats(WEIGHT)))
    return result.to(torch.int8)


FLOAT = {
    "linear": lambda q: F.linear(floats(q), floats(WEIGHT)).to(torch.int8),
    "whole numbers in float32": lambda q: F.linear(q.to(torch.float32), WEIGHT.to(torch.float32)).to(torch.int32),
    "float64": lambda q: (q.to(torch.float64) @ WEIGHT.to(torch.float64)).to(torch.int32),
    "einsum": lambda q: torch.einsum("ij,jk->ik", floats(q), floats(WEIGHT)).to(torch.int32),
    "convolution": lambda q: F.conv1d(floats(q)[None], torch.ones(1, 4, 1)).to(torch.int8),
    "mean": lambda q: floats(q).mean(-1).to(torch.int8),
    "largest of two": lambda q: floats(q).amax(0).to(torch.int8),
    "tanh": lambda q: to_levels(torch.tanh(floats(q))),
    "erf": lambda q: to_levels(torch.erf(floats(q))),
    "a name that means nothing": clamp,
    "copy": copied,
    "bits": lambda q: (floats(q).view(torch.int32) >> 3).to(torch.int8),
    "complex": lambda q: (q.to(torch.complex64) @ WEIGHT.to(torch.complex64)).real.to(torch.int32),
    "a table of rows, summed": lambda q: (
        torch.arange(256.0 * 8).reshape(8, 256)[:, q[0].to(torch.int64)].sum(1).to(torch.int8)
    ),
    "a quantized dtype": lambda q: torch.int_repr(torch.quantize_per_tensor(floats(q), 0.5, 0, torch.qint32).t()),
    "cumulated": lambda q: floats(q).cumsum(0).to(torch.int8),
}
JOINED = {
    "add": lambda q, p: to_levels(floats(q) + floats(p)),
    "mul": lambda q, p: to_levels(floats(q) * floats(p)),
    "where": lambda q, p: to_levels(torch.where(q > 0, floats(q), floats(p))),
    "fmod": lambda q, p: to_levels(torch.fmod(floats(q), floats(p))),
    "floor_divide": lambda q, p: to_levels(torch.floor_divide(floats(q), floats(p))),
    "clamp": lambda q, p: to_levels(torch.clamp(floats(q), min=floats(p))),
    "maximum": lambda q, p: to_levels(torch.maximum(floats(q), floats(p))),
    "compared": lambda q, p: to_levels((floats(q) > floats(p)).to(torch.int32)),
    "a range of one": lambda q, p: to_levels(floats(q) * floats(p)[..., None].amax(-1)),
    "integers that are divided": lambda q, p: to_levels(torch.true_divide(q.to(torch.int32), p.to(torch.int32))),
}


@pytest.mark.parametrize("name", FLOAT)
def test_float_compute(name):
    assert followed(FLOAT[name]).in_float


@pytest.mark.parametrize("name", JOINED)
def test_joins_in_float(name):
    assert followed(JOINED[name], Q, P).in_float


def test_a_cat_of_floats_is_float_where_it_is_the_operator():
    def joined(q, p):
        return to_levels(torch.cat([floats(q), floats(p)]))

    assert followed(joined, Q, P, operator="cat").in_float == ["cat on float32"]
    assert followed(joined, Q, P, operator="linear").in_float == []


def test_a_decoy_of_the_operator_is_not_it():
    def program(q):
        decoy = torch.add(q.to(torch.int32), q.to(torch.int32)) * 0
        return to_levels(floats(q) + floats(q)) + decoy

    assert followed(program, operator="add").in_float == ["add on float32"]


@pytest.mark.parametrize("join", [torch.add, torch.mul, torch.maximum, lambda a, b: torch.where(a > b, a, b)])
def test_joins_of_integers(join):
    assert followed(lambda q, p: to_levels(join(wide(q), wide(p))), Q, P).in_float == []


@pytest.mark.parametrize(
    ("operator", "function"),
    [("relu", F.relu), ("hardtanh", F.hardtanh), ("max_pool2d", lambda x: F.max_pool2d(x[None], 2)[0])],
)
def test_an_operator_of_its_own_that_runs_on_floats(operator, function):
    """As a part of a contraction's requantization it is a clamp, and no fault."""
    assert followed(lambda q: to_levels(function(floats(q))), operator=operator).in_float
    if operator != "max_pool2d":
        assert followed(lambda q: to_levels(function(product(q).to(torch.float32))), operator="linear").in_float == []


def test_a_quantized_scalar_is_an_operand():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scalar", torch.tensor(77, dtype=torch.int8))

        def forward(self, q):
            return to_levels(floats(q) * floats(self.scalar))

    root, tracer = Scaled(), torch.fx.Tracer()
    tracer.proxy_buffer_attributes = True
    program = torch.fx.GraphModule(root, tracer.trace(root))
    assert followed(program).in_float == []
    assert followed(program, constants=[program.scalar]).in_float == ["mul on float32"]


def test_dtypes_on_the_way():
    assert followed(lambda q: to_levels(product(q))).dtypes == {torch.float32}
    assert followed(lambda q: to_levels(product(q).to(torch.float16))).dtypes >= {torch.float16}
    assert followed(lambda q: torch.bucketize(product(q), BOUNDARIES)).dtypes == set()


class Scan(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, q):
        from torch._higher_order_ops.scan import scan

        def step(state, row):
            state = state + row
            return state, state.clone()

        return scan(step, q[0].to(self.dtype), q.to(self.dtype))[1].to(torch.int32)


@pytest.mark.parametrize(("dtype", "is_float"), [(torch.int32, False), (torch.float32, True)])
def test_loops_are_looked_into(dtype, is_float):
    pytest.importorskip("torch._higher_order_ops.scan")
    program = torch.export.export(Scan(dtype).eval(), (Q,)).module()
    found = trace_call(program, (Q,))
    segment = Segment.between(found, found.inputs, found.output_values[0])
    assert bool(provenance(segment, found.replay([Q])).in_float) is is_float


def test_the_input_around_the_levels():
    def around(x):
        q = torch.round(x).to(torch.int8)
        return product(q) + torch.round(x.sum() * 0).to(torch.int32)

    x = Q.to(torch.float32)
    found = trace_call(symbolic_trace(around), (x,))
    (levels,) = [one for one, info in found.info.items() if info.dtype is torch.int8 and one in found.depends]
    segment = Segment.between(found, [levels], found.output_values[0])
    assert provenance(segment, found.replay([x])).around == {*found.inputs}


def dynamic(scale_of):
    def program(x):
        scale = scale_of(x)
        q = torch.round(x / scale).to(torch.int32).clamp(-128, 127).to(torch.int8)
        return product(q).to(torch.float32) * scale

    return program


@pytest.mark.parametrize(
    ("scale", "is_range"),
    [
        (lambda x: torch.amax(x.abs(), -1, keepdim=True) / 127, True),
        (lambda x: x.abs().max() / 127, True),
        (lambda x: (torch.aminmax(x)[1] - torch.aminmax(x)[0]) / 255, True),
        (lambda x: x.abs().mean() / 127, False),
        (lambda x: x[..., None].amax(-1), False),
        (lambda x: F.pad(x[..., None], (0, 1), value=-1e30).amax(-1), False),
        (lambda x: F.linear(x.abs().amax(-1, keepdim=True), torch.ones(1, 1)) / 127, False),
    ],
    ids=["rows", "all", "both ends", "a mean", "a range of one", "a range of one and a constant", "a product"],
)
def test_scales_that_are_found_at_run_time(scale, is_range):
    x = Q.to(torch.float32) / 3
    found = trace_call(symbolic_trace(dynamic(scale)), (x,))
    (levels,) = [one for one, info in found.info.items() if info.dtype is torch.int8 and one in found.depends]
    segment = Segment.between(found, [levels], found.output_values[0])
    seen = provenance(segment, found.replay([x]), is_dynamic=True)
    assert (not seen.in_float and not seen.around) is is_range
    assert provenance(segment, found.replay([x])).in_float or not is_range  # of a static program it is float compute


def test_a_range_meets_its_own_tensor_only():
    def other(x, y):
        q = torch.round(x).to(torch.int8)
        return product(q).to(torch.float32) * y.abs().max()

    x = Q.to(torch.float32)
    found = trace_call(symbolic_trace(other), (x, x))
    (levels,) = [one for one, info in found.info.items() if info.dtype is torch.int8 and one in found.depends]
    segment = Segment.between(found, [levels], found.output_values[0])
    seen = provenance(segment, found.replay([x, x]), is_dynamic=True)
    assert seen.in_float == ["mul of a tensor and the range of another one"]


@torch.library.custom_op("pt2e_ci_tests::in_python", mutates_args=())
def in_python(q: torch.Tensor) -> torch.Tensor:
    return torch.matmul(q.to(torch.float32), WEIGHT.to(torch.float32)).to(torch.int32)


@torch.library.custom_op("pt2e_ci_tests::in_numbers", mutates_args=())
def in_numbers(q: torch.Tensor) -> torch.Tensor:
    return torch.tensor([[3 * number for number in row] for row in q.tolist()], dtype=torch.int32)


def test_an_operator_of_the_users_is_looked_into():
    found = followed(lambda q: to_levels(torch.ops.pt2e_ci_tests.in_python(q)))
    assert found.in_float == ["mm on float32"]


def test_what_an_operator_does_with_numbers_is_out_of_sight():
    found = followed(lambda q: to_levels(torch.ops.pt2e_ci_tests.in_numbers(q)))
    assert found.unseen == ["in_numbers"]


def test_a_body_that_is_no_graph_is_out_of_sight():
    map_impl = pytest.importorskip("torch._higher_order_ops.map").map_impl

    def body(row):
        return [floats(row).to(torch.int32)]

    def mapped(q):
        return map_impl(body, [q], [])[0]

    graph = torch.fx.Graph()
    graph.output(graph.call_function(mapped, (graph.placeholder("q"),)))
    found = trace_call(torch.fx.GraphModule(nn.Module(), graph), (Q,))
    segment = Segment.between(found, found.inputs, found.output_values[0])
    assert provenance(segment, found.replay([Q])).unseen


def test_a_name_in_a_namespace_of_torchs_means_nothing():
    library = torch.library.Library("quantized_decomposed", "FRAGMENT")
    library.define("linear_of_integers(Tensor q) -> Tensor")
    library.impl("linear_of_integers", lambda q: clamp(q), "CompositeExplicitAutograd")
    found = followed(lambda q: to_levels(torch.ops.quantized_decomposed.linear_of_integers(q)))
    assert found.in_float == ["mm on float32"]
