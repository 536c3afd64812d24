"""Differences in LSB, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from pt2e_ci.judge import numerics
from pt2e_ci.judge.digest import Digest
from pt2e_ci.judge.exactness import narrowed
from pt2e_ci.judge.numerics import Comparison


def compare(actual, expected, steps=None):
    comparison = Comparison()
    comparison.add(torch.as_tensor(actual), torch.as_tensor(expected), steps)
    return comparison


def test_counts_steps_of_the_grid():
    found = compare([0.0, 0.3, 0.6, -0.3], [0.0, 0.0, 0.0, 0.0], 0.3).record()
    assert found.unit == "lsb"
    assert found.max == 2
    assert found.mean == pytest.approx(0.5)
    assert found.differing == 0.75
    assert found.compared == 4
    assert found.histogram == {"-1": 1, "0": 1, "1": 1, "2": 1}
    assert found.off_grid == 0


@pytest.mark.parametrize("far", [0, 1, 300, 5000])
def test_levels_are_whole_steps_apart(far):
    exact = torch.arange(-100, 200, dtype=torch.int32)
    found = exact + torch.where(exact % 7 == 0, far, 0).to(torch.int32)
    in_steps, in_levels = Comparison(), Comparison()
    in_steps.add(found.double(), exact.double(), 1.0)
    in_levels.add_levels(found, exact)
    assert in_levels.record() == in_steps.record()
    assert in_levels.max_lsb == far


def test_what_a_dtype_does_not_hold_is_no_level_in_it():
    levels = torch.tensor([3, 3 + 2**32, -(2**40)])
    assert (narrowed(levels, torch.int32) == torch.tensor([3, 3, 0])).tolist() == [True, False, False]
    far, level = narrowed(torch.tensor([2**31 - 1], dtype=torch.int32), torch.int32), torch.tensor([-128]).int()
    assert int(far - level) > 0  # and does not wrap around


def test_absolute_where_there_is_no_grid():
    found = compare([0.5, 0.25], [0.0, 0.25]).record()
    assert (found.unit, found.max, found.differing) == ("absolute", 0.5, 0.5)
    assert found.histogram == {}


def test_step_of_each_channel():
    found = compare([[0.5, 0.5]], [[0.0, 0.0]], torch.tensor([[0.5, 0.25]], dtype=torch.float64)).record()
    assert found.histogram == {"1": 1, "2": 1}


def test_off_the_grid():
    found = compare([0.15], [0.0], 0.3)
    assert found.off_grid == 1
    assert found.max_lsb == pytest.approx(0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_on_one_side_is_infinitely_far(value):
    found = compare([value, 1.0], [1.0, 1.0], 0.5)
    assert found.max_lsb == math.inf
    assert found.record().not_finite == 1
    assert found.record().max == 0


def test_what_is_not_finite_on_both_sides_agrees():
    found = compare([math.nan, math.inf], [math.nan, math.inf], 0.5)
    assert found.max_lsb == 0


def test_infinities_of_two_signs_do_not_agree():
    assert compare([math.inf], [-math.inf], 0.5).max_lsb == math.inf


def test_units_are_kept_apart():
    comparison = compare([0.5], [0.0], 0.25)
    comparison.add(torch.tensor([0.125]), torch.tensor([0.0]))
    found = comparison.record()
    assert (found.unit, found.max) == ("lsb", 2)
    assert found.absolute.max == 0.125


def test_chunks_give_the_same_as_one_piece(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    expected = torch.randint(-128, 128, (1000,), generator=generator) * 0.125
    actual = expected + torch.randint(-2, 3, (1000,), generator=generator) * 0.125
    whole = compare(actual, expected, 0.125).record()
    monkeypatch.setattr(numerics, "CHUNK", 7)
    assert compare(actual, expected, 0.125).record() == whole


def test_float32_noise_is_no_difference_of_the_grid():
    levels = torch.arange(-128, 128)
    scale = 0.0123456789
    noisy = (levels.to(torch.float32) * scale) * (1 + 2.0**-23)
    found = compare(noisy, levels.to(torch.float32) * scale, scale)
    assert found.off_grid == 0
    assert found.max_lsb == 0


def digest(*tensors):
    taken = Digest()
    taken.add("label", tensors)
    return taken.value()


def test_digest_is_of_values_and_shapes():
    levels = torch.tensor([[1, -2], [3, 4]], dtype=torch.int8)
    assert digest(levels) == digest(levels.to(torch.int32)) == digest(levels.t().contiguous().t())
    assert digest(levels) != digest(levels.reshape(4))
    assert digest(levels) != digest(levels + torch.tensor([[0, 0], [0, 1]], dtype=torch.int8))
    assert digest() is None


def test_digest_stays_what_it_was():
    # A report of last year compares with one of today: this value may only change with the report's schema.
    assert digest(torch.tensor([-128, 0, 127], dtype=torch.int8)) == (
        "sha256:b2a2e3bd79889f4924b82b2e28109bdc87d308fb8a05a4d27900e6ead2979d4e"
    )
