"""Engines: what becomes of one that is wrong, dies, hangs or computes in float; what is known; what the table says."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import msgspec
import pytest
from conftest import ROOT

from pt2e_ci.cells.engines import Engine, load_engines, select_engines
from pt2e_ci.engines.running import run
from pt2e_ci.errors import InputError
from pt2e_ci.record.engines import EngineReport, Known, entry_for, load_known, read_reports, save
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.vectors.catalogue import catalogue
from pt2e_ci.views.engines import disagreements, markdown, rows

VECTORS = {vector.name: vector for vector in catalogue()}
FEW = [VECTORS[name] for name in ("linear-ties", "requantize-ties", "requantize-levels")]

FAKE = '''
import os, signal, time
import numpy as np
from pt2e_ci.engines.runtime import NotTakenError, Ran
from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.vectors.arithmetic import levels, sums


class Fake:
    """Right, but for what `does` makes of the second vector."""

    def __init__(self, does=lambda made: made, rounding=Rounding.HALF_EVEN):
        self.does, self.rounding = does, rounding

    def version(self):
        return "fake 1.0"

    def run(self, vector):
        made = Ran(levels(sums(vector), vector.output, self.rounding), "fake kernel")
        return self.does(made) if vector.name == "requantize-ties" else made


def raising(error):
    def does(made):
        raise error
    return does


RIGHT, UP = Fake(), Fake(rounding=Rounding.HALF_UP)
DIES = Fake(lambda made: os.kill(os.getpid(), signal.SIGSEGV))
LEAVES = Fake(lambda made: os._exit(3))
HANGS = Fake(lambda made: time.sleep(600))
FLOATS = Fake(lambda made: Ran(made.levels, "Dequantize Add Quantize", "Dequantize Add Quantize"))
REFUSES = Fake(raising(NotTakenError("no such kernel")))
RAISES = Fake(raising(KeyError("kernel")))
OFF = Fake(lambda made: Ran(made.levels.astype(int) + 3, "fake kernel"))
SHAPE = Fake(lambda made: Ran(made.levels[:3], "fake kernel"))
DTYPE = Fake(lambda made: Ran(made.levels.astype(float), "fake kernel"))
LIST = Fake(lambda made: Ran(made.levels.tolist(), "fake kernel"))
NONE = object()
'''


@pytest.fixture
def fake(tmp_path, monkeypatch):
    (tmp_path / "fake_engine.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "outcome", "why"),
    [
        ("RIGHT", Outcome.PASS, None),
        ("DIES", Outcome.CRASH, "the process was ended by SIGSEGV"),
        ("LEAVES", Outcome.CRASH, "the process exited with 3"),
        ("HANGS", Outcome.TIMEOUT, "still running after 20 s"),
        ("FLOATS", Outcome.FLOAT, "runs in float: Dequantize Add Quantize"),
        ("REFUSES", Outcome.SKIP, "no such kernel"),
        ("RAISES", Outcome.ERROR, "KeyError: 'kernel'"),
        ("OFF", Outcome.MISMATCH, None),
        ("SHAPE", Outcome.ERROR, "it gave int8 of shape (3, 16), where levels of shape (16, 16) are due"),
        ("DTYPE", Outcome.ERROR, "it gave float64 of shape (16, 16), where levels of shape (16, 16) are due"),
        ("LIST", Outcome.ERROR, "it gave list, where levels of shape (16, 16) are due"),
    ],
)
def test_what_an_engine_does_costs_one_vector(fake, name, outcome, why):
    version, (before, own, after) = run(f"fake_engine:{name}", FEW, seconds=20)
    assert version == "fake 1.0"
    assert (before.outcome, after.outcome) == (Outcome.PASS, Outcome.PASS)
    assert own.outcome is outcome
    assert why is None or own.why == why
    # What ran in float is no number.
    assert bool(own.values) == (outcome in (Outcome.PASS, Outcome.MISMATCH))


def test_engine_that_cannot_be_started_is_one_line(fake):
    for where in ("fake_engine:NONE", "fake_engine:MISSING", "no_such_module:ENGINE"):
        with pytest.raises(InputError, match=f"the engine {where} cannot be started: "):
            run(where, FEW)


def report(results, engine="fake", **fields):
    given = {"package": "fake 1.0", "platform": "linux_x86_64", "cpu": "a CPU", "flags": [], "python": "3.11"}
    return EngineReport(engine=engine, vectors="sha256:0", results=results, **given | fields)


def test_ties_tell_engines_apart(fake):
    even, up = (report(run(f"fake_engine:{name}", FEW)[1], name) for name in ("RIGHT", "UP"))
    (linear, requantize) = rows(up)
    assert (linear.scheme, linear.explained, linear.ties) == ("half_up", 2060, 2060)
    assert linear.texts[2:7] == ("near", "1", "25.24%", "0", "half_up: 2,060 of 2,060")
    assert rows(even)[0].texts[2:6] == ("exact", "0", "0", "0")
    assert disagreements([even, up]) == [
        "linear: half_even by RIGHT; half_up by UP",
        "requantize: half_even by RIGHT; half_up by UP",
    ]
    assert disagreements([even, even]) == []
    text = markdown([even, up])
    assert "| linear | exact | near, half\\_up |" in text
    assert "half\\_up: 2,060 of 2,060" in text
    assert requantize.values == 512


def known(**fields):
    return Known(**{"engine": "f*", "vector": "requantize-*", "outcome": Outcome.FLOAT, "why": "known"} | fields)


def test_what_is_known_is_known_both_ways(fake):
    floats = report(run("fake_engine:FLOATS", FEW)[1])
    assert [line.partition(": ")[2] for line in floats.unexpected([])] == [
        "requantize-ties is float: runs in float: Dequantize Add Quantize"
    ]
    assert floats.unexpected([known(vector="requantize-ties")]) == []
    # An entry that does not hold any more is as red.
    assert floats.unexpected([known()]) == ["fake: requantize-levels is pass: right, and float is known: known"]
    skips = report(run("fake_engine:REFUSES", FEW)[1])
    assert skips.unexpected([]) == []
    assert len(skips.unexpected([known(vector="requantize-ties")])) == 1


def test_entry_may_be_of_a_cpu_or_a_platform_and_the_last_counts():
    without = known(without="avx512_vnni", platform="linux_x86_64")
    assert entry_for(report([]), "requantize-ties", [without]) is without
    assert entry_for(report([], flags=["avx512_vnni"]), "requantize-ties", [without]) is None
    assert entry_for(report([], platform="linux_aarch64"), "requantize-ties", [without]) is None
    last = known(outcome=Outcome.INEXACT)
    assert entry_for(report([]), "requantize-ties", [without, last]) is last
    assert entry_for(report([]), "linear-ties", [last]) is None


def test_each_entry_is_of_an_engine_and_a_vector_that_there_are():
    names = {name for engine in load_engines() for name in engine.runs}
    for entry in load_known():
        found = [
            (name, vector) for name in names for vector in VECTORS
            if entry_for(report([], name), vector, [entry]) is entry
        ]  # fmt: skip
        assert found, entry


# Files and commands


def test_report_is_read_again_and_others_are_refused(fake, tmp_path):
    made = report(run("fake_engine:RIGHT", FEW)[1])
    path = save(made, tmp_path / "reports")
    assert path.name == "fake-linux_x86_64.json"
    assert read_reports([tmp_path / "reports"]) == [made]
    text = path.read_text()
    for broken, message in (
        (text[:-30], "no report of an engine"),
        (text.replace('"version": 1', '"version": 9'), "of version 9"),
    ):
        path.write_text(broken)
        with pytest.raises(InputError, match=message):
            read_reports([path])
    with pytest.raises(InputError, match="no report of an engine there: run `nox -s engines`"):
        read_reports([tmp_path])


def command(*arguments, cwd=ROOT):
    named = arguments[:1] == ("reduce",)
    line = [sys.executable, "-m", "pt2e_ci", *(() if named else ("engines",)), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=cwd)


def test_command_runs_an_engine_of_ones_own_and_prints_what_it_does(fake, tmp_path):
    red = command("run", "fake_engine:FLOATS", "--reports", tmp_path / "reports", cwd=tmp_path)
    assert red.returncode == 1
    assert "fake_engine-FLOATS: requantize-ties is float: runs in float: Dequantize Add Quantize" in red.stdout
    green = command("run", "fake_engine:RIGHT", "--reports", tmp_path / "reports", cwd=tmp_path)
    assert green.returncode == 0, green.stdout + green.stderr
    assert f"fake_engine:RIGHT, fake 1.0: {len(VECTORS)} pass of {len(VECTORS)} vectors; all known" in green.stdout
    table = command("--reports", tmp_path / "reports", "--engine", "fake_engine-RIGHT")
    assert table.returncode == 0
    assert "half_even: 2,060 of 2,060" in table.stdout
    assert "FLOATS" not in table.stdout
    as_markdown = command("--reports", tmp_path / "reports", "--markdown")
    assert as_markdown.stdout.startswith("fake 1.0 on linux_")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "onnxruntme"], "unknown engine 'onnxruntme': did you mean 'onnxruntime'?"),
        (["run", "fake_engine:MISSING"], "the engine fake_engine:MISSING cannot be started: "),
        (["--reports", "nowhere"], "no report of an engine there: run `nox -s engines`"),
        (["run", "torch-qnnpack", "--vectors", "nowhere"], "nowhere/manifest.json: cannot be read"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path):
    if "--reports" in arguments:
        (tmp_path / "nowhere").mkdir()
    done = command(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"pt2e-ci: error: {message}")
    assert len(done.stderr.splitlines()) == 1


def test_engines_are_read_and_a_wrong_row_is_refused(tmp_path):
    engines = load_engines()
    assert [one.name for one in select_engines([], engines)] == [one.name for one in engines if one.cell is None]
    assert select_engines(["all"], engines) == engines
    with pytest.raises(InputError, match="did you mean 'litert'"):
        select_engines(["literd"], engines)
    path = tmp_path / "cells.toml"
    row = '[[engine]]\nname = "one"\nrequires = []\nruns = { one = "a:b" }\n'
    path.write_text(row)
    assert load_engines(path) == (Engine("one", (), {"one": "a:b"}),)
    for text, message in (
        (row + row, "two engines are called 'one'"),
        (row.replace("runs", "walks"), "the engine has no 'runs'"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            load_engines(path)


@pytest.mark.parametrize("name", ["torch-qdq", "torch-onednn"])
def test_torch_runs_vectors(name):
    (where,) = {one.runs[name] for one in load_engines() if name in one.runs}
    chosen = [VECTORS[one] for one in ("linear-ties", "linear-per-channel", "conv2d-ties", "add-ties", "mul-ties")]
    version, results = run(where, chosen)
    assert version.startswith("torch 2.")
    assert [one.outcome for one in results] == [Outcome.PASS] * 5
    assert all(one.values for one in results)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="it lowers to x86 alone")
def test_what_a_lowering_leaves_in_float_is_said():
    (where,) = {one.runs["x86-onednn"] for one in load_engines() if "x86-onednn" in one.runs}
    _, (linear, add) = run(where, [VECTORS["linear-ties"], VECTORS["add-ties"]])
    assert (linear.outcome, linear.kernel) == (Outcome.PASS, "onednn.qlinear_pointwise.default")
    assert linear.ties_by["half_even_of_level"] == linear.ties
    assert (add.outcome, add.values) == (Outcome.FLOAT, 0)
    assert "aten.add" in add.why


def test_report_fits_what_is_written(fake):
    made = report(run("fake_engine:DIES", FEW)[1])
    assert json.loads(msgspec.json.encode(made))["results"][1]["outcome"] == "crash"


NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.head = nn.Linear(8, 5)
        nn.init.zeros_(self.head.bias)  # a whole number of accumulators, and upstream's linear cannot do without one

    def forward(self, x):
        y = torch.relu(self.conv(x))
        y = self.depthwise(y) + y
        return self.head(y.mean([2, 3]))

torch.manual_seed(0)
model, inputs = Net().eval(), (torch.randn(2, 3, 8, 8),)
"""

