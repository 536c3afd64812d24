"""What was prepared is the float model, or the result says that it is not."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import flow
from torch import nn

from pt2e_ci.flow.capture import export
from pt2e_ci.flow.exact import representation
from pt2e_ci.judge.verdict import InputSet, judge
from pt2e_ci.pipeline import Clock, StageError
from pt2e_ci.plugins import load
from pt2e_ci.program.float_model import FloatModel, check_shapes
from pt2e_ci.record.criteria import DEFAULT, Criteria

X = torch.arange(-12.0, 12.0).reshape(3, 8) / 4


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return self.linear(x) + x


SETS = ((X,), (X.flip(0),))


def judged(model, inputs=SETS, change=lambda graph: None):
    """Judge a model whose prepared graph is changed before it is calibrated."""
    with_one = flow()
    home = with_one.home

    class Changing:
        def __getattr__(self, name):
            return getattr(home, name)

        def prepare(self, graph, quantizer):
            prepared = home.prepare(graph, quantizer)
            change(prepared)
            return prepared

    changed = type(with_one)(Changing(), with_one.representation, with_one.patterns)
    sets = [InputSet(str(number), tensors) for number, tensors in enumerate(inputs)]
    stages = changed.convert(model.eval, sets[0].tensors, load("quantizers", "xnnpack_per_tensor"))
    return Clock().follow(changed.judge(stages, sets, DEFAULT)).judgement.case


def test_what_quantization_costs():
    found = judged(Net())
    assert "PQ003" not in {found.reason.code, *(note.code for note in found.notes)}
    (output,) = found.costs
    assert 30 < output.sqnr < 70  # dB, of eight bits
    costs = {one.name: one.cost for one in found.operators}
    assert costs["input"].max <= 0.51
    assert costs["linear"].sqnr > costs["add"].sqnr - 20


def test_prepared_program_that_is_another_function():
    def detour(prepared):
        (node,) = [one for one in prepared.graph.nodes if one.target is torch.ops.aten.add.Tensor]
        node.args = (node.args[0], node.args[0])
        prepared.recompile()

    found = judged(Net(), change=detour)
    assert (found.outcome, found.reason.code) == ("mismatch", "PQ003")
    assert found.reason.text.startswith("what was quantized is not the float model: output 0 is up to")


class Masked(nn.Module):
    def forward(self, x, mask):
        return x + mask


def test_mask_of_minus_infinity():
    mask = torch.zeros(3, 8).index_fill(1, torch.tensor([0]), -math.inf)
    found = judged(Masked(), [(X, mask), (X, mask)])
    assert found.outcome == "mismatch"
    (why,) = [one for one in (found.reason, *found.notes) if one.code == "PQ004"]
    assert "activation_post_process_1" in why.text
    assert "PQ004" not in {one.code for one in judged(Masked(), [(X, X), (X, X)]).notes}


def test_batch_norm_may_be_folded():
    model = FloatModel(None)
    model.hold((X,), (X * (1 + 2.0**-18),))
    assert model.lost is None
    model.hold((X,), (X * (1 + 2.0**-14),))
    assert model.lost


def test_inputs_of_several_shapes():
    assert check_shapes([(X,), (X,)]) is None
    text = check_shapes([(X,), (X, X[:1])]) or check_shapes([(X,), (X[:1],)])
    assert text.startswith("tensor 0 of inputs[1] has shape (1, 8), that of inputs[0] has (3, 8)")


def test_training_mode_is_an_error():
    class Dropping(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x + x, 0.5, training=True)

    with pytest.raises(StageError) as error:
        judged(Dropping())
    assert error.value.__cause__.reason.code == "PQ040"
    program = export(Dropping(), (X,))
    found = judge(program, program, [InputSet("x", (X,))], DEFAULT).case
    assert (found.outcome, found.reason.code) == ("error", "PQ040")  # of programs that are given


@pytest.mark.parametrize("arithmetic", [(), ("float32",), ("integer",)])
def test_arithmetic_that_is_asked_for(arithmetic):
    sets = [InputSet("0", (X,)), InputSet("1", (X.flip(0),))]
    model = nn.Sequential(nn.Linear(8, 8)).eval()
    qdq = Clock().follow(flow().convert(lambda: model, (X,), load("quantizers", "xnnpack_per_tensor"))).qdq
    found = judge(qdq, flow().represent(qdq).program, sets, Criteria(arithmetic=arithmetic)).case
    assert (found.reason.code == "PQ019") is (arithmetic == ("integer",))
    exact = judge(qdq, representation(qdq), sets, Criteria(arithmetic=("integer",))).case
    assert (exact.outcome, {one.arithmetic for one in exact.operators if one.verdict}) == ("pass", {"integer"})
