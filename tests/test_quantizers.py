"""Quantizers: what each annotates against what its row says, both ways; one by a package of its own; the table."""

from __future__ import annotations

import subprocess
import sys
from fnmatch import fnmatchcase
from importlib import import_module

import pytest
from conftest import ROOT

from pt2e_ci.catalogue.operators import OPERATORS
from pt2e_ci.checking.quantizers import run
from pt2e_ci.errors import InputError
from pt2e_ci.flow.families import Known, Row, load_table, read_table
from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.quantizers import read_reports, save
from pt2e_ci.record.records import Kind
from pt2e_ci.views.quantizers import markdown, operators, terminal

FEW = [one for one in OPERATORS if one.name in ("linear", "add", "sigmoid", "softmax", "reshape")]


def row(**fields):
    given = {
        "name": "everything",
        "family": "own",
        "make": "pt2e_ci.flow.everything:everything",
        "operators": ["linear", "add", "sigmoid"],
    }
    return Row(**given | fields)


def test_rows_name_operators_that_there_are():
    table, names = load_table(), {one.name for one in OPERATORS}
    assert len({one.family for one in table.quantizer if one.operators}) >= 8
    for one in table.quantizer:
        assert set(one.operators) <= names, one.name
    for known in table.known:
        assert {*known.lacks, *known.adds, *known.broken} <= names
        assert known.why


def test_what_is_annotated_is_judged_in_both_representations():
    report = run(row(), [], FEW)
    assert report.unlisted == []
    found = {one.operator: one for one in report.results}
    assert [found[name].state for name in ("linear", "add", "sigmoid", "softmax")] == [
        "proved",
        "proved",
        "proved",
        "no",
    ]
    assert (found["sigmoid"].upstream, found["sigmoid"].exact) == (Outcome.FLOAT, Outcome.PASS)
    assert found["add"].is_integer_upstream
    assert not found["sigmoid"].is_integer_upstream
    assert found["linear"].evidence is Kind.PROVED
    assert found["linear"].grids == "int8, (int8) to int8"


def test_what_is_not_as_listed_is_said_both_ways():
    report = run(row(operators=["linear", "add", "softmax"]), [], FEW)
    assert [line.partition(": ")[2] for line in report.unlisted] == [
        "sigmoid is annotated, and not listed",
        "softmax is listed, and not annotated",
    ]
    known = [Known(quantizer="every*", lacks=["softmax"], adds=["sigmoid"], why="it is so")]
    assert run(row(operators=["linear", "add", "softmax"]), known, FEW).unlisted == []
    elsewhere = [Known(quantizer="every*", torch="1.*", adds=["sigmoid"], lacks=["softmax"], why="it was so")]
    assert len(run(row(operators=["linear", "add", "softmax"]), elsewhere, FEW).unlisted) == 2


RAISING = """
from pt2e_ci.flow.everything import everything


def raising():
    quantizer = everything()
    annotate = quantizer.annotate

    def refuse(model):
        if any("sigmoid" in node.name for node in model.graph.nodes):
            raise KeyError("sigmoid")
        return annotate(model)

    quantizer.annotate = refuse
    return quantizer
"""


@pytest.fixture
def raising(tmp_path, monkeypatch):
    (tmp_path / "raising_quantizer.py").write_text(RAISING)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "raising_quantizer:raising"


def test_what_raises_is_known_or_said(raising):
    report = run(row(make=raising), [], FEW)
    assert [line.partition(": ")[2] for line in report.unlisted] == ["sigmoid raises KeyError: 'sigmoid'"]
    known = [Known(quantizer="*", broken=["sigmoid"], why="a key is missing")]
    assert run(row(make=raising), known, FEW).unlisted == []
    gone = run(row(), known, FEW)
    assert [line.partition(": ")[2] for line in gone.unlisted] == ["sigmoid raises nothing any more"]


def test_quantizer_that_cannot_be_made_is_red_unless_it_is_known():
    report = run(row(make="nowhere:quantizer"), [], FEW)
    assert report.missing.startswith("ModuleNotFoundError")
    assert report.results == []
    assert [line.partition(": ")[2][:15] for line in report.unlisted] == ["cannot be made:"]
    known = [Known(quantizer="*", absent=True, why="it is newer")]
    assert run(row(make="nowhere:quantizer"), known, FEW).unlisted == []
    assert run(row(), known, FEW).unlisted == [
        f"everything on torch {report.where}: can be made, and is known to be absent"
    ]
    report = run(row(missing="a vendor's SDK"), [], FEW)
    assert report.missing == "a vendor's SDK"


