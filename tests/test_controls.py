"""The checks are measured: the exact control passes, and every fault is caught."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from conftest import converted

from pt2e_ci.cases.catalogue import CASES, select_cases
from pt2e_ci.cells import current_cell
from pt2e_ci.cli import main
from pt2e_ci.controls import scoring
from pt2e_ci.controls.faults import FAULTS, describe
from pt2e_ci.controls.integer import integer_representation
from pt2e_ci.controls.scoring import Controls
from pt2e_ci.flows.homes import import_home
from pt2e_ci.outcomes import Outcome


@pytest.fixture(scope="module")
def controls():
    torch.set_num_threads(1)
    return Controls(CASES, import_home(current_cell().flow), 0)


def test_exact_control_passes_every_case(controls):
    assert controls.failed == []


def test_exact_control_computes_in_integers_alone(suite):
    run = suite("--representation=pt2e_ci.controls.integer:integer_representation")
    assert run.code == 0, run.stdout
    assert run.report.end["counts"] == {"pass": len(CASES)}
    for case in run.report.cases:
        assert case["structure"]["coverage"] == 1 or case["name"] == "attention"
        assert case["numerics"]["reference_vs_exact"]["max"] < 1e-4
        if case["numerics"]["reference_vs_exact"]["unit"] == "lsb":
            assert case["numerics"]["reference_vs_exact"]["max"] == 0


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught(controls, name):
    score = controls.score(name)
    assert score.caught is not None, score.description


def test_faults_are_many_and_described():
    assert len(FAULTS) >= 40
    assert len({describe(name) for name in FAULTS}) == len(FAULTS)


def test_upstreams_rule_misses_what_it_cannot_see(controls):
    assert controls.score("requantize_truncates").seed_caught is None
    assert controls.score("input_zero_point_dropped").seed_caught == "static_linear"


def test_control_leaves_the_program_as_it_was():
    program, _ = converted(select_cases(["small_cnn"])[0])
    code = program.code
    integer_representation(program)
    assert program.code == code


FEW = ["--case=static_linear", "--case=conv2d"]


def test_command():
    done = CliRunner().invoke(main, ["controls", *FEW, "bias_dropped", "weight_kernel_flipped"])
    assert done.exit_code == 0, done.output
    assert "bias_dropped" in done.output
    assert "2 faults: 2 caught; upstream's rule on upstream's own cases catches 2" in done.output


def test_command_fails_for_what_is_not_caught():
    done = CliRunner().invoke(main, ["controls", *FEW, "cat_reversed", "--json"])
    assert done.exit_code == 1
    (score,) = json.loads(done.stdout)["faults"]
    assert (score["name"], score["caught"]) == ("cat_reversed", None)


def test_command_fails_if_the_exact_control_does(monkeypatch):
    monkeypatch.setattr(scoring, "integer_representation", FAULTS["bias_dropped"])
    done = CliRunner().invoke(main, ["controls", *FEW, "bias_twice"])
    assert done.exit_code == 1
    assert "the exact control does not pass static_linear: mismatch" in done.output


def test_unknown_fault():
    done = CliRunner().invoke(main, ["controls", "bias_droped"])
    assert done.exit_code == 2
    assert "unknown fault 'bias_droped': did you mean 'bias_dropped'?" in done.output


def test_program_that_fails_is_caught(monkeypatch):
    def fails(qdq):
        raise ValueError("no")

    monkeypatch.setitem(FAULTS, "bias_dropped", fails)
    tried = Controls(select_cases(["static_linear"]), import_home(current_cell().flow), 0)
    score = tried.score("bias_dropped")
    assert (score.caught.outcome, score.caught.reason) == (Outcome.ERROR, "ValueError: no")
