"""The oracle: against a second computation, at its own edges, and as it tells rounding schemes apart."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from conftest import converted
from hypothesis import given
from hypothesis import strategies as st
from one_by_one import OneByOne
from torch.fx import symbolic_trace

from pt2e_ci.catalogue.cases import CASES
from pt2e_ci.exact.levels import to_levels
from pt2e_ci.exact.reals import Real, Term, common_unit, product, scaled
from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.operators import contraction, pointwise, rows, window
from pt2e_ci.operators.row import Row
from pt2e_ci.program.oracle import run_exactly
from pt2e_ci.program.segments import Reading
from pt2e_ci.program.trace import run

# With the other tests that convert every case, in the one worker that does.
pytestmark = pytest.mark.xdist_group("cases")
ops = torch.ops.quantized_decomposed


@pytest.mark.parametrize("case", [case for case in CASES if case.name != "attention"], ids=lambda case: case.name)
def test_agrees_with_fractions_one_by_one(case):
    program, sets = converted(case)
    reading = Reading(program)
    # All pairs of levels twice over show nothing new, and the second computation is slow.
    for one in sets[:1] if case.name.endswith("_pairs") else sets:
        kept = run(program, one.tensors, reading.runtime).kept
        exact = run_exactly(reading, one.tensors, runtime=kept)
        other = OneByOne(program, kept)
        (outputs,) = [other.run(*one.tensors)]
        assert exact.approximated == []
        assert exact.levels.keys() == other.levels.keys()
        for node, levels in exact.levels.items():
            assert tuple(levels.shape) == other.levels[node].shape
            assert levels.flatten().tolist() == list(other.levels[node].values)
        found = exact.outputs[0].flatten().tolist()
        leaves = [*outputs.values()] if isinstance(outputs, dict) else outputs
        true = (leaves[0] if isinstance(leaves, tuple | list) else leaves).values
        assert all(math.isclose(a, b, rel_tol=2**-50, abs_tol=2**-60) for a, b in zip(found, true, strict=True))


def test_operators_on_operands_that_the_program_had():
    (case,) = (case for case in CASES if case.name == "mlp")
    program, sets = converted(case)
    first, *_, last = [one.quantize.node for one in Reading(program).levels]
    inputs = sets[0].tensors
    through = run_exactly(Reading(program), inputs, runtime={})
    shifted = {first: through.levels[first] - 20}
    own = run_exactly(Reading(program), inputs, runtime={}, operands=shifted)
    assert torch.equal(own.levels[first], through.levels[first])
    assert not torch.equal(own.levels[last], through.levels[last])


def test_operator_without_an_exact_form_is_named():
    program = symbolic_trace(
        lambda x: ops.quantize_per_tensor.default(torch.softmax(x, 0), 0.01, 0, -128, 127, torch.int8)
    )
    x = torch.tensor([-2.0, 0.25, 3.0])
    exact = run_exactly(Reading(program), (x,), runtime={})
    assert exact.approximated == ["softmax"]
    assert exact.outputs[0].tolist() == torch.softmax(x.double(), 0).div(0.01).round().tolist()


def test_parts_of_a_tensor():
    def program(x):
        a, b = ops.dequantize_per_tensor.default(x, 0.5, 0, -128, 127, torch.int8).split(1)
        return torch.cat([b, a])

    exact = run_exactly(Reading(symbolic_trace(program)), (torch.tensor([4, 6], dtype=torch.int8),), runtime={})
    assert exact.outputs[0].tolist() == [3.0, 2.0]


def levels(value, scale, scheme):
    return to_levels(Real.of_floats(torch.tensor(value, dtype=torch.float64)), scale, 0, (-128, 127), scheme).tolist()


def test_rounding_schemes_are_told_apart():
    ties = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]
    assert levels(ties, Fraction(1), Rounding.HALF_EVEN) == [-2, -2, 0, 0, 2, 2]
    assert levels(ties, Fraction(1), Rounding.HALF_AWAY) == [-3, -2, -1, 1, 2, 3]
    assert levels(ties, Fraction(1), Rounding.HALF_UP) == [-2, -1, 0, 1, 2, 3]
    assert levels(ties, Fraction(1), Rounding.FLOOR) == [-3, -2, -1, 0, 1, 2]
    assert levels(ties, Fraction(1), Rounding.TRUNCATE) == [-2, -1, 0, 0, 1, 2]


def test_ties_to_the_even_level_depend_on_the_zero_point():
    ties = Real.of_floats(torch.tensor([-1.5, -0.5, 0.5, 1.5], dtype=torch.float64))
    found = to_levels(ties, Fraction(1), 1, (-128, 127), Rounding.HALF_EVEN_OF_LEVEL)
    assert found.tolist() == [0, 0, 2, 2]


@pytest.mark.parametrize("scheme", list(Rounding))
def test_tie_of_a_scale_that_float64_does_not_hold(scheme):
    # 3 steps of a third are 1, and half of that is a tie that no float quotient shows.
    scale = Fraction(1, 3)
    real = Real((Term(Fraction(1, 6), torch.tensor([1, 3, 5, -1, -3])),))
    assert (
        to_levels(real, scale, 0, (-128, 127), scheme).tolist()
        == {
            Rounding.HALF_EVEN: [0, 2, 2, 0, -2],
            Rounding.HALF_EVEN_OF_LEVEL: [0, 2, 2, 0, -2],
            Rounding.HALF_UP: [1, 2, 3, 0, -1],
            Rounding.FLOOR: [0, 1, 2, -1, -2],
            Rounding.HALF_AWAY: [1, 2, 3, -1, -2],
            Rounding.TRUNCATE: [0, 1, 2, 0, -1],
        }[scheme]
    )


def test_infinity_saturates_and_every_float_is_exact():
    values = torch.tensor([math.inf, -math.inf, 3.4e38, 1e-45, -1.5, 0.0], dtype=torch.float32)
    real = Real.of_floats(values)
    assert [real.element(index) for index in (2, 3, 4, 5)] == [Fraction(v) for v in values.tolist()[2:]]
    assert to_levels(real, Fraction(1, 7), 3, (-128, 127)).tolist() == [127, -128, 127, 3, -7, 3]


floats = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**99), max_value=2.0**99)
scales = st.floats(min_value=2.0**-20, max_value=2.0**20, width=32)
zero_points = st.integers(-128, 127)


@given(st.lists(floats, min_size=1, max_size=20), scales, zero_points, st.sampled_from(Rounding))
def test_levels_of_any_floats(values, scale, zero_point, scheme):
    round_one = {
        Rounding.HALF_EVEN: round,
        Rounding.HALF_EVEN_OF_LEVEL: lambda v: round(v + zero_point) - zero_point,
        Rounding.HALF_UP: lambda v: math.floor(v + Fraction(1, 2)),
        Rounding.FLOOR: math.floor,
        Rounding.HALF_AWAY: lambda v: math.floor(abs(v) + Fraction(1, 2)) * (1 if v > 0 else -1),
        Rounding.TRUNCATE: math.trunc,
    }[scheme]
    found = to_levels(Real.of_floats(torch.tensor(values)), Fraction(scale), zero_point, (-128, 127), scheme)
    true = [
        max(-128, min(127, round_one(Fraction(value) / Fraction(scale)) + zero_point))
        for value in torch.tensor(values).tolist()
    ]
    assert found.tolist() == true


int8 = st.lists(st.integers(-128, 127), min_size=6, max_size=6)


@given(int8, int8, scales, scales, scales, zero_points, zero_points, zero_points)
def test_sums_and_products_of_any_grids(a, b, scale_a, scale_b, scale, zero_a, zero_b, zero):
    x, y = (
        Real.of_integers(torch.tensor(values) - point, Fraction(step))
        for values, point, step in ((a, zero_a, scale_a), (b, zero_b, scale_b))
    )
    for function, one in ((pointwise.add, lambda p, q: p + q), (pointwise.mul, lambda p, q: p * q)):
        true = [
            one((p - zero_a) * Fraction(scale_a), (q - zero_b) * Fraction(scale_b)) for p, q in zip(a, b, strict=True)
        ]
        result = function(x, y)
        assert [result.element(index) for index in range(6)] == true
        rounded = [max(-128, min(127, round(value / Fraction(scale)) + zero)) for value in true]
        assert to_levels(result, Fraction(scale), zero, (-128, 127)).tolist() == rounded
        assert pointwise.relu(result).is_below(Fraction(0)).any().item() is False


@given(st.lists(scales, min_size=3, max_size=3), int8, st.lists(floats, min_size=3, max_size=3))
def test_linear_of_any_channels_and_bias(steps, values, bias):
    weight = scaled(torch.tensor(values).reshape(3, 2), [Fraction(step) for step in steps], 0)
    x = Real.of_integers(torch.tensor([[3, -5]]), Fraction(1, 7))
    result = contraction.linear(x, weight, Real.of_floats(torch.tensor(bias)))
    for row in range(3):
        first, second = values[2 * row : 2 * row + 2]
        true = (3 * first - 5 * second) * Fraction(steps[row]) / 7 + Fraction(torch.tensor(bias)[row].item())
        assert result.element(row) == true


@given(st.lists(st.integers(-(2**61), 2**61), min_size=4, max_size=4))
def test_products_beyond_int64(values):
    x = Real.of_integers(torch.tensor(values), Fraction(1, 3))
    squared = product(x, x, torch.mul, 1)
    assert [squared.element(index) for index in range(4)] == [Fraction(value, 3) ** 2 for value in values]


def test_zeros_of_a_tiny_unit_cost_no_precision():
    """As a bias that is folded from a fresh batch norm leaves them."""
    tiny = Real((Term(Fraction(5, 2**66), torch.arange(5)),))
    total = tiny.plus(Real.of_floats(torch.zeros(5)))
    assert [total.element(index) for index in range(5)] == [Fraction(5 * index, 2**66) for index in range(5)]
    assert Real.of_floats(torch.zeros(3)).plus(Real.of_floats(torch.zeros(3))).floats().tolist() == [0.0] * 3


def test_sums_beyond_int64():
    real = Real((Term(Fraction(1), torch.full((1, 1, 4, 4), 2**60)),))
    assert window.mean(real, [2, 3]).element(0) == 2**60
    assert window.adaptive_avg_pool2d(real, [1, 1]).element(0) == 2**60
    assert window.avg_pool2d(real, [3, 3]).element(0) == 2**60


def test_zero_is_told_from_a_bound_without_fractions(monkeypatch):
    monkeypatch.setattr(Real, "element", lambda real, index: pytest.fail("a fraction"))
    zeros = Real((Term(Fraction(1, 3), torch.zeros(1000, dtype=torch.int64)),))
    assert not zeros.is_below(Fraction(0)).any()
    assert zeros.is_below(Fraction(1, 10**9)).all()


def test_sums_can_be_moved_whatever_their_terms():
    """A tensor of zeros leaves only what was broadcast against it."""
    zeros = Real.of_floats(torch.zeros(2, 3))
    total = zeros.plus(Real.of_floats(torch.tensor([1.0, 2.0, 3.0])))
    assert total.map(lambda integers: integers.view(-1)).floats().tolist() == [1.0, 2.0, 3.0] * 2


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.ops.aten.mul.Tensor(x, float("inf")),
        lambda x: torch.ops.aten.add.Tensor(x, float("nan")),
        lambda x: torch.ops.aten.clamp.Tensor(x, x),
    ],
)
def test_operands_that_are_no_finite_numbers_have_no_exact_form(function):
    exact = run_exactly(Reading(symbolic_trace(function)), (torch.ones(2),), runtime={})
    assert len(exact.approximated) == 1


def test_unexpected_exception_is_not_taken_for_want_of_an_exact_form(monkeypatch):
    def broken(self):
        raise ZeroDivisionError("a mistake of the oracle's own")

    monkeypatch.setitem(rows._BY_NAME, "relu", Row(("relu",), rows._BY_NAME["relu"].kind, exact=broken))
    with pytest.raises(ZeroDivisionError):
        run_exactly(Reading(symbolic_trace(lambda x: torch.relu(x))), (torch.ones(1),), runtime={})


def test_casts_to_integers_are_no_moves():
    program = symbolic_trace(lambda x: x.to(torch.int32).to(torch.float32))
    assert run_exactly(Reading(program), (torch.tensor([1.75]),), runtime={}).outputs[0].tolist() == [1.0]


@given(st.lists(st.fractions(), min_size=1, max_size=5))
def test_common_unit(units):
    unit = common_unit(units)
    assert all((one / unit).denominator == 1 for one in units)


def test_dynamic_scales_are_the_programs_own():
    (case,) = (case for case in CASES if case.name == "dynamic_linear")
    program, _ = converted(case)
    assert len(Reading(program).runtime) == 2


def test_terms_that_cancel_leave_room_for_a_tiny_one():
    ones = torch.ones(1, dtype=torch.int64)
    terms = (Term(Fraction(1), ones), Term(Fraction(1), -ones), Term(Fraction(1, 3) ** 60, 5 * ones))
    assert Real(terms).reduced().element(0) == 5 * Fraction(1, 3) ** 60


def test_unit_that_no_float64_is_is_rounded_as_a_rational():
    tiny = Real((Term(Fraction(1, 2**1080), torch.tensor([-1, 1])),))
    assert to_levels(tiny, Fraction(1), 0, (-128, 127), Rounding.FLOOR).tolist() == [-1, 0]
