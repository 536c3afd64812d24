"""Operators decided for all their inputs: what is right is proved, what is wrong at one value is refuted."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from conftest import converted, flow

from pt2e_ci.catalogue.cases import select_cases
from pt2e_ci.catalogue.inputs import input_sets
from pt2e_ci.flow.exact import IntegerRepresentation, aten, representation
from pt2e_ci.judge.verdict import judge
from pt2e_ci.record.criteria import Criteria
from pt2e_ci.record.records import Kind

# With the other tests that convert every case, in the one worker that does.
pytestmark = pytest.mark.xdist_group("cases")


def judged(name, make, criteria=None):
    (case,) = select_cases([name])
    qdq, sets = converted(case)
    program = make(qdq) if make is representation else make()(qdq)
    return judge(qdq, program, sets, criteria or case.criteria).case


def evidence(case, name):
    return next(one.evidence for one in case.operators if one.name == name)


class OneAccumulator(IntegerRepresentation):
    """One accumulator of all becomes another level."""

    at = 1234

    def requantize(self, value, grid):
        levels = super().requantize(value, grid)
        is_it = self.call(aten.eq.Scalar, value.node, self.at)
        other = self.call(aten.bitwise_not.default, levels)
        return self.call(aten.where.self, is_it, other, levels)


class OnePair(IntegerRepresentation):
    """One pair of levels has another sum."""

    def operate(self, row, arguments):
        found = super().operate(row, arguments)
        if row.name != "add":
            return found
        (a, b) = (arguments[name].node for name in ("self", "other"))
        both = self.call(aten.logical_and.default, self.call(aten.eq.Scalar, a, 17), self.call(aten.eq.Scalar, b, -23))
        other = self.call(aten.neg.default, found.node)
        return replace(found, node=self.call(aten.where.self, both, other, found.node))


class OneWeight(IntegerRepresentation):
    """One weight is one more."""

    def weight_levels(self, weight):
        levels = super().weight_levels(weight).clone()
        levels.view(-1)[0] += 1
        return levels


class OneScale(IntegerRepresentation):
    """The scale of one channel is a fiftieth more."""

    def requantize(self, value, grid):
        if value.axis is not None:
            value = replace(value, units=(value.units[0] * Fraction(51, 50), *value.units[1:]))
        return super().requantize(value, grid)


class ProductWraps(IntegerRepresentation):
    """Accumulators are multiplied in int32, and wrap around."""

    def accumulator(self, node):
        small = self.call(aten.to.dtype, node, torch.int32)
        large = self.call(aten.mul.Tensor, small, 2**13)
        return self.call(aten.bitwise_right_shift.Tensor_Scalar, self.call(aten.to.dtype, large, torch.int64), 13)


class CastWraps(IntegerRepresentation):
    """Accumulators go through int16."""

    def accumulator(self, node):
        return self.call(aten.to.dtype, self.call(aten.to.dtype, node, torch.int16), torch.int64)


class Saturates(IntegerRepresentation):
    """Accumulators saturate at 16 bits."""

    def accumulator(self, node):
        return self.call(aten.clamp.default, node, -(2**15), 2**15 - 1)


class InputOffByOne(IntegerRepresentation):
    """One level of the input is another."""

    def quantize_floats(self, x, scale, zero_point, grid):
        levels = super().quantize_floats(x, scale, zero_point, grid)
        is_it = self.call(aten.eq.Scalar, levels, 77)
        return self.call(aten.where.self, is_it, self.call(aten.neg.default, levels), levels)


class OneTap(IntegerRepresentation):
    """A maximum leaves the first column of its windows out."""

    def operate(self, row, arguments):
        if row.name == "max_pool2d":
            x = arguments["self"]
            shifted = self.call(aten.roll.default, x.node, [1], [-1])
            arguments = arguments | {"self": replace(x, node=shifted)}
        return super().operate(row, arguments)


@pytest.mark.parametrize(
    ("name", "make", "operator"),
    [
        ("linear_per_channel", OneAccumulator, "linear"),
        ("conv2d", OneAccumulator, "conv2d"),
        ("add", OnePair, "add"),
        ("linear_large", OneWeight, "linear"),
        ("conv2d_uneven", OneWeight, "conv2d"),
        ("conv2d_per_channel", OneScale, "conv2d"),
        ("linear_large", ProductWraps, "linear"),
        ("linear_large", CastWraps, "linear"),
        ("linear_large", Saturates, "linear"),
        ("linear_large", InputOffByOne, "input"),
        ("maxpool2d_window", OneTap, "max_pool2d"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_is_wrong_at_one_value_is_refuted_by_an_input(name, make, operator):
    found = judged(name, make)
    assert found.outcome in ("inexact", "mismatch"), found.reason
    names = (operator, "linear") if operator == "input" else (operator,)  # or what reads it is
    refuted = next(one.evidence for one in found.operators if one.name in names and one.evidence.witness)
    assert refuted.kind is Kind.REFUTED
    assert refuted.witness is not None
    assert refuted.witness.got != refuted.witness.exact
    # The input is tried again, on both programs.
    (case,) = select_cases([name])
    qdq, _ = converted(case)
    if refuted.witness.inputs is not None:
        shapes = [tensor.shape for tensor in input_sets(case, 0)[0].tensors]
        inputs = [torch.tensor(one).reshape(shape) for one, shape in zip(refuted.witness.inputs, shapes, strict=True)]
        wrong, right = make()(qdq)(*inputs), representation(qdq)(*inputs)
        assert any(not torch.equal(a, b) for a, b in zip(_tensors(wrong), _tensors(right), strict=True))


def _tensors(value):
    return [value] if isinstance(value, torch.Tensor) else [*value]


@pytest.mark.parametrize(
    "name", ["static_linear", "conv2d_uneven", "add", "mul_relu", "maxpool2d_uneven", "mean", "cat_three", "hardtanh"]
)
def test_what_is_right_is_proved(name):
    found = judged(name, representation, replace(select_cases([name])[0].criteria, evidence="proved"))
    assert found.outcome == "pass", found.reason
    assert {one.evidence.kind for one in found.operators} == {Kind.PROVED}
    assert all(one.evidence.is_exact for one in found.operators)


def test_what_cannot_be_proved_says_so_and_why():
    found = judged("dynamic_linear", representation)
    partly = evidence(found, "linear")
    assert (partly.kind, partly.proved) == (Kind.PARTLY, "its contraction")
    assert "run time" in partly.why
    asked = judged("dynamic_linear", representation, Criteria(evidence="proved"))
    assert (asked.outcome, asked.reason.code) == ("inexact", "PQ037")
    assert judged("dynamic_linear", representation, Criteria(evidence="proved", allow=("inexact",))).outcome == "pass"


def test_upstreams_truncation_is_stated_exactly():
    (case,) = select_cases(["static_linear"])
    qdq, sets = converted(case)
    program = flow().represent(qdq).program
    found = evidence(judge(qdq, program, sets, case.criteria).case, "linear")
    assert found.kind is Kind.REFUTED
    assert found.values > 100_000
    assert found.low + found.high == found.wrong
    assert 0.49 < found.displacement < 0.51


def test_displacement_is_what_criteria_speak_of():
    lenient = Criteria(displacement=0.6)
    (case,) = select_cases(["static_linear"])
    qdq, sets = converted(case)
    program = flow().represent(qdq).program
    assert judge(qdq, program, sets, lenient).case.outcome == "pass"
    assert judge(qdq, program, sets, replace(lenient, displacements={"linear": 0.1})).case.outcome == "inexact"
    assert judge(qdq, program, sets, Criteria(lsb=0.2)).case.outcome == "mismatch"


def test_criteria_refuse_words_that_nothing_is_called():
    with pytest.raises(ValueError, match="write 'proved', 'partly' or 'tested'"):
        Criteria(evidence="sure")
    with pytest.raises(ValueError, match="'inexact' is all that can be allowed"):
        Criteria(allow=("float",))


def test_a_program_that_is_the_same_gives_the_same_evidence():
    first, second = (judged("linear_per_channel", representation) for _ in range(2))
    assert evidence(first, "linear").rescale == evidence(second, "linear").rescale


def test_another_map_that_saturates_all_the_same_is_proved():
    """A bias that is so large leaves one level, whatever a weight is."""
    found = judged("linear_huge_bias", OneWeight)
    assert found.outcome == "pass", found.reason
    assert evidence(found, "linear").is_exact


def test_levels_that_are_held_to_no_range_are_refuted():
    class Unheld(IntegerRepresentation):
        """Levels are any whole numbers."""

        def requantize(self, value, grid):
            scaled = self.call(aten.mul.Tensor, self.call(aten.to.dtype, value.node, torch.float64), 1000.0)
            return self.call(aten.to.dtype, self.call(aten.round.default, scaled), torch.int64)

    found = judged("linear_no_bias", Unheld)
    assert found.outcome == "mismatch"
    assert evidence(found, "linear").kind is Kind.REFUTED


def test_unreachable_values_are_no_mismatch():
    """Between multiples of 127 there is no accumulator: an error there shows on no input, and makes nothing red."""

    class Between(OneAccumulator):
        at = 1  # all weights are the same, and so are all accumulators multiples of it

    found = judged("linear_near_32_bits", Between)
    assert found.outcome == "pass", found.reason
    assert evidence(found, "linear").witness is None