DEVICE = '''
import torch
from pt2e_ci.engines.lowered import QDQ
from pt2e_ci.engines.runtime import NotTakenError, Ran


class Device:
    """The Q/DQ program's own kernels, but for what `does` makes of some operators."""

    def __init__(self, **does):
        self.does = does

    def version(self):
        return "device 1.0"

    def run(self, vector):
        made = QDQ.run(vector)
        return self.does.get(vector.operator, lambda made: made)(made)


def refused(made):
    raise NotTakenError("no such kernel")


def one_more(made):
    return Ran((made.levels.astype("int16") + 1).clip(-128, 127).astype("int8"), "one more")


def last_is_off(made):
    levels = made.levels.copy()
    levels[-1, -1, -1, -1] ^= 8
    return Ran(levels, "last")


SAME, MORE = Device(), Device(conv2d=one_more)
LAST = Device(conv2d=last_is_off)
SOME = Device(linear=refused, add=lambda made: Ran(made.levels, "Add", "Add"))
FEW = Device(conv2d=one_more, add=one_more, mean=one_more)
'''


@pytest.fixture
def net(tmp_path, monkeypatch):
    """A file with a model, and a module of devices that can be imported here and in other processes."""
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "mydevice.py").write_text(DEVICE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "net.py"


def departures_of(net, name):
    from pt2e_ci import check
    from pt2e_ci.checking.file import read_file

    return check(**read_file(str(net)), engines=[f"mydevice:{name}"])


def test_device_with_the_programs_own_kernels_parts_nowhere(net):
    result = departures_of(net, "SAME")
    found = [one.devices["mydevice:SAME"] for one in result.case.operators if one.verdict]
    assert [(one.isolated, one.cumulative, one.why) for one in found] == [(0, 0, None)] * 5
    assert "device    mydevice:SAME runs 5 of 5 operators, with the Q/DQ program's own levels" in str(result)


def test_device_that_is_off_parts_alone_and_in_the_chain(net):
    from pt2e_ci.views.explain import explain

    result = departures_of(net, "MORE")
    found = [(one.name, one.devices["mydevice:MORE"]) for one in result.case.operators if one.verdict]
    assert [one.isolated for name, one in found if name == "conv2d"] == [1, 1]
    assert all(one.isolated == 0 for name, one in found if name != "conv2d")
    assert all(one.cumulative >= 1 for name, one in found)  # it goes on to what follows
    text = explain(result.report, result.case)
    assert "On mydevice:MORE, levels apart from the Q/DQ program's, alone and in the chain:" in text
    assert "1 LSB alone, 1 LSB in the chain (one more)" in text
    assert len(str(result).splitlines()) <= 10


def test_what_a_device_does_not_run_on_integers_is_said_and_left_to_the_program(net):
    result = departures_of(net, "SOME")
    found = {one.name: one.devices["mydevice:SOME"] for one in result.case.operators if one.verdict}
    assert (found["linear"].isolated, found["linear"].why) == (None, "no such kernel")
    assert (found["add"].isolated, found["add"].why) == (None, "runs in float: Add")
    assert (found["mean"].isolated, found["mean"].cumulative) == (0, 0)


@pytest.mark.parametrize(
    ("engines", "says"),
    [("onnx", "engines is a str"), (["onnxruntim"], "unknown engine"), (["nowhere:X"], "cannot be started")],
)
def test_engines_that_will_not_do_are_one_line(engines, says):
    from torch import nn, zeros

    from pt2e_ci import check

    with pytest.raises(InputError, match=says) as raised:
        check(nn.Linear(1, 1).eval(), (zeros(1, 1),), engines=engines)
    assert "\n" not in str(raised.value)


def test_reduced_to_one_element_of_one_operator(net, tmp_path):
    """Of a batch of two, eight channels and sixteen places, the one element that is off."""
    from pt2e_ci.vectors.folder import read

    done = command("reduce", net, tmp_path / "least", "--engine", "mydevice:LAST")
    assert (done.returncode, done.stderr) == (1, ""), done.stderr
    assert done.stdout.startswith("mydevice:LAST is 8 LSB off after conv2d")
    (vector,) = read(tmp_path / "least")[1]
    assert vector.operands[0].levels.shape == (1, 3, 3, 3)
    assert vector.weight.levels.shape == (1, 3, 3, 3)


def test_reduced_to_a_row_where_none_is_off_by_so_much_alone(net, tmp_path):
    from pt2e_ci.vectors.folder import read

    done = command("reduce", net, tmp_path / "least", "--engine", "mydevice:FEW", "--lsb", "2")
    assert (done.returncode, done.stderr) == (1, ""), done.stderr
    assert len(read(tmp_path / "least")[1]) > 1


def test_nothing_to_reduce(net, tmp_path):
    done = command("reduce", net, tmp_path / "least", "--engine", "mydevice:SAME")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "least").exists()
