"""The suite as it stands: what it says on this torch, and how it gets along with pytest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

from pt2e_ci.cases.catalogue import case_names
from pt2e_ci.reports.record import dump

# What upstream's representation does on the torch that these tests run on.
PASS = [
    *("static_linear", "dynamic_linear", "add", "qdq", "linear_3d", "linear_large", "dynamic_linear_ties"),
    *(f"qdq_per_channel_{dimensions}d" for dimensions in (2, 3, 4, 5)),
    *("add_broadcast", "add_one_sided", "add_scales"),
]
MISMATCH = [
    *("add_relu", "linear_rounding", "linear_huge_bias", "linear_long_accumulation", "dynamic_linear_wide"),
    *("add_pairs", "add_infinite", "adaptive_avg_pool2d_ties"),
]
ERROR = ["linear_no_bias", "dynamic_linear_no_bias", "dynamic_linear_int4"]
OUTCOMES = (
    dict.fromkeys(case_names(), "vacuous")
    | dict.fromkeys(PASS, "pass")
    | dict.fromkeys(MISMATCH, "mismatch")
    | dict.fromkeys(ERROR, "error")
)


def test_every_case_ends_as_expected(whole_run):
    assert whole_run.code == 0, whole_run.stdout
    assert {case["name"]: case["outcome"] for case in whole_run.report.cases} == OUTCOMES
    assert all(case["complaint"] is None for case in whole_run.report.cases)
    assert {case["name"] for case in whole_run.report.cases if not case["known"]} == set(PASS)


def test_report_is_whole_and_fits_the_schema(whole_run):
    report = whole_run.report
    assert report.is_complete
    assert dump(report) == whole_run.path.read_text()
    assert report.end["counts"] == dict(Counter(OUTCOMES.values()))
    assert report.run["packages"]["torch"].startswith(report.run["torch"])
    assert report.run["representation"] == "upstream"


def test_integers_are_where_upstream_puts_them(whole_run):
    coverage = {case["name"]: case["structure"]["coverage"] for case in whole_run.report.cases if case["structure"]}
    integer = {name for name, share in coverage.items() if share == 1}
    assert integer == {name for name in (*PASS, *MISMATCH) if not name.startswith(("qdq_per_channel", "adaptive"))}
    assert whole_run.case("add_relu")["structure"]["rewrites"] == {
        "add_relu": 1,
        "dequantize_per_tensor": 1,
        "quantize_per_tensor": 2,
    }


def test_differences_are_traced_to_their_operator(whole_run):
    exact = {case["name"]: case["exact"] for case in whole_run.report.cases if case["exact"]}
    assert exact["static_linear"]["reference_starts_at"].startswith("linear (")
    assert exact["add_infinite"]["reference_starts_at"].startswith("input (")
    assert exact["small_cnn"]["reference_starts_at"].startswith("mean (")
    assert exact["conv2d"]["reference_starts_at"] is None
    assert {name for name, found in exact.items() if found["approximated"]} == {"attention"}
    assert all(found["unavailable"] is None for found in exact.values())
    last = exact["static_linear"]["operators"][-1]
    assert (last["operator"], last["qdq"]["max"], last["reference"]["max"]) == ("linear", 0, 1)


def test_engines_are_measured(whole_run):
    engines = whole_run.case("add_pairs")["engines"]
    assert set(engines) >= {"qnnpack", "onednn"}
    assert all(numbers["max"] == 0 and numbers["compared"] for numbers in engines.values())
    refused = whole_run.case("avg_pool2d")["engines"]["qnnpack"]["skipped"]
    assert refused == {"avg_pool2d": "the kernel gives its input's grid to its output, and the program has another"}


def test_histogram_counts_every_output(whole_run):
    for case in whole_run.report.cases:
        if case["outcome"] == "error":
            continue
        numbers = case["numerics"]["reference_vs_qdq"]
        if numbers["unit"] == "lsb":
            assert sum(numbers["histogram"].values()) == numbers["compared"]
            assert max(abs(int(value)) for value in numbers["histogram"]) == numbers["max"]


def test_table_names_every_case(whole_run):
    table = whole_run.stdout.split("PT2E reference representation")[1]
    for name in case_names():
        assert name in table
    known = len(OUTCOMES) - len(PASS)
    assert f"{len(OUTCOMES)} cases: {len(PASS)} pass, {known} known defects, 0 skipped, 0 unexpected" in table


def test_junit_agrees(whole_run):
    suite = ET.parse(whole_run.path.with_name("junit.xml")).getroot().find("testsuite")
    assert suite.attrib["tests"] == str(len(OUTCOMES))
    assert suite.attrib["failures"] == "0"


def test_second_run_gives_the_same_digests(suite, whole_run):
    again = suite("--case=static_linear", "--case=dynamic_linear", "--case=conv2d", "-n2")
    assert {case["name"]: case["digest"] for case in again.report.cases} == {
        name: whole_run.case(name)["digest"] for name in ("static_linear", "dynamic_linear", "conv2d")
    }


def test_another_seed_gives_other_integers(suite, whole_run):
    other = suite("--case=static_linear", "--seed=1")
    assert other.code == 0
    assert other.case("static_linear")["digest"] != whole_run.case("static_linear")["digest"]
    assert other.report.run["seed"] == 1


def test_keyword_selects_cases(suite):
    run = suite("-k", "qdq and not channel")
    assert [case["name"] for case in run.report.cases] == ["qdq"]


def test_stopped_run_does_not_take_the_reports_name(suite):
    run = suite("-x", "--case=add", "--case=static_linear", "--case=qdq", "-n0", fault="exception")
    assert run.code == 1
    assert not run.path.exists()
    part = run.path.with_name("report.jsonl.partial")
    assert json.loads(part.read_text().splitlines()[-1])["selected"] == 3


def test_sigterm_keeps_what_was_gathered(suite, tmp_path):
    command = [sys.executable, "-m", "pt2e_ci", "run", "add", "qdq", "--fresh", "-v", "--report=report.jsonl", "-n1"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "PT2E_CI_FAULT": "slow_qdq"}
    process = subprocess.Popen(
        [*command, "-p", "broken"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if "PASSED" in line:
            process.terminate()
    assert process.wait(timeout=60) == 2
    part = [json.loads(line) for line in (tmp_path / "report.jsonl.partial").read_text().splitlines()]
    assert [record.get("name") for record in part] == [None, "add", None]
    assert part[-1]["selected"] == 2
    assert not (tmp_path / "report.jsonl").exists()


def test_timeout_from_the_environment(suite, monkeypatch):
    monkeypatch.setenv("PYTEST_TIMEOUT", "15")
    run = suite("--case=add", fault="hang", keep=("PYTEST_TIMEOUT",))
    assert run.case("add")["reason"] == "still running after 15 s"


def test_collecting_only_is_no_failure(suite):
    run = suite("--collect-only", "-q", "-n0")
    assert run.code == 0
    assert "test_case[conv2d]" in run.stdout
    assert not run.path.exists()


def test_projects_own_settings_do_not_hide_the_suite(suite):
    run = suite("--case=qdq_per_channel_2d", "-o", "python_files=check_*.py", "-o", "filterwarnings=error")
    assert run.code == 0, run.stdout


def test_nothing_selected_is_not_a_pass(suite):
    run = suite("-k", "nonsense")
    assert run.code == 5
    assert not run.path.exists()


def test_report_on_standard_output_stands_alone(tmp_path):
    command = [sys.executable, "-m", "pt2e_ci", "run", "qdq_per_channel_2d", "--report", "-"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert [json.loads(line)["record"] for line in done.stdout.splitlines()] == ["run", "case", "end"]
    assert "1 passed" in done.stderr


def test_other_runs_of_pytest_are_left_alone(tmp_path):
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--report')\n    parser.addoption('--seed')\n"
    )
    (tmp_path / "test_own.py").write_text("def test_own():\n    pass\n")
    done = subprocess.run([sys.executable, "-m", "pytest", "--seed=3"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PT2E" not in done.stdout
