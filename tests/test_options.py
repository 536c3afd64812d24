"""What the suite makes of its options."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from made import case, structure

from pt2e_ci.catalogue.cases import CASES
from pt2e_ci.cells import capabilities
from pt2e_ci.cells.cell import load_cells
from pt2e_ci.errors import InputError
from pt2e_ci.exact.schemes import Rounding
from pt2e_ci.matrix.jobs import default_at_once
from pt2e_ci.pipeline import Flow, _criteria
from pt2e_ci.record.criteria import Criteria, criteria_by_case
from pt2e_ci.suite import options


@pytest.mark.parametrize(
    ("cores", "cases", "told", "workers"),
    [
        (1, 100, None, 1),
        (2, 100, None, 2),
        (64, 100, None, 4),
        (64, 1, None, 1),
        (64, 6, None, 2),
        (2, 1, "3", 3),
        (2, 100, "many", 2),
    ],
)
def test_workers(monkeypatch, cores, cases, told, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(cores))
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    if told:
        monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", told)
    assert capabilities.workers(cases) == workers


def test_cores_and_memory_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(os, "sysconf_names", {})
    assert capabilities.cores() == 3
    assert default_at_once() == 3


def settings_in(cell, monkeypatch, tmp_path, **chosen):
    (named,) = (one for one in load_cells().cells if one.name == cell)
    monkeypatch.setattr(options, "current_cell", lambda flow: named)
    given = {
        "keyword": "",
        "markexpr": "",
        "require": "",
        "case": [],
        "flow": None,
        "expectations": None,
        "seed": 0,
        "representation": None,
        "quantizer": None,
        "cases": None,
        "criteria": None,
        "rounding": "half_even",
        "report": str(tmp_path / "r"),
        "deselect": None,
        "table": False,
    }
    return options.make_settings(SimpleNamespace(**(given | chosen)))


def test_cases_of_another_flow_are_left_out(monkeypatch, tmp_path):
    here, there = ({case.name for case in settings_in(cell, monkeypatch, tmp_path).cases} for cell in ("2.13", "2.10"))
    assert here - there == {"dynamic_linear_int4"}
    assert there < here


def test_a_case_of_another_flow_that_is_named(monkeypatch, tmp_path):
    with pytest.raises(InputError, match=r"dynamic_linear_int4 is a case of another flow than torch\.ao"):
        settings_in("2.10", monkeypatch, tmp_path, case=["dynamic_linear_int4", "add"])


def test_known_defects_of_upstream_excuse_no_other_representation(monkeypatch, tmp_path):
    result = case("conv2d", "float", structure=structure(conv2d=1))
    upstream = settings_in("2.13", monkeypatch, tmp_path)
    mine = settings_in("2.13", monkeypatch, tmp_path, representation="m:f")
    assert upstream.expectations.judge(result).known
    assert mine.expectations.judge(result).complaint


def test_own_quantizer_and_criteria_are_excused_by_nothing_but_own_expectations(monkeypatch, tmp_path):
    result = case("conv2d", "float", structure=structure(conv2d=1))
    (tmp_path / "doors.py").write_text("from pt2e_ci import Criteria\nSTRICT = Criteria(evidence='proved')\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "own.toml"
    entry = '[[known]]\ncase = "conv2d"\noutcome = "float"\nfloat_operators = ["conv2d"]\nreason = "r"\nlink = "l"\n'
    file.write_text(entry)
    for door in ({"quantizer": "m:f"}, {"criteria": "doors:STRICT"}):
        assert settings_in("2.13", monkeypatch, tmp_path, **door).expectations.judge(result).complaint
        mine = settings_in("2.13", monkeypatch, tmp_path, expectations=file, **door)
        assert mine.expectations.judge(result).known.reason == "r"


def test_criteria_may_be_given_by_the_pattern_of_a_case():
    strict, loose = Criteria(evidence="proved"), Criteria(displacement=0.5, rounding=Rounding.HALF_UP)
    flow = Flow(None, criteria=criteria_by_case({"*": strict, "conv*": loose}))
    convolution, addition = (next(one for one in CASES if one.name == name) for name in ("conv2d", "add"))
    assert _criteria(addition, flow).evidence == "proved"
    assert (_criteria(convolution, flow).displacement, _criteria(convolution, flow).rounding) == (0.5, "half_up")
    # What a case is about stays its own.
    assert _criteria(convolution, flow).annotated == convolution.criteria.annotated
    assert _criteria(addition, Flow(None, criteria=criteria_by_case({"conv*": loose}))) == addition.criteria
    assert criteria_by_case(strict) == {"*": strict}
    for wrong in ({"conv*": 3}, {3: strict}, [strict]):
        with pytest.raises(InputError, match=r"give pt2e_ci\.Criteria\(\.\.\.\)"):
            criteria_by_case(wrong)


def test_own_expectations_are_laid_over_the_built_in_ones(monkeypatch, tmp_path):
    file = tmp_path / "own.toml"
    file.write_text('[[known]]\ncase = "add"\noutcome = "crash"\nreason = "r"\nlink = "l"\n')
    mine = settings_in("2.13", monkeypatch, tmp_path, expectations=file).expectations
    assert mine.judge(case("add", "crash")).known.reason == "r"
    assert mine.judge(case("conv2d", "float", structure=structure(conv2d=1))).known


def test_own_cases_come_after_the_others(monkeypatch, tmp_path):
    (tmp_path / "more_cases.py").write_text(
        "from dataclasses import replace\nfrom pt2e_ci.catalogue.cases import CASES\n"
        "MORE = [replace(CASES[0], name='my_linear')]\nTWICE = CASES[:1]\nNONE = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = settings_in("2.13", monkeypatch, tmp_path, cases="more_cases:MORE")
    assert [one.name for one in found.listed][-1] == "my_linear"
    assert (
        settings_in("2.13", monkeypatch, tmp_path, cases="more_cases:MORE", case=["my_linear"]).cases[0].name
        == "my_linear"
    )
    with pytest.raises(InputError, match="more_cases:TWICE has a case 'static_linear', and there is one already"):
        settings_in("2.13", monkeypatch, tmp_path, cases="more_cases:TWICE")
    with pytest.raises(InputError, match="more_cases:NONE is an int that holds no"):
        settings_in("2.13", monkeypatch, tmp_path, cases="more_cases:NONE")


def test_report_in_a_folder_is_named_by_its_cell(monkeypatch, tmp_path):
    cell = load_cells().select(["2.4"])[0]
    wanted = tmp_path / f"{cell.id(options.platform_tag())}.jsonl"
    for given in (str(tmp_path), f"{tmp_path}/", str(wanted)):
        assert settings_in("2.4", monkeypatch, tmp_path, report=given).report == wanted
    # A folder that is not there yet is told by its slash.
    assert settings_in("2.4", monkeypatch, tmp_path, report=f"{tmp_path}/new/").report == tmp_path / "new" / wanted.name


@pytest.mark.parametrize(
    ("chosen", "folder"),
    [
        ({}, "reports"),
        ({"case": ["add"]}, "reports/other"),
        ({"keyword": "add"}, "reports/other"),
        ({"representation": "m:f"}, "reports/other"),
        ({"rounding": "truncate"}, "reports/other"),
        ({"seed": 1}, "reports/other"),
        ({"case": ["add"], "report": "mine/"}, "mine"),
        ({"seed": 1, "report": "mine/r.jsonl"}, "mine"),
    ],
)
def test_no_other_run_takes_the_place_of_a_whole_ones_report(monkeypatch, tmp_path, chosen, folder):
    monkeypatch.chdir(tmp_path)
    settings = settings_in("2.4", monkeypatch, tmp_path, **({"report": None} | chosen))
    assert settings.report.parent == tmp_path / folder
    assert settings.is_main == (folder == "reports")


def test_nearest_options_are_options():
    parser = pytest.Parser(_ispytest=True)
    options.add_options(parser)
    own = {name for group in parser._groups for option in group.options for name in option.names()}
    assert own - {"--case"} <= set(options.OPTIONS)
