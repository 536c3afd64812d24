"""Portable tensors: the same bits wherever they are drawn."""

from __future__ import annotations

import hashlib

import pytest
import torch

from pt2e_ci.catalogue import models
from pt2e_ci.catalogue.cases import CASES, Quantizer, select_cases
from pt2e_ci.catalogue.inputs import build_model, draw, input_sets
from pt2e_ci.errors import InputError


def test_draw_is_what_it_always_was():
    assert draw("0/add/x", (2, 3), -6).mul(64).tolist() == [[73, -117, -64], [30, -123, -17]]


def test_draw_is_the_specified_generator():
    data = hashlib.shake_256(b"key").digest(4)
    signed = [byte - 256 if byte > 127 else byte for byte in data]
    assert draw("key", (4,), 0).tolist() == signed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sets_fit_the_case(case):
    sets = input_sets(case, 0)
    assert sets[0].label == "calibration"
    assert len({given.label for given in sets}) == len(sets)
    for given in sets:
        fixed = 1 if case.dynamic_batch else 0  # the dimension from which on shapes are those of the case
        found = [tuple(tensor.shape)[fixed:] for tensor in given.tensors]
        assert found == [shape[fixed:] for shape in case.shapes]
        assert all(tensor.dtype is torch.float32 for tensor in given.tensors)


def test_static_sets_leave_the_calibrated_range():
    (case,) = select_cases(["add"])
    largest = {given.label: max(float(t.abs().max()) for t in given.tensors) for given in input_sets(case, 0)}
    assert largest["calibration"] <= 2
    assert largest["zero"] == 0
    assert largest["saturating"] > 8 * largest["calibration"]
    assert largest["extreme"] == 2.0**20


def test_weights_are_small_integers_times_a_power_of_two():
    for case in CASES:
        for parameter in build_model(case, 0).parameters():
            # A byte times a power of two: no more than eight bits from the highest to the lowest.
            mantissas, _ = torch.frexp(parameter.detach())
            assert torch.equal(mantissas * 2.0**8, (mantissas * 2.0**8).round())


def test_models_are_all_used():
    named = {name for name, value in vars(models).items() if getattr(value, "__module__", None) == models.__name__}
    assert named == {case.model for case in CASES}


def test_names_are_unique():
    assert len({case.name for case in CASES}) == len(CASES)
    assert {case.quantizer for case in CASES} == set(Quantizer)


def test_unknown_case():
    with pytest.raises(InputError, match="did you mean 'conv2d'"):
        select_cases(["conv2D"])
