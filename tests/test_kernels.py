"""Engines: measured against the exact result, and what they do not take is skipped with the reason."""

from __future__ import annotations

import pytest
import torch
from conftest import converted

from pt2e_ci.cases.catalogue import select_cases
from pt2e_ci.checks.kernels import Kernels, read_operators
from pt2e_ci.checks.recording import replay
from pt2e_ci.exact.oracle import quantize_nodes, run_exactly, runtime_nodes

ENGINE = "qnnpack"


def measured(name, shift=0):
    (case,) = select_cases([name])
    program, sets = converted(case)
    kernels = Kernels(program, [ENGINE, "none"])
    kept = replay(program, sets[0].tensors, [*quantize_nodes(program), *runtime_nodes(program)]).kept
    runtime = {node: kept[node] for node in runtime_nodes(program)}
    own = run_exactly(program, sets[0].tensors, runtime=runtime, operands=kept)
    kernels.add(kept, {node: levels + shift for node, levels in own.levels.items()})
    return kernels.record()


@pytest.mark.parametrize(
    "name", ["static_linear", "linear_per_channel", "conv2d_padding", "conv2d_groups", "add", "mul_relu", "cat", "mean"]
)
def test_an_engine_agrees_with_the_exact_result(name):
    record = measured(name)
    assert record.keys() == {ENGINE}
    assert (record[ENGINE]["max"], record[ENGINE]["skipped"]) == (0, {})
    assert record[ENGINE]["compared"] > 0


def test_a_difference_is_seen():
    assert measured("add", shift=2)[ENGINE]["max"] == 2


def test_what_has_no_kernel_is_skipped_with_a_reason():
    assert "no grid that is known before" in measured("dynamic_linear")[ENGINE]["skipped"]["linear"]
    assert "input's grid" in measured("avg_pool2d")[ENGINE]["skipped"]["avg_pool2d"]
    assert "INTERNAL ASSERT" in measured("maxpool2d")[ENGINE]["skipped"]["max_pool2d"]  # a window of one element


def test_engine_is_put_back():
    before = torch.backends.quantized.engine
    measured("add")
    assert torch.backends.quantized.engine == before


def test_operators_are_read_with_what_is_fused():
    (case,) = select_cases(["residual_block"])
    program, _ = converted(case)
    assert [(operator.name, operator.relu) for operator in read_operators(program)] == [
        ("conv2d", True),
        ("conv2d", False),
        ("add", True),
    ]
