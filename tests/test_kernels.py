"""Engines: measured against the exact result, and what they do not take is skipped with the reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from conftest import converted

from pt2e_ci import measuring
from pt2e_ci.catalogue.cases import select_cases
from pt2e_ci.engines import kernels
from pt2e_ci.engines.protocol import NotTakenError, Task
from pt2e_ci.measuring import measure
from pt2e_ci.program.oracle import Sample, run_exactly
from pt2e_ci.program.segments import Reading
from pt2e_ci.program.trace import run

# With the other tests that convert every case, in the one worker that does.
pytestmark = pytest.mark.xdist_group("cases")
ENGINE = "qnnpack"
ops = torch.ops.quantized_decomposed


def measured(name, shift=0, engines=(ENGINE,)):
    """Measure a case, with the exact result shifted by some steps."""
    (case,) = select_cases([name])
    program, sets = converted(case)
    reading = Reading(program)
    nodes = [one.quantize.node for one in reading.levels]
    kept = run(program, sets[0].tensors, [*nodes, *reading.runtime]).kept
    runtime = {node: kept[node] for node in reading.runtime}
    own = run_exactly(reading, sets[0].tensors, runtime=runtime, operands=kept)
    exact = {node: levels + shift for node, levels in own.levels.items()}
    sample = Sample([*sets[0].tensors], {node: kept[node] for node in nodes}, exact, [], [])
    return measure(program, reading, [sample], engines)


@pytest.mark.parametrize(
    "name", ["static_linear", "linear_per_channel", "conv2d_padding", "conv2d_groups", "add", "mul_relu", "cat", "mean"]
)
def test_an_engine_agrees_with_the_exact_result(name):
    record = measured(name)
    assert record.keys() == {ENGINE}
    assert (record[ENGINE].max, record[ENGINE].skipped) == (0, {})
    assert record[ENGINE].compared > 0


def test_a_difference_is_seen():
    assert measured("add", shift=2)[ENGINE].max == 2


def test_what_has_no_kernel_is_skipped_with_a_reason():
    assert "no grid that is known before" in measured("dynamic_linear")[ENGINE].skipped["linear"]
    assert "input's grid" in measured("avg_pool2d")[ENGINE].skipped["avg_pool2d"]
    assert "INTERNAL ASSERT" in measured("maxpool2d")[ENGINE].skipped["max_pool2d"]  # a window of one element


def test_engine_is_put_back():
    before = torch.backends.quantized.engine
    measured("add")
    assert torch.backends.quantized.engine == before


def test_operators_are_read_with_what_is_fused():
    (case,) = select_cases(["residual_block"])
    program, _ = converted(case)
    assert [(operator.name, operator.activation) for operator in Reading(program).operators] == [
        ("conv2d", "relu"),
        ("conv2d", None),
        ("add", "relu"),
    ]


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGILL), "the process was ended by SIGILL"),
        (lambda: os._exit(3), "the process exited with 3"),
    ],
)
def test_kernel_that_ends_the_process_is_skipped(monkeypatch, end, says):
    monkeypatch.setitem(kernels.KERNELS, "add", lambda *arguments: end())
    record = measured("add")
    assert record[ENGINE].skipped == {"add": says}
    assert record[ENGINE].compared == 0


@pytest.mark.parametrize(
    ("gives", "says"),
    [
        (lambda levels: int("a"), "ValueError: invalid literal for int() with base 10: 'a'"),
        (lambda levels: sys.exit(0), "SystemExit: 0"),
        (lambda levels: None, "it gave NoneType, where levels are due"),
        (lambda levels: levels[0].float(), "it gave torch.float32, where levels are due"),
        (lambda levels: levels[0][:1, :1], "it gave levels of shape (1, 1, 3, 3), where (1, 3, 3, 3) is due"),
    ],
)
def test_engine_that_gives_no_levels_is_skipped_in_its_own_words(monkeypatch, gives, says):
    engine = SimpleNamespace(names={"add"}, open=lambda task: gives)
    monkeypatch.setattr(measuring, "load_engine", lambda name: engine)
    record = measured("add", engines=("theirs",))["theirs"]
    assert (record.skipped, record.compared) == ({"add": says}, 0)


NO_ENGINES = """
class AClass:
    names = {"add"}
    def open(self, task): ...

