"""ExecuTorch's XNNPACK delegate, where ExecuTorch is installed: `nox -s executorch` runs these."""

from __future__ import annotations

import pytest
import torch
from conftest import converted

from pt2e_ci.catalogue.cases import select_cases
from pt2e_ci.engines.delegate import Delegate
from pt2e_ci.measuring import measure
from pt2e_ci.program.oracle import Sample, run_exactly
from pt2e_ci.program.segments import Reading

pytest.importorskip("executorch", reason="ExecuTorch is not installed")


def measured(name, shift=0):
    """Measure a case, with the exact result shifted by some steps."""
    program, sets = converted(select_cases([name])[0])
    reading = Reading(program)
    (output,) = run_exactly(reading, sets[0].tensors, runtime={}).outputs
    (step,) = reading.output_grid(reading.outputs[0]).scales
    sample = Sample([*sets[0].tensors], {}, {}, [output + shift * step], [step])
    return measure(program, reading, [sample], ["executorch"])["executorch"]


@pytest.mark.parametrize("name", ["static_linear", "conv2d_padding", "add", "mlp"])
def test_delegate_agrees_with_the_exact_result(name):
    record = measured(name)
    assert record.max <= 1
    assert record.compared > 0
    assert record.skipped == {}


def test_a_difference_is_seen():
    assert measured("add", shift=2).max == 2


def test_what_is_not_delegated_is_not_measured():
    record = measured("adaptive_avg_pool2d")
    assert record.compared == 0
    assert "it stayed outside of the delegate" in record.skipped.values()


def test_program_that_cannot_be_lowered():
    delegate = Delegate(torch.fx.symbolic_trace(lambda x: x + 1), ())
    assert "program" in delegate.skipped
