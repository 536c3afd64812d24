"""What is known to fail: strict both ways, and no entry that speaks of nothing."""

from __future__ import annotations

import pytest

from pt2e_ci.cases.catalogue import case_names
from pt2e_ci.cells import load_cells
from pt2e_ci.errors import InputError
from pt2e_ci.expectations import Expectations, load_expectations
from pt2e_ci.outcomes import Outcome

CELLS = {cell.name: cell for cell in load_cells().cells}
ENTRY = '[[known]]\ncase = "conv2d"\noutcome = "vacuous"\nreason = "r"\nlink = "l"\n'


def load(tmp_path, text):
    path = tmp_path / "expectations.toml"
    path.write_text(text)
    return load_expectations(case_names(), CELLS.values(), path)


def test_the_packages_own():
    entries = load_expectations(case_names(), CELLS.values())
    for name in ("2.1", "2.2", "2.15"):
        here = Expectations(entries, CELLS[name], "x86_64")
        assert here.judge("conv2d", Outcome.VACUOUS).known
        assert here.judge("maxpool2d", Outcome.VACUOUS).known
        assert bool(here.judge("dynamic_linear", Outcome.VACUOUS).known) == (name == "2.1")


def test_known_unknown_and_gone(tmp_path):
    here = Expectations(load(tmp_path, ENTRY), CELLS["2.4"], "x86_64")
    assert here.judge("conv2d", Outcome.VACUOUS).known == {"reason": "r", "link": "l"}
    assert here.judge("conv2d", Outcome.VACUOUS).complaint is None
    gone = here.judge("conv2d", Outcome.PASS)
    assert gone.known is None
    assert gone.complaint.startswith("the known vacuous is gone: remove its entry")
    assert gone.complaint.endswith("expectations.toml:1)")
    assert "where vacuous is expected" in here.judge("conv2d", Outcome.MISMATCH).complaint
    assert here.judge("add", Outcome.MISMATCH).complaint
    assert here.judge("add", Outcome.PASS).complaint is None
    assert here.judge("conv2d", Outcome.SKIP).complaint is None


@pytest.mark.parametrize(
    ("narrowing", "holds_for"),
    [
        ('torch = ">=2.2,<2.5"', {("2.2", "x86_64"), ("2.4", "x86_64"), ("2.4", "aarch64")}),
        ('flow = "torchao"', {("2.13", "x86_64"), ("2.10-torchao", "x86_64")}),
        ('machine = "aarch64"', {("2.4", "aarch64")}),
    ],
)
def test_narrowed(tmp_path, narrowing, holds_for):
    entries = load(tmp_path, ENTRY + narrowing)
    tried = {
        (name, machine)
        for name, machine in [
            *(("2.1", "x86_64"), ("2.2", "x86_64"), ("2.4", "x86_64"), ("2.4", "aarch64"), ("2.5", "x86_64")),
            *(("2.10", "x86_64"), ("2.10-torchao", "x86_64"), ("2.13", "x86_64")),
        ]
        if Expectations(entries, CELLS[name], machine).judge("conv2d", Outcome.VACUOUS).known
    }
    assert tried == holds_for


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[known]\n", "not valid TOML: .*line 1"),
        ("[other]\n", "unknown table 'other'"),
        (ENTRY.replace('link = "l"\n', ""), "expectations.toml:1: the entry has no 'link'"),
        ("\n" + ENTRY.replace("conv2d", "conv9d"), "expectations.toml:2: names no case"),
        (ENTRY + 'torch = "<2.0"\n', "expectations.toml:1: names no cell"),
        (ENTRY + 'torch = "2.4 or so"\n', "expectations.toml:1: '2.4 or so' is no version range"),
        (ENTRY + 'flow = "fx"\n', "expectations.toml:1: unknown flow 'fx'"),
        (ENTRY + 'machine = "sparc"\n', "expectations.toml:1: unknown machine 'sparc'"),
        (ENTRY.replace('"vacuous"', '"skip"'), "expectations.toml:1: unknown outcome 'skip'"),
        (ENTRY + 'why = "x"\n', "expectations.toml:1: unknown key 'why'"),
        (ENTRY + ENTRY, r"expectations.toml:6: overlaps with the entry at .*expectations.toml:1"),
        ("known = 3\n", "'known' must be an array"),
    ],
)
def test_broken(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load(tmp_path, text)
