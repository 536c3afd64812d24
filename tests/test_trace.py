"""What ran, as one line: writes, views, bodies of higher-order operators, and what it is when it is run again."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import nn
from torch.fx import Graph, GraphModule, symbolic_trace

from pt2e_ci.operators.names import name_of
from pt2e_ci.program.trace import run, trace, trace_call

X = torch.arange(-8.0, 8.0).reshape(4, 4)


def names(found):
    return [name_of(step.target) for step in found.steps]


def given(found, values):
    """Return a trace's output when it is run again."""
    return found.replay(values)[found.output_values[0]]


class State(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(4))


def counting():
    """A program that adds to its own buffer, and gives it back."""
    graph = Graph()
    x = graph.placeholder("x")
    total = graph.get_attr("total")
    graph.call_function(torch.ops.aten.add_.Tensor, (total, 1))
    graph.output(graph.call_function(torch.ops.aten.add.Tensor, (x, total)))
    return GraphModule(State(), graph)


def test_state_is_seen_and_put_back():
    program = counting()
    found = trace(program, (X,))
    assert [tensor is program.total for tensor in found.state] == [True]
    assert program.total.tolist() == [0] * 4
    for _ in range(2):
        assert torch.equal(run(program, (X,), (), found).outputs[0], X + 1)
    assert program.total.tolist() == [0] * 4
    assert torch.equal(given(found, [X]), X + 1)


def test_inputs_stay_as_they_are():
    program = symbolic_trace(lambda x: x.add_(1))
    x = X.clone()
    assert torch.equal(trace(program, (x,)).outputs[0], X + 1)
    assert torch.equal(run(program, (x,), ()).outputs[0], X + 1)
    assert torch.equal(x, X)


def test_write_through_a_view_is_a_write():
    def program(x):
        y = x.clone()
        y[0].mul_(3)
        return y + 0

    found = trace(symbolic_trace(program), (X,))
    (written,) = [step.written for step in found.steps if step.written]
    assert len(written) == 2  # the view, and what it is a view of
    assert torch.equal(given(found, [2 * X]), program(2 * X))


def test_any_value_can_be_substituted():
    found = trace(symbolic_trace(lambda x: torch.relu(x + 1) * 2), (X,))
    (added,) = [step.results[0] for step in found.steps if name_of(step.target) == "add"]
    assert torch.equal(found.replay([X], {added: X})[found.output_values[0]], torch.relu(X) * 2)


def test_what_is_computed_for_nothing_is_not_live():
    def program(x):
        torch.tanh(x)
        return x + 1

    found = trace(symbolic_trace(program), (X,))
    live = [name_of(step.target) for step in found.steps if any(value in found.live for value in step.gives)]
    assert (names(found), live) == (["tanh", "add"], ["add"])


def test_shape_of_a_tensor_is_no_data():
    found = trace(symbolic_trace(lambda x: torch.ones_like(x) + 1), (X,))
    assert found.output_values[0] not in found.depends


def exported(model):
    pytest.importorskip("torch._higher_order_ops.scan")
    return torch.export.export(model.eval(), (X,)).module()


