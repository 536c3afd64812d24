"""Operators: each has an exact form, which fractions and mpmath confirm, an integer form, and a rule that proves it."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_by_one import OPERATORS as ONE_BY_ONE
from one_by_one import Array, OneByOne

from pt2e_ci import check
from pt2e_ci.catalogue.operators import OPERATORS, Operator, _Call
from pt2e_ci.cells.cell import current_cell
from pt2e_ci.exact.levels import to_levels
from pt2e_ci.exact.reals import NoExactFormError, Real
from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.flow.everything import everything
from pt2e_ci.flow.exact import IntegerRepresentation, representation
from pt2e_ci.flow.homes import import_home
from pt2e_ci.judge.verdict import InputSet, judge
from pt2e_ci.operators import unary
from pt2e_ci.operators.rows import ROWS
from pt2e_ci.pipeline import Clock, Flow
from pt2e_ci.program.oracle import run_exactly
from pt2e_ci.program.segments import Reading
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.records import Kind

import_home(current_cell().flow)  # which registers quantize and dequantize
BY_NAME = {one.name: one for one in OPERATORS}
DECIDED = {row.name for row in ROWS if row.exact and row.integer and row.rule} & BY_NAME.keys()


@cache
def result(name):
    one = BY_NAME[name]
    return check(one.model(), one.inputs(), quantizer=everything, representation="exact", name=name)


def test_forty_operators_and_more_are_decided():
    assert len(DECIDED) >= 45


@pytest.mark.parametrize("name", sorted(DECIDED))
def test_operators_integer_form_is_proved(name):
    found = result(name)
    assert found.outcome is Outcome.PASS, str(found)
    (operator,) = [one for one in found.case.operators if one.verdict]
    assert (operator.name, operator.evidence.kind) == (name, Kind.PROVED), operator.evidence


@pytest.mark.parametrize("name", sorted(DECIDED))
def test_operators_exact_form_is_that_of_one_number_at_a_time(name):
    one = BY_NAME[name]
    home = import_home(current_cell().flow)
    flow = Flow(home)
    qdq = Clock().follow(flow.convert(one.model, one.inputs(), everything)).qdq
    reading = Reading(qdq)
    exact = run_exactly(reading, one.inputs(), runtime={})
    assert not exact.approximated
    alone = OneByOne(qdq, {})
    alone.run(*one.inputs())
    assert exact.levels.keys() == alone.levels.keys()
    for node, levels in exact.levels.items():
        assert levels.flatten().tolist() == [*alone.levels[node].values], node


@pytest.mark.parametrize("function", [torch.log, torch.rsqrt, torch.reciprocal])
def test_infinity_in_a_table_is_beyond_a_wide_grid(function):
    """Calibrated on a number next to 0, the grid goes far beyond what the other levels give."""
    x = torch.cat([torch.tensor([1e-5]), torch.linspace(0.5, 4, 23)]).reshape(4, 6)
    found = check(Operator("", lambda: _Call(function), ()).model(), (x,), quantizer=everything, representation="exact")
    (operator,) = [one for one in found.case.operators if one.verdict]
    assert (found.outcome, operator.evidence.kind) == (Outcome.PASS, Kind.PROVED), operator.evidence


UNARY = ["sigmoid", "tanh", "silu", "gelu", "elu", "exp", "sin", "cos", "erf", "softplus", "hardswish", "leaky_relu"]


@pytest.mark.parametrize("name", UNARY)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_levels_of_a_function_are_due_on_any_grid(name, data):
    """On grids as observers find them, and on short ones, which have ties."""
    scales = st.one_of(
        st.integers(1, 2**24).map(lambda one: Fraction(one, 2**26)),
        st.integers(-8, 0).map(lambda one: Fraction(2) ** one),
    )
    scale, out = data.draw(scales), data.draw(scales)
    point, end = data.draw(st.integers(-128, 127)), data.draw(st.integers(-128, 127))
    levels = torch.arange(-128, 128)
    row = next(one for one in ROWS if one.name == name)
    due = ONE_BY_ONE[name](Array.of(levels - point).each(lambda value: value * scale))
    wanted = [max(-128, min(127, round(value / out) + end)) for value in due.values]
    real = row.exact(Real.of_integers(levels - point, scale))
    assert to_levels(real, out, end, (-128, 127), Rounding.HALF_EVEN).tolist() == wanted


class OffByOne(IntegerRepresentation):
    """Reads a table one place too far."""

    def operate(self, row, arguments):
        found = super().operate(row, arguments)
        table = found.node.args[0] if found.node.target is torch.ops.aten.index.Tensor else None
        if table is None:
            return found
        values = getattr(self._root, table.target)
        setattr(self._root, table.target, values.roll(1))
        return found


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "gelu", "silu", "exp", "log", "hardswish", "erf"])
def test_table_that_is_read_one_place_too_far_is_refuted(name):
    one = BY_NAME[name]
    found = check(one.model(), one.inputs(), quantizer=everything, representation=OffByOne(), name=name)
    assert found.outcome in (Outcome.MISMATCH, Outcome.INEXACT)
    (operator,) = [one for one in found.case.operators if one.verdict]
    assert operator.evidence.kind is Kind.REFUTED


@pytest.mark.parametrize(
    ("function", "values"),
    [(unary.log, [-1, 1]), (unary.sqrt, [-1, 4]), (unary.rsqrt, [-4, 1])],
)
def test_function_without_a_value_has_no_exact_form_there(function, values):
    with pytest.raises(NoExactFormError, match="no value at -"):
        function(Real.of_integers(torch.tensor(values), Fraction(1)))


def test_infinity_is_beyond_every_level():
    found = unary.log(Real.of_integers(torch.tensor([0, 1]), Fraction(1)))
    assert to_levels(found, Fraction(1), 5, (-128, 127), Rounding.HALF_EVEN).tolist() == [-128, 5]
    found = unary.reciprocal(Real.of_integers(torch.tensor([0, 1]), Fraction(1)))
    assert to_levels(found, Fraction(1), 5, (-128, 127), Rounding.HALF_EVEN).tolist() == [127, 6]


def test_what_is_no_small_power_or_too_many_numbers_has_no_exact_form():
    few = Real.of_integers(torch.tensor([2]), Fraction(1))
    assert unary.power(few.times(Fraction(2)), 0.5).floats().tolist() == [2.0]
    with pytest.raises(NoExactFormError, match="no value at -2"):
        unary.power(few.times(Fraction(-1)), 0.5)
    with pytest.raises(NoExactFormError, match="different numbers"):
        unary.exp(Real.of_integers(torch.arange(2**18), Fraction(1, 2**20)))


class Sum(torch.nn.Module):
    """An addition between levels of one scale, around 0: unless they saturate, its sums are its levels."""

    def forward(self, x, y):
        grid = (1 / 64, 0, -128, 127, torch.int8)
        ops = torch.ops.quantized_decomposed
        x, y = (ops.dequantize_per_tensor(ops.quantize_per_tensor(one, *grid), *grid) for one in (x, y))
        return ops.dequantize_per_tensor(ops.quantize_per_tensor(x + y, *grid), *grid)


def test_sums_that_are_levels_on_all_samples_are_not_taken_for_them():
    inputs = (torch.rand(2, 8) - 0.5, torch.rand(2, 8) - 0.5)
    qdq = torch.export.export(Sum(), inputs).module()
    found = judge(qdq, representation(qdq), [InputSet("calibration", inputs)]).case
    assert found.outcome is Outcome.PASS, found.reason
    (operator,) = [one for one in found.operators if one.name == "add"]
    assert operator.evidence.kind is Kind.PROVED


class Twice(Sum):
    """The same twice over, each with sums of its own."""

    def forward(self, x, y):
        return super().forward(x, y), super().forward(x, y)


def test_sums_of_a_twin_are_not_taken_for_levels():
    inputs = (torch.rand(2, 8) - 0.5, torch.rand(2, 8) - 0.5)
    qdq = torch.export.export(Twice(), inputs).module()
    found = judge(qdq, representation(qdq), [InputSet("calibration", inputs)]).case
    assert found.outcome is Outcome.PASS, found.reason
    assert {one.evidence.kind for one in found.operators if one.name == "add"} == {Kind.PROVED}


class Unsaturated(IntegerRepresentation):
    """Gives sums in the place of levels, which may leave eight bits."""

    def requantize(self, value, grid):
        return self.call(torch.ops.aten.to.dtype, value.node, torch.int64)


def test_sums_that_are_given_as_levels_are_refuted():
    inputs = (torch.rand(2, 8) - 0.5, torch.rand(2, 8) - 0.5)
    qdq = torch.export.export(Sum(), inputs).module()
    found = judge(qdq, Unsaturated()(qdq), [InputSet("calibration", inputs)]).case
    (operator,) = [one for one in found.operators if one.name == "add"]
    assert operator.evidence.kind is Kind.REFUTED
    assert found.outcome is Outcome.MISMATCH
