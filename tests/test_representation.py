"""A representation of the user's own, in place of upstream's."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

MINE = """
import torch
from pt2e_ci.controls.integer import integer_representation as exact

def identity(qdq):
    return qdq

def nothing(qdq):
    return None

def raises(qdq):
    raise LookupError("no pattern for this")

def breaks(qdq):
    node = next(node for node in qdq.graph.nodes if node.op == "call_function")
    node.target = torch.bmm
    qdq.recompile()
    return qdq

def no_arguments():
    return None

number = 3
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(MINE)
    (folder / "broken_module.py").write_text("raise RuntimeError('not today')")
    package = folder / "mine-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: mine\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[pt2e_ci.representations]\nmine = mine:exact\n")

    def command(representation, *arguments):
        return subprocess.run(
            [sys.executable, "-m", "pt2e_ci", "run", *arguments, "--representation", representation, "-n0"],
            cwd=folder,
            capture_output=True,
            text=True,
        )

    return command


@pytest.mark.parametrize("name", ["mine:exact", "mine"])
def test_a_right_one_passes(run, name):
    done = run(name, "conv2d", "add_relu")
    assert done.returncode == 0, done.stdout
    assert f"representation {name}" in done.stdout
    assert "2 cases: 2 pass, 0 known defects" in done.stdout


def test_known_defects_are_upstreams_alone(run):
    done = run("mine:identity", "conv2d")
    assert done.returncode == 1
    assert "vacuous is not an outcome that conv2d is known for here" in done.stdout


@pytest.mark.parametrize(
    ("name", "stage", "says"),
    [
        ("mine:nothing", "convert", "TypeError: the representation returned NoneType, where a GraphModule is needed"),
        ("mine:raises", "convert", "LookupError: no pattern for this"),
        ("mine:no_arguments", "convert", "TypeError: no_arguments() takes 0 positional arguments"),
        ("mine:breaks", "run", "Error"),
    ],
)
def test_a_failing_one_is_that_cases_error(run, name, stage, says):
    done = run(name, "add", "--report=-")
    assert done.returncode == 1
    head, case, _ = [json.loads(line) for line in done.stdout.splitlines()]
    assert head["representation"] == name
    assert (case["outcome"], case["stage"]) == ("error", stage)
    assert says in case["reason"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere:f", "nowhere cannot be imported for --representation: ModuleNotFoundError"),
        ("broken_module:f", "broken_module cannot be imported for --representation: RuntimeError: not today"),
        ("mine:absent", "mine has no 'absent' for --representation"),
        ("mine:number", "mine:number is no function"),
        ("not-a-name", "'not-a-name' is no representation: write package.module:function"),
        ("", "--representation needs package.module:function"),
    ],
)
def test_bad_names(run, name, says):
    done = run(name, "add")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("pt2e-ci: error")]
    assert says in line
    assert "Traceback" not in done.stderr


def test_rounding_scheme(run):
    done = run("mine:exact", "add", "--rounding", "up")
    assert done.returncode == 2
    assert "unknown rounding scheme 'up'" in done.stderr
    other = run("mine:exact", "linear_rounding", "--rounding", "truncate", "--report=-")
    assert other.returncode == 1
    case = json.loads(other.stdout.splitlines()[1])
    assert (case["outcome"], case["exact"]["rounding"]) == ("mismatch", "truncate")
    assert "from the exact result" in case["reason"]
