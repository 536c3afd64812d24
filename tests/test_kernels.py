"""Engines: measured against the exact result, and what they do not take is skipped with the reason."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch
from conftest import converted

from pt2e_ci.cases.catalogue import select_cases
from pt2e_ci.checks import kernels
from pt2e_ci.checks.kernels import Kernels, read_operators
from pt2e_ci.checks.recording import replay
from pt2e_ci.exact.oracle import quantize_nodes, run_exactly, runtime_nodes

# With the other tests that convert every case, in the one worker that does.
pytestmark = pytest.mark.xdist_group("cases")
ENGINE = "qnnpack"


def measured(name, shift=0, engines=(ENGINE, "none")):
    (case,) = select_cases([name])
    program, sets = converted(case)
    found = Kernels(program, engines)
    kept = replay(program, sets[0].tensors, [*quantize_nodes(program), *runtime_nodes(program)]).kept
    runtime = {node: kept[node] for node in runtime_nodes(program)}
    own = run_exactly(program, sets[0].tensors, runtime=runtime, operands=kept)
    found.add(kept, {node: levels + shift for node, levels in own.levels.items()})
    return found.record()


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


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGILL), "the process was ended by SIGILL"),
        (lambda: os._exit(3), "the process exited with 3"),
    ],
)
def test_kernel_that_ends_the_process_is_skipped(monkeypatch, end, says):
    monkeypatch.setitem(kernels._KERNELS, "add", lambda *arguments: end())
    record = measured("add")
    assert record[ENGINE]["skipped"] == {"add": says}
    assert record[ENGINE]["compared"] == 0


def test_kernel_that_hangs_is_skipped(monkeypatch):
    monkeypatch.setattr(kernels, "_SECONDS", 0.1)
    monkeypatch.setitem(kernels._KERNELS, "add", lambda *arguments: time.sleep(60))
    assert measured("add")[ENGINE]["skipped"] == {"add": "still running after 0.1 s"}


def test_one_engine_that_dies_costs_itself_only(monkeypatch):
    add = kernels._KERNELS["add"]

    def dies_on_onednn(*arguments):
        if torch.backends.quantized.engine == "onednn":
            os.kill(os.getpid(), signal.SIGILL)
        return add(*arguments)

    monkeypatch.setitem(kernels._KERNELS, "add", dies_on_onednn)
    record = measured("add", engines=("qnnpack", "onednn"))
    assert (record["qnnpack"]["max"], record["qnnpack"]["skipped"]) == (0, {})
    assert record["onednn"]["skipped"] == {"add": "the process was ended by SIGILL"}
