"""Reports of schema 1: read with today's words, in every view, beside those of schema 2."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import ROOT
from made import case, report, run

from pt2e_ci.errors import InputError
from pt2e_ci.record.report import dump, read_report, read_whole_report, write_report
from pt2e_ci.views.diff import Kind, differences
from pt2e_ci.views.explain import explain
from pt2e_ci.views.history import keep, newest, read_history
from pt2e_ci.views.pages import page
from pt2e_ci.views.table import rows

STORED = ROOT / "tests" / "stored"
OLD = STORED / "2.1.jsonl"


def written(tmp_path, *cases, name="old.jsonl"):
    """Write a report of schema 1 with these cases: the fields that they change of a stored one."""
    first, line, *_, last = (json.loads(one) for one in OLD.read_text().splitlines())
    made = [line | fields for fields in cases]
    counts = {one["outcome"]: [other["outcome"] for other in made].count(one["outcome"]) for one in made}
    path = tmp_path / name
    records = (first, *made, last | {"counts": counts, "selected": len(made)})
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def one(tmp_path, **fields):
    (found,) = read_whole_report(written(tmp_path, fields)).cases
    return found


def test_stored_reports_are_read():
    found = read_whole_report(OLD)
    ended = {case.name: case.outcome for case in found.cases}
    assert (ended["conv2d"], ended["cat"], ended["static_linear"]) == ("float", "unquantized", "pass")
    assert found.run.schema == 2
    conv = next(case for case in found.cases if case.name == "conv2d")
    assert (conv.reason.code, conv.reason.text) == (None, "conv2d: computed in float (1 of 1 operators)")
    assert conv.command == "nox -s test-2.1 -- conv2d"
    assert (conv.structure.in_float, conv.structure.annotated_by, conv.operators) == (1, None, [])


@pytest.mark.parametrize(
    ("why", "outcome", "stage"),
    [
        ("the quantizer annotated nothing", "unquantized", None),
        ("the quantizer annotated add, where the case is about add, cat", "unquantized", None),
        ("no output value was compared", "error", "judge"),
        ("no exact result to compare with: every input has a NaN", "error", "judge"),
        ("0 integer operators are to be seen, where 1 were annotated", "float", None),
        ("quantize_per_tensor: not spelled out in plain operators", "float", None),
    ],
)
def test_vacuous_has_three_words_now(tmp_path, why, outcome, stage):
    found = one(tmp_path, name="a", outcome="vacuous", reason=why)
    assert (found.outcome, found.stage, found.reason.text) == (outcome, stage, why)


def test_operators_of_the_exact_result_are_the_cases(tmp_path):
    exact = {
        "rounding": "truncate", "unavailable": None, "approximated": [], "reference_starts_at": "linear (q)",
        "qdq_starts_at": None,
        "operators": [
            {"operator": "linear", "node": "q", "qdq": None, "reference": {"max": 2, "mean": 0.5, "differing": 1.0}}
        ],
    }  # fmt: skip
    found = one(tmp_path, name="a", outcome="mismatch", exact=exact)
    (operator,) = found.operators
    assert (operator.name, operator.levels, operator.reference.max, operator.module) == ("linear", "q", 2, None)
    assert found.command == "nox -s test-2.1 -- a --rounding truncate"
    assert "To see it again" in explain(read_report(written(tmp_path, {"name": "a", "exact": exact})), found)


def test_line_that_is_not_one_of_schema_1_is_refused(tmp_path):
    path = written(tmp_path, {"name": "a", "outcome": "fine"})
    with pytest.raises(InputError, match=r"old\.jsonl:2: .*Invalid enum value 'fine'"):
        read_report(path)


@pytest.mark.parametrize("operators", [None, 3, [3]])
def test_operators_that_are_none_are_refused(tmp_path, operators):
    exact = {
        "rounding": "truncate", "unavailable": None, "approximated": [], "reference_starts_at": None,
        "qdq_starts_at": None, "operators": operators,
    }  # fmt: skip
    path = written(tmp_path, {"name": "a", "exact": exact})
    if operators == [3]:
        with pytest.raises(InputError, match="not a record of a report"):
            read_report(path)
    else:
        assert read_report(path).cases[0].operators == []


@pytest.mark.parametrize("schema", ["true", "1.0", "3"])
def test_other_schema_is_one_line(tmp_path, schema):
    path = written(tmp_path, {"name": "a"})
    path.write_text(path.read_text().replace('"schema": 1', f'"schema": {schema}'))
    with pytest.raises(InputError, match="reads schemas 1 and 2"):
        read_report(path)


def test_end_line_that_counts_others_is_refused(tmp_path):
    path = written(tmp_path, {"name": "a", "outcome": "vacuous"})
    path.write_text(path.read_text().replace('"counts": {"vacuous": 1}', '"counts": {"vacuous": 2}'))
    with pytest.raises(InputError, match=r"not a record of a report|counts other cases"):
        read_report(path)


def test_both_schemas_stand_in_one_table_diff_page_and_history(tmp_path):
    old = read_whole_report(written(tmp_path, {"name": "conv2d", "outcome": "vacuous", "reason": "in float"}))
    conv = case("conv2d", "float", reason="in float")
    new = report(conv, run=run(cell="torch2.5-cp311-linux_x86_64", torch="2.5.1"))
    assert {row.outcome for row in rows([old, new])} == {"float"}
    assert page([old, new]).count('class="yellow"') >= 2
    (change,) = differences([old], [report(conv, run=old.run)])
    assert change.kind in (Kind.BETTER, Kind.OTHERWISE)
    keep(tmp_path / "history", [old, new])
    assert newest(read_history(tmp_path / "history")) == [old, new]


def test_report_kept_in_schema_1_is_not_kept_again(tmp_path):
    folder = tmp_path / "history" / "torch2.1-cp311-linux_x86_64"
    folder.mkdir(parents=True)
    path = written(folder, {"name": "a", "outcome": "vacuous"}, name="20260101T000000-0123456789ab.jsonl")
    keep(tmp_path / "history", [read_whole_report(path)])
    assert [file.name for file in folder.iterdir()] == [path.name]


def test_what_is_written_again_is_of_schema_2(tmp_path):
    write_report(tmp_path / "new.jsonl", read_whole_report(OLD))
    again = read_whole_report(tmp_path / "new.jsonl")
    assert again == read_whole_report(OLD)
    assert dump(again).startswith('{"record":"run","schema":2,')


def test_command_reads_both(tmp_path):
    command = [sys.executable, "-m", "pt2e_ci", "diff", str(OLD), str(STORED / "2.4.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "dynamic_linear: float" in done.stdout
    assert "vacuous" not in done.stdout


def test_schema_is_made_of_the_records():
    done = subprocess.run([sys.executable, "-m", "pt2e_ci.record.records"], capture_output=True, text=True)
    schema = json.loads(done.stdout)
    assert {"Run", "Case", "End", "Operator"} <= schema["$defs"].keys()
    assert schema["$defs"]["Case"]["properties"]["outcome"] == {"$ref": "#/$defs/Outcome"}


def test_complaint_has_todays_words(tmp_path):
    found = one(tmp_path, outcome="vacuous", complaint="vacuous is not an outcome that a is known for here")
    assert found.complaint == "float is not an outcome that a is known for here"
