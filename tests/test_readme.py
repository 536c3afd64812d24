"""The README says what is so: its commands are those that CI runs, its results those that a run gives."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

from pt2e_ci.cells import load_cells
from pt2e_ci.controls.faults import FAULTS
from pt2e_ci.reports.table import rows

README = (ROOT / "README.md").read_text()


def table(first_column):
    """Return the cells of the README's table that begins with a column."""
    (text,) = re.findall(rf"^\| {first_column} \|.*\n\|[ \-|]*\n((?:\|.*\n)+)", README, re.MULTILINE)
    return [[cell.strip().replace("\\", "") for cell in line.strip("|").split(" | ")] for line in text.splitlines()]


def test_every_cell_is_listed():
    assert table("Session") == [
        [f"`{cell.session}`", cell.torch, cell.flow, cell.torchao or "\N{EN DASH}", cell.python]
        for cell in load_cells().cells
    ]


def test_results_are_those_of_this_torch(whole_run):
    cell = whole_run.report.run["cell"].rsplit("-", 1)[0]

    def holds(cells):
        return (cells == "all" or cell in cells) != cells.startswith("all but")

    stated = [row[:-1] for row in table(r"Case \| Outcome") if holds(row[-1])]
    assert stated == [[text.replace("\\", "") for text in row.texts] for row in rows([whole_run.report])]


def test_score_of_upstreams_rule_is_stated():
    (stated,) = re.findall(
        r"^(\d+) faults: (\d+) caught; upstream's rule on upstream's own cases catches \d+", README, re.M
    )
    assert stated == (str(len(FAULTS)),) * 2


def test_test_command_is_the_one_that_ci_runs():
    command = next(line for line in README.splitlines() if line.endswith("nox -s tests"))
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("an sdist has no CI script")
    assert command in script.read_text().splitlines()