class NoNames:
    def open(self, task): ...

class OneName:
    names = "add"
    def open(self, task): ...

no_names, one_name, number = NoNames(), OneName(), 3
"""


@pytest.mark.parametrize("name", ["AClass", "no_names", "one_name", "number"])
def test_what_is_no_engine_is_refused_before_anything_runs(tmp_path, monkeypatch, name):
    (tmp_path / "no_engines.py").write_text(NO_ENGINES)
    package = tmp_path / "theirs-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: theirs\nVersion: 1\n")
    (package / "entry_points.txt").write_text(f"[pt2e_ci.engines]\ntheirs = no_engines:{name}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pt2e_ci", "run", "add", "-n0"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("pt2e-ci: error: theirs is not an engine: an engine is an object with a set of")
    assert done.stderr.count("\n") == 1


def test_kernel_that_hangs_is_skipped(monkeypatch):
    monkeypatch.setattr(measuring, "SECONDS", 0.1)
    monkeypatch.setitem(kernels.KERNELS, "add", lambda *arguments: time.sleep(60))
    assert measured("add")[ENGINE].skipped == {"add": "still running after 0.1 s"}


def test_one_engine_that_dies_costs_itself_only(monkeypatch):
    add = kernels.KERNELS["add"]

    def dies_on_onednn(*arguments):
        if torch.backends.quantized.engine == "onednn":
            os.kill(os.getpid(), signal.SIGILL)
        return add(*arguments)

    monkeypatch.setitem(kernels.KERNELS, "add", dies_on_onednn)
    record = measured("add", engines=("qnnpack", "onednn"))
    assert (record["qnnpack"].max, record["qnnpack"].skipped) == (0, {})
    assert record["onednn"].skipped == {"add": "the process was ended by SIGILL"}


def test_another_process_where_there_is_no_fork(monkeypatch):
    """As on macOS and Windows: an engine gets its work as plain data."""
    monkeypatch.setattr(measuring.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    record = measured("linear_per_channel")[ENGINE]
    assert (record.max, record.skipped) == (0, {})
    assert record.compared > 0


def tasks(function):
    return [Task.of(one) for one in Reading(torch.fx.symbolic_trace(function)).operators]


def on_grid(x):
    q = ops.quantize_per_tensor.default(x, 0.5, 0, -128, 127, torch.int8)
    return ops.dequantize_per_tensor.default(q, 0.5, 0, -128, 127, torch.int8)


@pytest.mark.parametrize(
    ("function", "taken"),
    [
        (lambda x: on_grid(torch.ops.aten.add.Tensor(on_grid(x), on_grid(x))), True),
        (lambda x: on_grid(torch.ops.aten.cat.default([on_grid(x), x])), False),
        (lambda x: on_grid(torch.ops.aten.add.Tensor(on_grid(x).t(), on_grid(x))), False),
    ],
    ids=["whole", "one operand in float", "one operand moved"],
)
def test_engine_is_only_asked_for_what_it_is_given_whole(function, taken):
    assert [task is not None for task in tasks(function)] == [taken]


def test_option_that_a_kernel_does_not_know_is_not_taken():
    (task,) = tasks(lambda x: on_grid(torch.ops.aten.add.Tensor(on_grid(x), on_grid(x), alpha=2)))
    levels = torch.ones(1, 4, dtype=torch.int8)
    with pytest.raises(NotTakenError, match="no alpha"):
        kernels.QNNPACK.open(task)([levels, levels])
