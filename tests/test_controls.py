"""The checks are measured: the exact control passes, and every fault is caught."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from conftest import converted, flow

from pt2e_ci.catalogue.cases import CASES, select_cases
from pt2e_ci.cli import main
from pt2e_ci.controls import scoring
from pt2e_ci.controls.faults import BiasTwice
from pt2e_ci.controls.index import FAULTS, SPELLINGS, codes, describe
from pt2e_ci.controls.scoring import Controls
from pt2e_ci.flow.exact import representation
from pt2e_ci.judge.verdict import judge
from pt2e_ci.record.outcomes import Outcome

# With the other tests that convert every case, in the one worker that does.
pytestmark = pytest.mark.xdist_group("cases")


def tried_on(cases):
    return Controls(cases, flow(), 0)


# The quantizer has no word for a padding that is given by name.
QUANTIZED = [case for case in CASES if case.name != "same_conv2d"]


def test_faults_are_caught_and_the_exact_control_passes():
    """Some of them, on some cases: `pt2e-ci controls` tries all, and fails if one gets away."""
    controls = tried_on(select_cases(["static_linear", "conv2d_padding", "add"]))
    assert controls.failed == []
    faults = ("requantize_truncates", "input_zero_point_dropped", "padding_with_level_zero", "add_in_float")
    scores = {name: controls.score(name) for name in faults}
    assert all(score.caught and score.caught.code in codes(name) for name, score in scores.items())
    # What upstream's rule cannot see, and what it can.
    assert scores["requantize_truncates"].seed_caught is None
    assert scores["input_zero_point_dropped"].seed_caught == "static_linear"


@pytest.mark.parametrize("case", QUANTIZED, ids=lambda case: case.name)
def test_exact_control_computes_in_integers_alone(case):
    program, sets = converted(case)
    judgement = judge(program, representation(program), sets, case.criteria).case
    assert judgement.outcome is Outcome.PASS
    assert judgement.structure.coverage == 1
    numbers = judgement.numerics.reference_vs_exact
    assert numbers.max == 0 if numbers.unit == "lsb" else numbers.max < 1e-4


def test_faults_are_many_and_described():
    assert len(FAULTS) >= 40
    assert len({describe(name) for name in FAULTS}) == len(FAULTS)


def test_right_ones_that_are_written_otherwise_pass():
    tried = tried_on(
        select_cases(["linear_per_channel", "conv2d_padding", "add_self", "mul", "maxpool2d_window", "cat"])
    )
    assert tried.failed == []
    assert [one for name in SPELLINGS for one in tried.refuse(name)] == []
    assert len(SPELLINGS) >= 20


def test_right_one_that_a_case_refuses_is_told(monkeypatch):
    monkeypatch.setitem(SPELLINGS, "add_doubles", FAULTS["add_in_float"])
    (refused,) = tried_on(select_cases(["add"])).refuse("add_doubles")
    assert (refused.case, refused.outcome, refused.code) == ("add", Outcome.FLOAT, "PQ012")


def test_fault_that_is_caught_for_another_reason_is_not_caught(monkeypatch):
    monkeypatch.setattr(BiasTwice, "codes", ("PQ028",))
    assert tried_on(select_cases(["static_linear"])).score("bias_twice").caught is None


def test_control_leaves_the_program_as_it_was():
    program, _ = converted(select_cases(["small_cnn"])[0])
    code = program.code
    representation(program)
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
    monkeypatch.setattr(scoring, "exact_representation", FAULTS["bias_dropped"])
    done = CliRunner().invoke(main, ["controls", *FEW, "bias_twice"])
    assert done.exit_code == 1
    assert "the exact control does not pass static_linear: mismatch" in done.output


def test_unknown_fault():
    done = CliRunner().invoke(main, ["controls", "bias_droped"])
    assert done.exit_code == 2
    assert "unknown control 'bias_droped': did you mean 'bias_dropped'?" in done.output


def test_program_that_fails_is_caught_if_that_is_its_fault(monkeypatch):
    def fails(qdq):
        raise ValueError("no")

    monkeypatch.setitem(FAULTS, "bias_dropped", fails)
    tried = tried_on(select_cases(["static_linear"]))
    assert tried.score("bias_dropped").caught is None  # by no reason that names what is wrong
    monkeypatch.setattr(scoring, "codes", lambda name: ("PQ043",))
    score = tried.score("bias_dropped")
    assert (score.caught.outcome, score.caught.reason) == (Outcome.ERROR, "ValueError: no")


def test_pooling_of_one_element_is_an_operator_all_the_same():
    """Its levels are those of its operand, and so are all integers on the way to them."""
    (case,) = select_cases(["maxpool2d"])
    program, sets = converted(case)
    found = judge(program, FAULTS["max_pool_in_float"](program), sets, case.criteria).case
    assert [one.verdict for one in found.operators if one.name == "max_pool2d"] == ["float"]
    upstream = judge(program, flow().represent(program).program, sets, case.criteria).case
    assert [one.verdict for one in upstream.operators if one.name == "max_pool2d"] == ["float"]


def test_two_convolutions_are_told_apart():
    (case,) = select_cases(["residual_block"])
    program, sets = converted(case)
    found = judge(program, FAULTS["only_first_rewritten"](program), sets, case.criteria).case
    first, second = [one for one in found.operators if one.name == "conv2d"]
    assert (first.verdict, first.module) == ("integer", "first.conv2d")
    assert (second.verdict, second.module, second.why) == ("float", "second.conv2d", "convolution on float32")
    assert f"conv2d (second.conv2d, {second.source})" in found.reason.text
    assert "first.conv2d" not in found.reason.text
