"""The suite as it stands: what it says on this torch, and how it gets along with pytest."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import taken

from pt2e_ci.catalogue.cases import case_names
from pt2e_ci.cells.cell import current_cell, platform_tag
from pt2e_ci.record.report import dump, read_whole_report
from pt2e_ci.record.unchanged import result_key
from pt2e_ci.suite.options import key_of

# What upstream's representation does on the torch that these tests run on.
PASS = [*(f"qdq_per_channel_{dimensions}d" for dimensions in (2, 3, 4, 5)), "add_scales", "add_scalar"]
INEXACT = [
    *("static_linear", "linear_3d", "linear_large", "linear_rounding", "linear_near_32_bits", "linear_dynamic_batch"),
    *("add", "qdq", "add_broadcast", "add_pairs", "add_one_sided", "shared_linear", "two_heads", "running_sum"),
]
MISMATCH = [
    *("dynamic_linear", "dynamic_linear_tiny", "dynamic_linear_wide", "dynamic_linear_ties"),
    *("add_relu", "add_infinite", "linear_huge_bias", "linear_long_accumulation"),
]
ERROR = ["linear_no_bias", "dynamic_linear_no_bias", "dynamic_linear_int4"]
OUTCOMES = (
    dict.fromkeys(case_names(), "float")
    | dict.fromkeys(PASS, "pass")
    | dict.fromkeys(INEXACT, "inexact")
    | dict.fromkeys(MISMATCH, "mismatch")
    | {"same_conv2d": "unquantized"}
    | dict.fromkeys(ERROR, "error")
)


def test_every_case_ends_as_expected(whole_run):
    assert whole_run.code == 0, whole_run.stdout
    assert {case.name: case.outcome for case in whole_run.report.cases} == OUTCOMES
    assert all(case.complaint is None for case in whole_run.report.cases)
    assert {case.name for case in whole_run.report.cases if not case.known} == set(PASS)


def test_report_is_whole_and_fits_the_schema(whole_run):
    report = whole_run.report
    assert report.is_complete
    assert dump(report) == whole_run.path.read_text()
    assert report.end.counts == dict(Counter(OUTCOMES.values()))
    assert report.run.packages["torch"].startswith(report.run.torch)
    assert report.run.representation == "upstream"


def test_report_stands_for_a_run_of_the_matrix_that_changes_nothing():
    """Its key is that of no options at all."""
    options = SimpleNamespace(
        case=[], require="", flow=None, representation=None, rounding="half_even", seed=0, keyword="", markexpr="",
        deselect=None, plugins=[], expectations=None, quantizer=None, cases=None, criteria=None,
    )  # fmt: skip
    key = result_key(Path(sysconfig.get_path("purelib")), platform.python_version(), {})
    assert key_of(options) == key
    assert key_of(SimpleNamespace(**vars(options) | {"seed": 1})) != key
    assert key_of(SimpleNamespace(**vars(options) | {"rounding": "truncate"})) != key
    for name in ("quantizer", "cases", "criteria"):
        assert key_of(SimpleNamespace(**vars(options) | {name: "mine:own"})) != key


def test_integers_are_where_upstream_puts_them(whole_run):
    coverage = {case.name: case.structure.coverage for case in whole_run.report.cases if case.structure}
    integer = {name for name, share in coverage.items() if share == 1}
    assert integer == {name for name in (*PASS, *INEXACT, *MISMATCH) if not name.startswith("qdq_per_channel")}
    assert whole_run.case("add_relu").structure.rewrites == {
        "add_relu": 1,
        "dequantize_per_tensor": 1,
        "quantize_per_tensor": 2,
    }


def test_differences_are_traced_to_their_operator(whole_run):
    exact = {case.name: case.exact for case in whole_run.report.cases if case.exact}
    assert exact["static_linear"].reference_starts_at.startswith("linear (")
    assert exact["add_infinite"].reference_starts_at.startswith("input (")
    assert exact["small_cnn"].reference_starts_at.startswith("mean (")
    assert exact["conv2d"].reference_starts_at is None
    assert {name for name, found in exact.items() if found.approximated} == {"attention"}
    assert all(found.unavailable is None for found in exact.values())
    given, last = whole_run.case("static_linear").operators
    assert (last.name, last.qdq.max, last.reference.max) == ("linear", 0, 1)
    assert (last.node, last.module, last.annotated) == ("linear", "linear", True)
    assert re.fullmatch(r"models\.py:\d+", last.source)
    assert (given.name, given.module, given.source) == ("input", None, None)
    # What stays in float after it has no levels, and is an operator all the same.
    (dynamic,) = [one for one in whole_run.case("dynamic_linear").operators if one.name == "linear"]
    assert (dynamic.levels, dynamic.annotated, dynamic.verdict) == (None, True, "integer")
    assert dynamic.reference.max < 0.1  # of what a level of its operands changes
    assert whole_run.case("avg_pool2d").structure.annotated_by == "quantizer"
    assert [one.annotated for one in whole_run.case("avg_pool2d").operators if one.name == "avg_pool2d"] == [False]


def test_engines_are_measured(whole_run):
    engines = whole_run.case("add_pairs").engines
    assert set(engines) >= {"qnnpack", "onednn"}
    assert all(numbers.max == 0 and numbers.compared for numbers in engines.values())
    refused = whole_run.case("avg_pool2d").engines["qnnpack"].skipped
    assert refused == {"avg_pool2d": "the kernel gives its input's grid to its output, and the program has another"}


def test_histogram_counts_every_output(whole_run):
    for case in whole_run.report.cases:
        if case.outcome == "error":
            continue
        numbers = case.numerics.reference_vs_qdq
        if numbers.unit == "lsb":
            assert sum(numbers.histogram.values()) == numbers.compared
            assert max(abs(int(value)) for value in numbers.histogram) == numbers.max


def test_table_names_every_case(whole_run):
    for name in case_names():
        line, *_ = re.findall(rf"^ {name} .*", whole_run.stdout, re.MULTILINE)
        assert len(line) <= 80
    known = len(OUTCOMES) - len(PASS)
    counts = f"{len(OUTCOMES)} cases: {len(PASS)} pass, {known} known defects, 0 skipped, 0 unexpected"
    assert counts in whole_run.stdout


def test_run_ends_with_the_answer(whole_run):
    """Above pytest's closing line, where it is pytest that one has called; no list of what is known stands there."""
    _, *lines = whole_run.stdout.partition("PT2E reference representation")[2].splitlines()
    *verdict, following = lines[:4]
    assert following.endswith(f"pt2e-ci report {whole_run.path.name}  (every case)")
    assert verdict == [
        f"6 of 69 cases hold on torch {whole_run.report.run.torch}; 14 are inexact, 37 compute in float, 1 is",
        "not quantized, 8 are wrong and 3 fail: all known; nothing new.",
        f"Report: {whole_run.path.name}",
    ]
    assert "passed" in lines[-1]
    assert "XFAIL" not in whole_run.stdout
    assert "warning" not in (whole_run.stdout + whole_run.stderr).lower()