class Scan(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        def step(state, row):
            state = torch.tanh(self.linear(state) + row)
            return state, state.clone()

        from torch._higher_order_ops.scan import scan

        return scan(step, x[0], x)[1]


def test_body_of_a_loop_is_seen_each_time_it_runs():
    program = exported(Scan())
    found = trace(program, (X,))
    assert names(found).count("tanh") == len(X)
    (whole,) = [step for step in found.steps if name_of(step.target) == "scan"]
    assert len(whole.bodies) == 2 * len(X)
    assert all(step.is_inside for step in found.steps if name_of(step.target) == "tanh")
    assert any(value in found.live for step in found.steps if step.is_inside for value in step.gives)
    assert torch.equal(given(found, [X.flip(0)]), run(program, (X.flip(0),), ()).outputs[0])


class Cond(nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda y: y * 2, lambda y: torch.tanh(y), (x,))


def test_both_branches_are_one_line_for_all_inputs():
    program = exported(Cond())
    found = trace(program, (X,))
    assert {"mul", "tanh", "where"} <= set(names(found))
    assert trace(program, (-X,)).line == found.line
    for x in (X + 9, -X - 9):
        assert torch.equal(given(found, [x]), program(x))


def branching(x):
    return x * 2 if float(x.sum()) > 0 else torch.tanh(x)


def calling(function):
    graph = Graph()
    graph.output(graph.call_function(function, (graph.placeholder("x"),)))
    return GraphModule(nn.Module(), graph)


def test_branch_on_data_gives_another_line():
    program = calling(branching)
    assert trace(program, (X + 9,)).line != trace(program, (-X - 9,)).line
    assert trace(program, (X,)).exits == ["_local_scalar_dense"]


def test_truth_of_a_tensor_is_a_branch():
    found = trace(calling(lambda x: x * 2 if (x > 0).any() else torch.tanh(x)), (X,))
    assert (found.exits, found.branches) == ([], ["_local_scalar_dense"])


def test_users_code_is_looked_into():
    found = trace(calling(lambda x: torch.tanh(x) + 1), (X,))
    (_, call) = found.calls
    assert [name_of(step.target) for step in found.steps[call.first : call.end]] == ["tanh", "add"]


def outside(x):
    return torch.tensor(x.tolist()) * 2


def test_what_is_made_out_of_sight_depends_on_nothing():
    found = trace(calling(outside), (X,))
    assert found.exits == ["tolist"]
    assert found.output_values[0] not in found.depends


def test_program_is_called_as_its_code_says():
    """What is called is the code, which may be another graph's."""
    program = symbolic_trace(lambda x: torch.tanh(x) + 1)
    assert trace_call(program, (X,)).line == trace(program, (X,)).line
    program.graph = symbolic_trace(lambda x: torch.sin(x) + 1).graph
    program.forward = symbolic_trace(lambda x: torch.tanh(x) + 1).forward
    assert [names(trace_call(program, (X,))), names(trace(program, (X,)))] == [["tanh", "add"], ["sin", "add"]]


def test_kernel_in_python_is_looked_into():
    import torch.ao.quantization.fx._decomposed

    library = torch.library.Library("pt2e_ci_trace", "DEF")
    library.define("shifted(Tensor x) -> Tensor")
    library.impl("shifted", lambda x: torch.tanh(x) + 1, "CompositeExplicitAutograd")
    found = trace(calling(torch.ops.pt2e_ci_trace.shifted.default), (X,))
    assert names(found) == ["tanh", "add"]
    quantize = trace(symbolic_trace(lambda x: quantized(x)), (X,))
    assert names(quantize) == ["quantize_per_tensor"]


def quantized(x):
    return torch.ops.quantized_decomposed.quantize_per_tensor.default(x, 0.5, 0, -128, 127, torch.int8)


def test_one_of_several_results_is_picked_by_a_node_of_its_own():
    graph = Graph()
    parts = graph.call_function(torch.ops.aten.split.Tensor, (graph.placeholder("x"), 2))
    graph.output(graph.call_function(operator.getitem, (parts, 1)))
    found = trace(GraphModule(nn.Module(), graph), (X,))
    assert found.calls[-1].results == tuple(found.output_values)


def test_program_that_fails_says_so_in_its_own_words():
    def fails(x):
        raise LookupError("no such tensor")

    with pytest.raises(LookupError, match="no such tensor"):
        trace(calling(fails), (X,))


def returning(name):
    """A program that writes its input into its buffer, and returns it."""
    root, graph = nn.Module(), Graph()
    root.register_buffer(name, torch.zeros(4, 4))
    buffer = graph.get_attr(name)
    graph.call_function(torch.ops.aten.copy_.default, (buffer, graph.placeholder("x")))
    graph.output(buffer)
    return GraphModule(root, graph)


def test_buffer_that_is_returned_is_what_the_run_has_made_of_it():
    program = returning("kept")
    found = trace(program, (X,))
    assert torch.equal(found.outputs[0], X)
    assert torch.equal(run(program, (X,), (), found).outputs[0], X)
    assert torch.equal(given(found, [2 * X]), 2 * X)
    assert not program.kept.any()


def test_value_is_kept_as_it_was_when_it_was_given():
    def program(x):
        y = x + 1
        y.mul_(0)
        return y

    traced = symbolic_trace(program)
    (node,) = [one for one in traced.graph.nodes if one.name == "add"]
    assert torch.equal(run(traced, (X,), [node], trace(traced, (X,))).kept[node], X + 1)


class Shared(nn.Module):
    """Two buffers that are parts of one tensor."""

    def __init__(self):
        super().__init__()
        whole = torch.arange(8.0).reshape(2, 4)
        self.register_buffer("a", whole[1:])
        self.register_buffer("b", whole[:2])

    def forward(self, x):
        return x @ self.b.T + self.a.sum()


def test_constants_that_share_memory():
    root = Shared()
    tracer = torch.fx.Tracer()
    tracer.proxy_buffer_attributes = True
    program = GraphModule(root, tracer.trace(root))
    assert torch.equal(given(trace(program, (X,)), [2 * X]), root(2 * X))


def test_change_that_no_schema_tells_is_state_too():
    root = nn.Sequential(nn.BatchNorm1d(4))
    found = trace(symbolic_trace(root.train()), (X,))
    assert found.state
    assert root[0].running_mean.tolist() == [0] * 4


def sparse(x):
    return x.to_sparse().to_dense() * 2


def test_tensor_without_memory_of_its_own():
    assert torch.equal(trace(calling(sparse), (X,)).outputs[0], 2 * X)


def test_each_name_keeps_its_value_when_the_line_is_run_again():
    def program(x):
        made = x + 1
        before = made * 1
        made.mul_(2)
        return made + before

    found = trace(symbolic_trace(program), [X])
    made = found.steps[0].results[0]
    ((before, after),) = found.steps[2].written
    assert before == made
    replayed = found.replay([X])
    assert torch.equal(replayed[before], X + 1)
    assert torch.equal(replayed[after], (X + 1) * 2)
    assert torch.equal(replayed[found.output_values[0]], (X + 1) * 3)


def test_substitute_stays_as_it_is():
    found = trace(symbolic_trace(lambda x: (x + 1).mul_(2)), [X])
    substitute = torch.full_like(X, 10.0)
    for _ in range(2):
        assert torch.equal(
            found.replay([X], {found.steps[0].results[0]: substitute})[found.output_values[0]], X * 0 + 20
        )
    assert torch.equal(substitute, torch.full_like(X, 10.0))
