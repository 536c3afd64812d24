"""The suite, broken in every way that it is there to notice. Each test shows it going red, and why."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(("fault", "name"), [("segfault", "SIGSEGV"), ("killed", "SIGKILL")])
def test_crash_costs_one_case(suite, fault, name):
    run = suite("--case=add", "--case=static_linear", "--case=add_relu", fault=fault)
    assert run.code == 1
    crashed = run.case("add")
    assert crashed["outcome"] == "crash"
    assert crashed["stage"] == "export"
    assert crashed["reason"] == f"the process was ended by {name}"
    assert crashed["complaint"]
    assert run.case("static_linear")["outcome"] == "pass"
    assert run.case("add_relu")["known"]
    assert run.report.is_complete


def test_hang_costs_one_case(suite):
    run = suite("--case=add", "--case=static_linear", "--timeout=20", fault="hang")
    assert run.code == 1
    assert run.case("add")["outcome"] == "timeout"
    assert run.case("add")["stage"] == "export"
    assert run.case("add")["reason"] == "still running after 20 s"
    assert run.case("static_linear")["outcome"] == "pass"


def test_known_crash_is_not_red(suite, tmp_path):
    expectations = tmp_path / "expectations.toml"
    expectations.write_text('[[known]]\ncase = "add"\noutcome = "crash"\nreason = "r"\nlink = "l"\n')
    run = suite("--case=add", f"--expectations={expectations}", fault="segfault")
    assert run.code == 0
    assert run.case("add")["outcome"] == "crash"
    assert run.case("add")["known"] == {"reason": "r", "link": "l"}


def test_exception_is_an_error_with_its_stage(suite):
    run = suite("--case=add", fault="exception")
    assert run.code == 1
    assert run.case("add")["outcome"] == "error"
    assert run.case("add")["stage"] == "export"
    assert run.case("add")["reason"] == "RuntimeError: no graph today"
    assert "Traceback" in run.stdout


def test_rewrite_that_stops_matching(suite):
    run = suite("--case=static_linear", "--case=qdq_per_channel_2d", fault="rewrite_gone")
    assert run.code == 1
    linear = run.case("static_linear")
    assert linear["outcome"] == "vacuous"
    assert linear["structure"]["coverage"] == 0
    assert linear["numerics"]["reference_vs_qdq"]["max"] == 0
    assert linear["seed_check"]["outcome"] == "pass"  # upstream's own rule sees nothing
    assert run.case("qdq_per_channel_2d")["outcome"] == "vacuous"


def test_rewrite_that_starts_matching(suite):
    run = suite("--case=conv2d", fault="rewrite_new")
    assert run.code == 1
    conv = run.case("conv2d")
    assert conv["outcome"] == "pass"
    assert conv["structure"]["integer"] == 1
    assert conv["structure"]["rewrites"]["conv2d"] == 1
    assert "remove its entry" in conv["complaint"]
    assert "expectations.toml:" in conv["complaint"]


def test_output_off_by_two(suite):
    run = suite("--case=add", fault="off_by_two")
    assert run.code == 1
    assert run.case("add")["outcome"] == "mismatch"
    assert run.case("add")["numerics"]["reference_vs_qdq"]["max"] in (2, 3)  # 1 is upstream's own


def test_output_off_the_grid(suite):
    run = suite("--case=qdq_per_channel_2d", fault="off_grid")
    assert run.code == 1
    assert run.case("qdq_per_channel_2d")["outcome"] == "mismatch"
    assert "off the grid" in run.case("qdq_per_channel_2d")["reason"]


def test_output_that_is_not_finite(suite):
    run = suite("--case=qdq_per_channel_2d", fault="not_a_number")
    assert run.code == 1
    assert run.case("qdq_per_channel_2d")["outcome"] == "mismatch"
    numbers = run.case("qdq_per_channel_2d")["numerics"]["reference_vs_qdq"]
    assert numbers["not_finite"] == numbers["compared"]


def test_program_that_is_not_deterministic(suite):
    run = suite("--case=qdq_per_channel_2d", fault="not_deterministic")
    assert run.code == 1
    assert run.case("qdq_per_channel_2d")["outcome"] == "mismatch"
    assert "run again" in run.case("qdq_per_channel_2d")["reason"]


@pytest.mark.parametrize("fault", ["not_a_number", "not_deterministic", "off_grid", "off_by_two"])
def test_known_defect_does_not_hide_another(suite, fault):
    run = suite("--case=add_relu", fault=fault)
    assert run.code == 1
    assert run.case("add_relu")["outcome"] == "mismatch"
    assert run.case("add_relu")["known"] is None
    assert run.case("add_relu")["complaint"].startswith("more than the known mismatch")


def test_quantizer_that_annotates_nothing(suite):
    run = suite("--case=qdq_per_channel_2d", "--case=static_linear", fault="no_annotation")
    assert run.code == 1
    for name in ("qdq_per_channel_2d", "static_linear"):
        assert run.case(name)["outcome"] == "vacuous"
        assert "annotated nothing" in run.case(name)["reason"]


def test_missing_engine_skips_with_the_reason(suite):
    run = suite("--case=add", fault="no_qnnpack")
    assert run.code == 0
    assert run.case("add")["outcome"] == "skip"
    assert "torch has no qnnpack engine here" in run.case("add")["reason"]


def test_missing_engine_that_is_required_fails(suite):
    run = suite("--case=add", "--require=qnnpack", fault="no_qnnpack")
    assert run.code == 1
    assert run.case("add")["outcome"] == "skip"
    assert run.case("add")["complaint"].startswith("qnnpack required")


def test_required_capability_that_no_case_needs(suite):
    run = suite("--case=add", "--require=sve,amx_int8")  # no CPU has both
    assert run.code == 1
    assert "is required: this CPU has no" in run.stdout
    assert run.case("add")["outcome"] == "pass"