def test_run_says_how_far_it_is(whole_run):
    assert re.findall(r"^(\d+) of 69 cases", whole_run.stdout, re.MULTILINE)[:5] == ["10", "20", "30", "40", "50"]


def test_junit_agrees(whole_run):
    suite = ET.parse(whole_run.path.with_name("junit.xml")).getroot().find("testsuite")
    assert suite.attrib["tests"] == str(len(OUTCOMES))
    assert suite.attrib["failures"] == "0"


@pytest.mark.parametrize("name", ["static_linear", "dynamic_linear", "conv2d"])
def test_second_run_gives_the_same_digest(whole_run, name):
    assert taken(name).digest == whole_run.case(name).digest


def test_another_seed_gives_other_integers(whole_run):
    other = taken("static_linear", seed=1)
    assert other.complaint is None
    assert other.digest != whole_run.case("static_linear").digest


def test_run_of_some_cases_leaves_the_whole_ones_report_alone(tmp_path):
    """Whatever the project around it has set for its own tests."""
    (tmp_path / "reports").mkdir()
    whole = tmp_path / "reports" / f"{current_cell().id(platform_tag())}.jsonl"
    whole.write_text("a whole run's")
    command = [sys.executable, "-m", "pytest", "--pyargs", "pt2e_ci.suite", "-k", "qdq and not channel", "--seed=1"]
    command += ["-n0", "-o", "python_files=check_*.py", "-o", "filterwarnings=error"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert whole.read_text() == "a whole run's"
    report = read_whole_report(tmp_path / "reports" / "other" / whole.name)
    assert ([case.name for case in report.cases], report.run.seed) == (["qdq"], 1)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_keeps_what_was_gathered(tmp_path, number, code):
    command = [sys.executable, "-m", "pt2e_ci", "run", "add", "qdq", "-v", "--report=report.jsonl", "-n1"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "PT2E_CI_FAULT": "slow_qdq"}
    process = subprocess.Popen(
        [*command, "-p", "broken"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # the signal is for this process alone, and not for its workers
    )
    for line in process.stdout:
        if "XFAIL" in line:
            process.send_signal(number)
            break
    rest = process.stdout.read()
    assert process.wait(timeout=60) == code
    assert " ".join(rest.splitlines()[-4:-2]).endswith("nothing new. Stopped before 1 more.")
    part = [json.loads(line) for line in (tmp_path / "report.jsonl.partial").read_text().splitlines()]
    assert [record.get("name") for record in part] == [None, "add", None]
    assert part[-1]["selected"] == 2
    assert not (tmp_path / "report.jsonl").exists()


def test_collecting_only_is_no_failure(suite):
    run = suite("--collect-only", "-q", "-n0")
    assert run.code == 0
    assert "test_case[conv2d]" in run.stdout
    assert not run.path.exists()


def test_nothing_selected_is_not_a_pass(suite):
    run = suite("-k", "nonsense", "-n0")
    assert run.code == 5
    assert not run.path.exists()


def test_report_on_standard_output_stands_alone(tmp_path):
    command = [sys.executable, "-m", "pt2e_ci", "run", "qdq_per_channel_2d", "--report", "-"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert [json.loads(line)["record"] for line in done.stdout.splitlines()] == ["run", "case", "end"]
    torch = json.loads(done.stdout.splitlines()[0])["torch"]
    # The command's own answer stands below pytest's closing line.
    assert "1 passed" in done.stderr.splitlines()[-2]
    assert done.stderr.splitlines()[-1] == f"1 of 1 case holds on torch {torch}: nothing new."


def test_other_runs_of_pytest_are_left_alone(tmp_path):
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--report')\n    parser.addoption('--seed')\n"
    )
    (tmp_path / "test_own.py").write_text("def test_own():\n    pass\n")
    done = subprocess.run([sys.executable, "-m", "pytest", "--seed=3"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PT2E" not in done.stdout
