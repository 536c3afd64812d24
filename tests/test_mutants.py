"""The gate of the mutants is tested, too: with one that changes nothing, one that does not run, and none at all."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from conftest import converted

from pt2e_ci.catalogue.cases import select_cases
from pt2e_ci.cli import main
from pt2e_ci.controls.mutants import Fate, Mutation, Subject, render, try_all
from pt2e_ci.errors import InputError

# With the other tests that convert every case, in the one worker that does.
pytestmark = pytest.mark.xdist_group("cases")


@pytest.fixture(scope="module")
def subject():
    (case,) = select_cases(["linear_per_channel"])
    qdq, sets = converted(case)
    return Subject(case.name, qdq, sets)


def boundaries(subject):
    """Return the name of the constant that accumulators are compared with."""
    program = subject._program
    return next(
        node.name
        for node in program.graph.nodes
        if node.op == "get_attr" and getattr(program, node.target).shape[-1:] == (255,)
    )


def test_what_changes_nothing_is_proved_equivalent(subject):
    nothing = Mutation("constant", boundaries(subject), "nothing", lambda program, node: None)
    assert subject.try_on(nothing).fate is Fate.EQUIVALENT


def test_one_boundary_by_one_accumulator_is_killed(subject):
    def change(program, node):
        tensor = getattr(program, node.target).clone()
        tensor[1, 100] += 1
        setattr(program, node.target, tensor)

    found = subject.try_on(Mutation("constant", boundaries(subject), "one boundary", change))
    assert (found.fate, found.operator) == (Fate.KILLED, "linear")


def test_what_does_not_run_is_no_kill(subject):
    def change(program, node):
        setattr(program, node.target, torch.zeros(7, 7))

    assert subject.try_on(Mutation("constant", boundaries(subject), "its shape", change)).fate is Fate.NOT_RUN


def test_none_is_an_error():
    with pytest.raises(InputError, match="nothing to mutate"):
        try_all([], 10, 0)


def test_all_of_one_case(subject):
    found = try_all([subject], 10_000, 0)
    assert len(found) == len(subject.mutations) > 20
    assert [one for one in found if one.fate is Fate.ALIVE] == []
    assert {one.kind for one in found} == {"constant", "option", "cast", "operator", "order"}
    text = render(found, 0)
    assert "0 alive" in text
    assert "linear" in text


def test_the_command_counts_them():
    found = CliRunner().invoke(main, ["controls", "--mutants", "4", "--case", "mul", "--seed", "3"])
    assert found.exit_code == 0, found.output
    assert "seed 3" in found.output
    refused = CliRunner().invoke(main, ["controls", "--mutants", "0"])
    assert refused.exit_code == 2
    assert json.dumps(refused.output).count("\\n") < 8
