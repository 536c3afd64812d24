"""The verdict on pairs of programs that are written out by hand: right ones, and wrong ones of many kinds."""

from __future__ import annotations

import math

import pytest
import torch
import torch.ao.quantization.fx._decomposed
from torch.fx import symbolic_trace
from torch.nn import functional as F

from pt2e_ci.catalogue.cases import Case, Quantizer
from pt2e_ci.catalogue.inputs import input_sets
from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.judge import exactness
from pt2e_ci.judge.verdict import InputSet, ProgramError, judge
from pt2e_ci.record.criteria import Claim, Criteria
from pt2e_ci.record.outcomes import Outcome

ops = torch.ops.quantized_decomposed
SETS = input_sets(Case("by_hand", "linear", "Linear", ((2, 8),), Quantizer.PER_TENSOR), 0)
WEIGHT = torch.arange(-32, 32, dtype=torch.int8).reshape(8, 8) // 4
IN, OUT, WEIGHT_SCALE = (0.5, 3), (0.25, 1), 3 / 256  # floats that hold every product
MULTIPLIER = IN[0] * WEIGHT_SCALE / OUT[0]


class Holder(torch.nn.Module):
    """A program around a weight that is an attribute, as an exported one has it."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.register_buffer("weight", WEIGHT)

    def forward(self, x):
        return self.function(x, self.weight)


class Tracer(torch.fx.Tracer):
    proxy_buffer_attributes = True


def traced(function):
    holder = Holder(function)
    return torch.fx.GraphModule(holder, Tracer().trace(holder))


def fake_quantize(x, scale, zero_point):
    q = ops.quantize_per_tensor.default(x, scale, zero_point, -128, 127, torch.int8)
    return ops.dequantize_per_tensor.default(q, scale, zero_point, -128, 127, torch.int8)


def linear(x, weight):
    weight = ops.dequantize_per_tensor.default(weight, WEIGHT_SCALE, 0, -127, 127, torch.int8)
    return fake_quantize(F.linear(fake_quantize(x, *IN), weight), *OUT)


def levels(x, scale, zero_point):
    return (torch.round(x / scale).clamp(-1000, 1000).to(torch.int32) + zero_point).clamp(-128, 127)


def requantize(accumulator, zero_point=OUT[1]):
    q = (torch.round(accumulator * MULTIPLIER).to(torch.int32) + zero_point).clamp(-128, 127)
    return (q.to(torch.float32) - OUT[1]) * OUT[0]


def integer_linear(x, weight, dtype=torch.int32):
    return requantize(F.linear((levels(x, *IN) - IN[1]).to(dtype), weight.to(dtype)))


def verdict(reference, qdq=linear, criteria=Criteria()):  # noqa: B008 - it does not change
    return judge(traced(qdq), traced(reference), SETS, criteria).case


def test_right_one_passes():
    found = verdict(integer_linear)
    assert (found.outcome, found.reason.code) == (Outcome.PASS, "PQ054")  # which says that no float model is known
    assert found.structure.coverage == 1
    assert found.numerics.reference_vs_qdq.max == 0
    (operator,) = [one for one in found.operators if one.name == "linear"]
    assert (operator.verdict, operator.why, operator.arithmetic) == ("integer", None, "float32")


@pytest.mark.parametrize(
    ("reference", "outcome", "reason"),
    [
        (linear, Outcome.FLOAT, "linear: computed in float"),
        (lambda x, w: integer_linear(x, w, torch.float64), Outcome.FLOAT, "linear: computed in float"),
        (
            lambda x, w: requantize(F.linear(levels(x, *IN), w.to(torch.int32))),
            Outcome.MISMATCH,
            "LSB from what its own operands",
        ),
        (
            lambda x, w: requantize(F.linear(levels(x, *IN) - IN[1], w.to(torch.int32)), 0),
            Outcome.INEXACT,  # one step off everywhere: within the one that is allowed
            "accumulators, up to 1 LSB past a boundary",
        ),
        (lambda x, w: integer_linear(x, w) + OUT[0] / 3, Outcome.MISMATCH, "from what its own levels stand for"),
        (
            lambda x, w: integer_linear(x, w) * float("nan"),
            Outcome.MISMATCH,
            "inf LSB from what its own levels stand for",
        ),
        (lambda x, w: integer_linear(x, w) + torch.rand_like(x) * 1e-6, Outcome.MISMATCH, "run again"),
    ],
    ids=["identical", "float64", "zero point dropped", "one step", "off grid", "nan", "random"],
)
def test_wrong_ones(reference, outcome, reason):
    found = verdict(reference)
    assert found.outcome is outcome
    assert reason in found.reason.text


class Counting(Holder):
    """A program that counts its runs in a buffer."""

    def __init__(self, function):
        super().__init__(function)
        self.register_buffer("runs", torch.zeros(1))

    def forward(self, x):
        return self.function(x, self.weight) + 0 * torch.ops.aten.add_.Tensor(self.runs, 1)


def test_program_that_changes_its_own_tensors():
    holder = Counting(integer_linear)
    counting = torch.fx.GraphModule(holder, Tracer().trace(holder))
    found = judge(traced(linear), counting, SETS).case
    assert (found.outcome, found.reason.code) == (Outcome.MISMATCH, "PQ028")
    assert counting.runs.tolist() == [0]


def test_program_that_depends_on_a_value_out_of_sight():
    """It gives the right levels, by way of a number that is none of the tensors seen."""

    def peeking(x, w):
        accumulator = F.linear(levels(x, *IN) - IN[1], w.to(torch.int32))
        return requantize(accumulator + accumulator.sum().item() - accumulator.sum())

    found = verdict(peeking)
    assert (found.outcome, found.reason.code) == (Outcome.FLOAT, "PQ016")
    assert verdict(integer_linear).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (lambda x, w: (integer_linear(x, w),) * 2, r"gives \(\*, \*\), where"),
        (lambda x, w: {"y": integer_linear(x, w)}, "gives {'y': \\*}, where"),
        (lambda x, w: integer_linear(x, w)[:1], r"output 0 is float32 \(1, 8\), where"),
        (lambda x, w: 3, "output 0 is 3, where"),
    ],
)
def test_outputs_that_cannot_be_compared(reference, message):
    with pytest.raises(ProgramError, match=message):
        verdict(reference)


def test_outputs_that_are_no_tensors_are_compared_too():
    assert verdict(lambda x, w: (integer_linear(x, w), None, 3), lambda x, w: (linear(x, w), None, 3)).outcome == "pass"


def test_nothing_compared_is_no_pass():
    found = verdict(lambda x, w: integer_linear(x, w)[:0], lambda x, w: linear(x, w)[:0])
    assert (found.outcome, found.reason.text) == (Outcome.ERROR, "no output value was compared")


@pytest.mark.parametrize("claims", [(Claim.COMPUTE,), (Claim.QDQ,)])
def test_nothing_annotated_is_no_pass(claims):

    def plain(x, weight):
        return F.linear(x, weight.to(torch.float32))

    found = verdict(plain, plain, Criteria(claims=claims))
    assert (found.outcome, found.reason.text) == (
        Outcome.UNQUANTIZED,
        "the quantizer annotated nothing; left in float: linear",
    )


def test_compute_that_is_not_to_be_seen_is_no_pass():
    table = symbolic_trace(lambda x: linear(x, WEIGHT))(SETS[0].tensors[0])
    sets = SETS[:1]
    remembered = traced(lambda x, w: table + 0 * levels(x, *IN))
    found = judge(traced(linear), remembered, sets).case
    assert found.outcome is Outcome.MISMATCH
    assert {found.reason.code, *(note.code for note in found.notes)} >= {"PQ023", "PQ026"}


@pytest.mark.parametrize("move", [lambda y: y[0], lambda y: torch.split(y, 4, 1)[1], lambda y: y.t()])
def test_parts_of_an_output_keep_its_grid(move):
    found = verdict(lambda x, w: move(integer_linear(x, w)), lambda x, w: move(linear(x, w)))
    assert found.numerics.reference_vs_qdq.unit == "lsb"
    assert found.outcome is Outcome.PASS


def test_addition_of_a_quantized_constant():
    def qdq(x, weight):
        weight = ops.dequantize_per_tensor.default(weight[:2], *IN, -128, 127, torch.int8)
        return fake_quantize(fake_quantize(x, *IN) + weight, *OUT)

    def reference(x, weight):
        total = levels(x, *IN) + weight[:2].to(torch.int32) - 2 * IN[1]
        return (levels(total * IN[0], *OUT) - OUT[1]) * OUT[0]

    assert verdict(reference, qdq).outcome is Outcome.PASS
    assert verdict(qdq, qdq).reason.text == "add: computed in float (1 of 1 operators): add on float32"


def test_truncation_is_inexact():
    def truncating(x, weight):
        accumulator = F.linear((levels(x, *IN) - IN[1]).to(torch.int32), weight.to(torch.int32))
        q = ((accumulator * MULTIPLIER).to(torch.int32) + OUT[1]).clamp(-128, 127)
        return (q.to(torch.float32) - OUT[1]) * OUT[0]

    found = verdict(truncating)
    assert (found.outcome, found.reason.code) == (Outcome.INEXACT, "PQ031")
    (operator,) = [one for one in found.operators if one.name == "linear"]
    assert operator.reference.max == 1
    assert operator.reference.off > 0
    assert 0.4 < operator.reference.boundary < 0.5  # LSB, of a truncation
    assert found.exact.reference_starts_at.startswith("linear (")
    assert found.exact.qdq_starts_at is None


def test_both_programs_alike_and_wrong():
    """Two programs that agree can both be wrong."""
    assert verdict(integer_linear).numerics.reference_vs_exact.max == 0
    found = judge(
        traced(linear),
        traced(integer_linear),
        SETS,
        rounding=Rounding.TRUNCATE,
    ).case
    assert found.numerics.reference_vs_qdq.max == 0
    assert found.outcome is Outcome.INEXACT


def test_no_exact_result_is_no_pass(monkeypatch):
    def fails(*args, **kwargs):
        raise ZeroDivisionError("no real number")

    monkeypatch.setattr(exactness, "run_exactly", fails)
    found = verdict(integer_linear)
    assert found.outcome is Outcome.ERROR
    assert found.reason.text == "no exact result to compare with: ZeroDivisionError: no real number"


def test_nan_is_left_to_the_programs():
    sets = [InputSet("nan", (torch.full((2, 8), math.nan),)), *SETS]
    found = judge(traced(linear), traced(linear), sets).case
    assert found.numerics.reference_vs_exact.compared == 16 * (len(sets) - 1)
    assert found.numerics.reference_vs_qdq.compared == 16 * len(sets)
    only = judge(traced(linear), traced(linear), sets[:1]).case
    assert only.reason.text == "no exact result to compare with: every input has a NaN"


def test_programs_that_call_packets_and_quantized_operators():
    """Written otherwise than a flow writes them, programs are judged all the same."""

    def packets(x, weight):
        q = ops.quantize_per_tensor(x, *IN, -128, 127, torch.int8)
        x = ops.dequantize_per_tensor(q, *IN, -128, 127, torch.int8)
        return fake_quantize(F.linear(x, weight.to(torch.float32) * WEIGHT_SCALE), *OUT)

    def quantized(x, weight):
        q = torch.quantize_per_tensor(x, *IN, torch.qint8)
        return integer_linear(torch.dequantize(q), weight)

    assert verdict(integer_linear, packets).numerics.reference_vs_exact.compared
    assert verdict(quantized).numerics.reference_vs_exact.max <= 1


def test_two_programs_that_return_their_own_buffer_are_held_against_each_other():
    def keeping(function):
        holder = Counting(function)
        holder.register_buffer("kept", torch.zeros(2, 8))
        holder.forward = lambda x: torch.ops.aten.copy_.default(holder.kept, function(x, holder.weight))
        return torch.fx.GraphModule(holder, Tracer().trace(holder))

    found = judge(keeping(linear), keeping(lambda x, w: linear(x, w) + 2 * OUT[0]), SETS).case
    assert found.numerics.reference_vs_qdq.max in (2, 0.5)


def test_input_sets_of_one_label_are_judged_each():
    sets = [InputSet("a", given.tensors) for given in SETS]
    found = judge(traced(linear), traced(integer_linear), sets).case
    assert found.numerics.reference_vs_exact.compared == 16 * len(sets)


def literal(x, weight):
    total = torch.tensor([0.0] * 8)
    total += integer_linear(x, weight)[0]
    return integer_linear(x, weight) + 0 * total


def test_a_literal_that_is_written_into_is_no_state():
    program = torch.fx.GraphModule(torch.nn.Module(), torch.fx.Graph())
    program.register_buffer("weight", WEIGHT)
    x, weight = program.graph.placeholder("x"), program.graph.get_attr("weight")
    program.graph.output(program.graph.call_function(literal, (x, weight)))
    program.recompile()
    found = judge(traced(linear), program, SETS).case
    assert "PQ028" not in {found.reason.code, *(note.code for note in found.notes)}


def test_what_the_model_does_to_its_input_is_no_fault():
    def writing(function):
        return lambda x, w: (function(x, w), torch.ops.aten.add_.Tensor(x, 1))[0]

    found = judge(traced(writing(linear)), traced(writing(integer_linear)), SETS).case
    assert "PQ030" not in {found.reason.code, *(note.code for note in found.notes)}
    alone = judge(traced(linear), traced(writing(integer_linear)), SETS).case
    assert alone.outcome is Outcome.MISMATCH


def test_a_table_that_has_no_place_for_nan():
    table = torch.arange(-128, 128)

    def looked_up(x, w):
        q = (torch.round(x / IN[0]).clamp(-1000, 1000).to(torch.int64) + IN[1]).clamp(-128, 127)
        return requantize(F.linear((table[torch.round(x / 1e9).to(torch.int64)] + 128 + q - IN[1]).int(), w.int()))

    found = verdict(looked_up)
    assert found.outcome is Outcome.PASS
    assert {one.domains["nan"] for one in found.operators} == {1.0}
