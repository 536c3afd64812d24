"""A representation of the user's own, in place of upstream's."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import taken

from pt2e_ci.errors import InputError
from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.flow.representation import load_representation

MINE = """
import torch
from pt2e_ci.flow.exact import representation as exact

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

def leaves(qdq):
    raise SystemExit(0)

class Mute(Exception):
    def __str__(self):
        raise ValueError

def is_mute(qdq):
    raise Mute

number = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a module of representations, and a package that offers one of them by name."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(MINE)
    (folder / "broken_module.py").write_text("raise RuntimeError('not today')")
    (folder / "leaving_module.py").write_text("raise SystemExit(0)")
    package = folder / "mine-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: mine\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[pt2e_ci.representations]\nmine = mine:exact\n")
    return folder


@pytest.fixture
def load(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    return load_representation


@pytest.mark.parametrize("name", ["mine:exact", "mine"])
def test_a_right_one_passes(load, name):
    for case in ("conv2d", "add_relu"):
        record = taken(case, representation=load(name))
        assert (record.outcome, record.complaint, record.known) == ("pass", None, None)


def test_a_right_one_by_the_command(folder):
    command = [sys.executable, "-m", "pt2e_ci", "run", "conv2d", "add_relu", "--representation", "mine", "-n0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "2 of 2 cases hold on torch" in done.stdout
    assert " in mine: nothing new." in done.stdout
    (report,) = (folder / "reports" / "other").iterdir()
    assert json.loads(report.read_text().splitlines()[0])["representation"] == "mine"


def test_known_defects_are_upstreams_alone(load):
    record = taken("conv2d", representation=load("mine:identity"))
    assert record.complaint == "float is not an outcome that conv2d is known for here"


@pytest.mark.parametrize(
    ("name", "stage", "says"),
    [
        ("mine:nothing", "convert", "TypeError: the representation returned NoneType, where a GraphModule is needed"),
        ("mine:raises", "convert", "LookupError: no pattern for this"),
        ("mine:no_arguments", "convert", "TypeError: no_arguments() takes 0 positional arguments"),
        ("mine:breaks", "run", "Error"),
        ("mine:leaves", "convert", "SystemExit: 0"),
        ("mine:is_mute", "convert", "Mute"),
    ],
)
def test_a_failing_one_is_that_cases_error(load, name, stage, says):
    record = taken("add", representation=load(name))
    assert (record.outcome, record.stage) == ("error", stage)
    assert record.complaint
    assert says in record.reason.text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere:f", "nowhere:f cannot be imported: ModuleNotFoundError"),
        ("broken_module:f", "broken_module:f cannot be imported: RuntimeError: not today"),
        (
            "mine:absent",
            "mine:absent cannot be imported: AttributeError: module 'mine' has no",
        ),
        ("leaving_module:f", "the representation leaving_module:f cannot be imported: SystemExit: 0"),
        ("mine:number", "mine:number is not a function"),
        ("not-a-name", "no representation is called 'not-a-name': write package.module:name"),
    ],
)
def test_bad_names(load, name, says):
    with pytest.raises(InputError) as raised:
        load(name)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_rounding_scheme(load):
    other = taken("linear_rounding", representation=load("mine:exact"), rounding=Rounding.TRUNCATE)
    assert (other.outcome, other.exact.rounding, other.reason.code) == ("inexact", "truncate", "PQ031")