def test_quantizer_whose_process_dies_is_red(monkeypatch):
    from click.testing import CliRunner

    quantizers = import_module("pt2e_ci.cli.quantizers")
    ended = iter([0, -11])
    monkeypatch.setattr(
        quantizers.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], next(ended), "", "")
    )
    done = CliRunner().invoke(quantizers.quantizers, ["run", "everything", "xnnpack"])
    assert done.exit_code == 1
    assert done.output.startswith("xnnpack did not come to its end: ")


def test_table_has_a_mark_for_each(tmp_path, capsys):
    from rich.console import Console

    folder = tmp_path / "reports"
    folder.mkdir()
    save(run(row(), [], FEW), folder)
    save(run(row(name="gone", make="nowhere:quantizer"), [], FEW), folder)
    reports = read_reports([folder])
    assert operators(reports) == ["linear", "add", "sigmoid", "reshape"][: len(operators(reports))]
    text = markdown(reports)
    assert "| sigmoid | P |" in text
    assert "| add | P* |" in text
    assert "| gone | " in text.partition("## Not run")[2]
    assert "operators annotated" in text
    Console(width=120).print(terminal(reports))
    assert "P*" in capsys.readouterr().out


def test_report_that_is_none_is_one_line(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(InputError, match="no report of a quantizer"):
        read_reports([tmp_path])
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no report of a quantizer there"):
        read_reports([tmp_path / "none"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[quantizer]]\nname = "x"', "missing required field"),
        ('[[quantizer]]\nname = "x"\nfamily = "f"\nmake = "a:b"\noperators = []\nspeed = 3', "speed"),
        ('[[quantizer]]\nname = "x"\nfamily = "f"\nmake = "a:b"\noperators = []\nneeds = ["luck"]', "luck"),
    ],
)
def test_row_that_is_none_is_one_line(tmp_path, text, says):
    (tmp_path / "rows.toml").write_text(text)
    with pytest.raises(InputError, match=says) as raised:
        read_table(tmp_path / "rows.toml")
    assert "\n" not in str(raised.value)


def test_package_adds_a_quantizer_by_an_entry_point_alone(tmp_path):
    """The entry point is a path: a TOML of the package's own."""
    package, about = tmp_path / "mine", tmp_path / "mine-1.0.dist-info"
    package.mkdir()
    about.mkdir()
    (package / "__init__.py").write_text(
        "from pathlib import Path\n\nROWS = Path(__file__).with_name('quantizers.toml')\n"
        "from pt2e_ci.flow.everything import everything as quantizer\n"
    )
    (package / "quantizers.toml").write_text(
        '[[quantizer]]\nname = "mine"\nfamily = "Mine"\nmake = "mine:quantizer"\n'
        f"operators = {[*load_table().quantizer[0].operators]!r}\n"
    )
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[pt2e_ci.quantizers]\nmine = mine:ROWS\n")
    line = [sys.executable, "-m", "pt2e_ci", "quantizers", "run", "mine", "--reports", str(tmp_path / "reports")]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("mine on torch ")
    (report,) = read_reports([tmp_path / "reports"])
    assert (report.quantizer, report.family) == ("mine", "Mine")


def test_page_is_what_the_rows_say():
    """On the torch that the rows are of; what is not in the list has a dot."""
    page = ROOT / "docs" / "quantizers.md"
    if not page.exists():
        pytest.skip("an sdist has no documentation")
    columns = {}
    head = []
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| Operator"):
            head = cells[1:]
        elif line.startswith("| ") and head and len(cells) == len(head) + 1 and "---" not in line:
            for title, mark in zip(head, cells[1:], strict=True):
                columns.setdefault(title, {})[cells[0]] = mark
    for row_ in load_table().quantizer:
        shown = columns.get(f"{row_.name}<br>2.13.0, torchao 0.18.0")
        if shown is not None:
            here = [
                one for one in load_table().known if one.quantizer == row_.name and fnmatchcase("2.13.0", one.torch)
            ]
            broken = {name for one in here for name in one.broken}
            marked = {name for name, mark in shown.items() if mark not in ("·", "!")}
            assert marked == {*row_.operators} - broken, row_.name
    assert len(columns) >= 20
