"""The suite, broken in every way that it is there to notice. Each test shows it going red, and why."""

from __future__ import annotations

import broken
import pytest
from conftest import taken

from pt2e_ci.record.records import Known
from pt2e_ci.record.report import read_report


def test_crash_costs_one_case(suite, tmp_path):
    """Two processes die, one of them in a case that is known for it."""
    expectations = tmp_path / "expectations.toml"
    expectations.write_text('[[known]]\ncase = "mul"\noutcome = "crash"\nreason = "r"\nlink = "l"\n')
    cases = [f"--case={name}" for name in ("add", "mul", "qdq_per_channel_2d")]
    run = suite(*cases, f"--expectations={expectations}", fault="deaths")
    assert run.code == 1
    for name, signal in (("add", "SIGSEGV"), ("mul", "SIGKILL")):
        crashed = run.case(name)
        assert (crashed.outcome, crashed.stage) == ("crash", "export")
        assert crashed.reason.text == f"the process was ended by {signal}"
        assert crashed.change == (None if name == "mul" else "new")
    # What the file leaves out is known as the package has it.
    assert run.case("add").complaint.startswith("crash, where inexact is expected (")
    assert run.case("mul").complaint is None
    assert run.case("mul").known == Known(reason="r", link="l")
    assert run.case("qdq_per_channel_2d").outcome == "pass"
    assert run.report.is_complete


def test_hang_costs_one_case(suite, monkeypatch):
    monkeypatch.setenv("PYTEST_TIMEOUT", "15")
    run = suite("--case=add", "--case=qdq_per_channel_2d", fault="hang", keep=("PYTEST_TIMEOUT",))
    assert run.code == 1
    assert run.case("add").outcome == "timeout"
    assert run.case("add").stage == "export"
    assert run.case("add").reason.text == "still running after 15 s"
    assert run.case("qdq_per_channel_2d").outcome == "pass"


def test_exception_is_an_error_with_its_stage_and_a_stopped_run_takes_no_reports_name(suite):
    run = suite("-x", "--case=add", "--case=static_linear", "--case=qdq", "-n0", fault="exception")
    assert run.code == 1
    assert "Traceback" in run.stdout
    assert not run.path.exists()
    part = read_report(run.path.with_name("report.jsonl.partial"))
    assert (len(part.cases), part.end.selected) == (2, 3)
    error = part.cases[-1]
    assert (error.name, error.outcome, error.stage) == ("add", "error", "export")
    assert error.reason.text == "RuntimeError: no graph today"


def test_missing_engine_that_is_required_fails(suite):
    run = suite("--case=add", "--require=qnnpack", fault="no_qnnpack")
    assert run.code == 1
    assert run.case("add").outcome == "skip"
    assert run.case("add").complaint.startswith("qnnpack required")


def test_missing_engine_skips_with_the_reason_and_what_is_required_fails_the_run(suite):
    run = suite("--case=add", "--require=sve,amx_int8", fault="no_qnnpack")  # no CPU has both
    assert run.code == 1
    assert "is required: this CPU has no" in run.stdout
    assert (run.case("add").outcome, run.case("add").complaint) == ("skip", None)
    assert "torch has no qnnpack engine here" in run.case("add").reason.text


# What no process has to end for is seen in this one.


@pytest.fixture
def broken_by(monkeypatch):
    """Take a case through the flow, broken in one way; return its line of the report."""

    def take(fault, name):
        with monkeypatch.context() as patch:
            getattr(broken, fault)(patch)
            return taken(name)

    return take


def test_rewrite_that_stops_matching(broken_by):
    linear = broken_by("rewrite_gone", "static_linear")
    assert (linear.outcome, linear.change) == ("float", "new")
    assert linear.structure.coverage == 0
    assert linear.numerics.reference_vs_qdq.max == 0
    assert linear.seed_check.outcome == "pass"  # upstream's own rule sees nothing
    assert broken_by("rewrite_gone", "qdq_per_channel_2d").outcome == "float"


def test_rewrite_that_starts_matching(broken_by):
    conv = broken_by("rewrite_new", "conv2d")
    assert (conv.outcome, conv.change) == ("pass", "gone")
    assert conv.structure.integer == 1
    assert conv.structure.rewrites["conv2d"] == 1
    assert "remove its entry" in conv.complaint
    assert "expectations.toml: [[known]]" in conv.complaint


def test_output_off_by_two(broken_by):
    add = broken_by("off_by_two", "add")
    assert (add.outcome, add.change) == ("mismatch", "new")
    assert add.numerics.reference_vs_qdq.max in (2, 3)  # 1 is upstream's own


def test_output_off_the_grid(broken_by):
    linear = broken_by("off_grid", "qdq_per_channel_2d")
    assert linear.outcome == "mismatch"
    assert linear.complaint
    assert "from what its own levels stand for" in linear.reason.text


def test_output_that_is_not_finite(broken_by):
    linear = broken_by("not_a_number", "qdq_per_channel_2d")
    assert linear.outcome == "mismatch"
    numbers = linear.numerics.reference_vs_qdq
    assert numbers.not_finite == numbers.compared


def test_program_that_is_not_deterministic(broken_by):
    linear = broken_by("not_deterministic", "qdq_per_channel_2d")
    assert linear.outcome == "mismatch"
    assert "run again" in linear.reason.text


@pytest.mark.parametrize("fault", ["not_a_number", "not_deterministic", "off_grid", "off_by_two"])
def test_known_defect_does_not_hide_another(broken_by, fault):
    add = broken_by(fault, "add_relu")
    assert (add.outcome, add.known, add.change) == ("mismatch", None, "worse")
    assert add.complaint.startswith("more than the known mismatch")


@pytest.mark.parametrize("name", ["qdq_per_channel_2d", "static_linear"])
def test_quantizer_that_annotates_nothing(broken_by, name):
    record = broken_by("no_annotation", name)
    assert record.outcome == "unquantized"
    assert record.complaint
    assert "annotated nothing" in record.reason.text
