"""ExecuTorch's XNNPACK delegate, where ExecuTorch is installed: `nox -s executorch` runs these."""

from __future__ import annotations

import pytest
import torch
from conftest import converted

from pt2e_ci.cases.catalogue import select_cases
from pt2e_ci.checks.delegate import Delegate
from pt2e_ci.checks.grids import find_grid, output_nodes
from pt2e_ci.exact.oracle import run_exactly

pytest.importorskip("executorch", reason="ExecuTorch is not installed")


def measured(name, shift=0):
    """Measure a case, with the exact result shifted by some steps."""
    program, sets = converted(select_cases([name])[0])
    delegate = Delegate(program, sets[0].tensors)
    (output,) = run_exactly(program, sets[0].tensors, runtime={}).outputs
    step = find_grid(output_nodes(program)[0]).scale
    delegate.add(sets[0].tensors, [output + shift * step], [step])
    return delegate.record()


@pytest.mark.parametrize("name", ["static_linear", "conv2d_padding", "add", "mlp"])
def test_delegate_agrees_with_the_exact_result(name):
    record = measured(name)
    assert record["max"] <= 1
    assert record["compared"] > 0
    assert record["skipped"] == {}


def test_a_difference_is_seen():
    assert measured("add", shift=2)["max"] == 2


def test_what_is_not_delegated_is_not_measured():
    record = measured("adaptive_avg_pool2d")
    assert record["compared"] == 0
    assert "it stayed outside of the delegate" in record["skipped"].values()


def test_program_that_cannot_be_lowered():
    delegate = Delegate(torch.fx.symbolic_trace(lambda x: x + 1), ())
    assert "program" in delegate.record()["skipped"]
