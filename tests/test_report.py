"""Reports: whole or not at all, and what is not whole is refused by name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import msgspec
import pytest
from conftest import ROOT
from made import RUN, case, comparison, report, run

from pt2e_ci.errors import InputError
from pt2e_ci.record.reasons import REASONS, reason
from pt2e_ci.record.report import (
    Report,
    check_writable,
    dump,
    end_record,
    read_report,
    read_whole_report,
    write_report,
)
from pt2e_ci.views.table import digests, kernel_rows, markdown, rows, summary

WHOLE = report(case("add"), case("conv2d", "float", known={"reason": "r", "link": "l"}))
LINES = dump(WHOLE).splitlines(keepends=True)


def written(tmp_path, text):
    path = tmp_path / "report.jsonl"
    path.write_text(text)
    return path


def test_round_trip(tmp_path):
    path = tmp_path / "folder" / "report.jsonl"
    write_report(path, WHOLE)
    assert read_report(path) == WHOLE
    assert read_whole_report(path) == WHOLE
    assert [entry.name for entry in path.parent.iterdir()] == ["report.jsonl"]


@pytest.mark.parametrize("length", range(0, len(dump(WHOLE)), 37))
def test_cut_anywhere_is_an_error(tmp_path, length):
    with pytest.raises(InputError):
        read_report(written(tmp_path, dump(WHOLE)[:length]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty file is not a report"),
        ("".join(LINES[:-1]), "cut off after line 3, before its end line"),
        ("".join(LINES)[:-20], "cut off in line 4"),
        (LINES[0] + LINES[1] + LINES[1] + LINES[3], "jsonl:3: the case 'add' is here twice"),
        (LINES[0] + LINES[1] + LINES[3], "counts other cases than there are"),
        (LINES[1] + LINES[2] + LINES[3], "begins with a run line, not with a case line"),
        (LINES[0] + LINES[0] + LINES[1] + LINES[3], "jsonl:2: a run line, where a case line should be"),
        ("nonsense\n", "jsonl:1: not a line of JSON"),
        ("[]\n", "jsonl:1: not a record of a report"),
        ("[" * 100_000 + "\n", "jsonl:1: not a line of JSON"),
        (
            LINES[0].replace('"schema":2', '"schema":3') + "".join(LINES[1:]),
            "schema 3; this pt2e-ci reads schemas 1 and 2",
        ),
        (LINES[0].replace('"seed":0', '"seed":NaN') + "".join(LINES[1:]), "NaN is not JSON"),
        (LINES[0].replace('"seed":0', '"seed":0, "seed":1') + "".join(LINES[1:]), "a key occurs twice"),
        (
            LINES[0].replace('"seed":0', '"seed":"0"') + "".join(LINES[1:]),
            r"jsonl:1: .*Expected `int`, got `str` - at `\$\.seed`",
        ),
        (LINES[0].replace('"2.4.1"', '"banana"', 1) + "".join(LINES[1:]), r"jsonl:1: .*`\$\.torch`"),
        (LINES[0] + LINES[1].replace('"linear"', '"\\ud800"') + "".join(LINES[2:]), "jsonl:2: not a line of JSON"),
        (LINES[0].replace("torch2.4-cp311", "../torch2.4") + "".join(LINES[1:]), r"jsonl:1: .*`\$\.cell`"),
        (
            dump(report(case("add"), selected=2)).replace('"selected":2', '"selected":0'),
            "1 cases, where 0 were",
        ),
        (dump(Report(RUN, (), end_record([], 0, 0.0))), "a report without a case says nothing"),
    ],
)
def test_not_whole(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_report(written(tmp_path, text))


def test_stopped_run_is_no_whole_report(tmp_path):
    path = written(tmp_path, dump(report(case("add"), selected=3)))
    assert not read_report(path).is_complete
    with pytest.raises(InputError, match="incomplete: 1 of 3 cases"):
        read_whole_report(path)


def test_record_that_does_not_fit_is_not_written(tmp_path):
    path = written(tmp_path, "the old report\n")
    with pytest.raises(ValueError, match="outcome"):
        write_report(path, report(msgspec.structs.replace(case("add"), outcome="fine")))
    assert path.read_text() == "the old report\n"


def test_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = written(tmp_path, "the old report\n")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="No space left on device"):
        write_report(path, WHOLE)
    assert path.read_text() == "the old report\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.jsonl"]


def test_pipe_is_written_and_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE, text=True)
    write_report(path, WHOLE)
    assert reader.communicate()[0] == dump(WHOLE)
    assert path.is_fifo()


def test_unwritable_place(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        check_writable(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        check_writable(tmp_path / "file" / "report.jsonl")


def numbers(largest):
    return {"reference_vs_qdq": comparison(largest)}


def test_cells_that_end_alike_share_a_row():
    other, third = (run(cell=f"torch{torch}-cp311-linux_x86_64") for torch in ("2.5", "2.6"))
    reports = [
        report(case("add", numerics=numbers(1), digest="sha256:" + "a" * 64), case("qdq", digest="sha256:" + "b" * 64)),
        report(case("add", numerics=numbers(1)), case("qdq"), run=other),
        report(
            case("add", "mismatch", numerics=numbers(3), complaint="new", digest="sha256:" + "c" * 64),
            case("qdq", digest="sha256:" + "b" * 64),
            run=third,
        ),
    ]
    found = [(row.texts[0], row.texts[1], row.texts[3], len(row.cells)) for row in rows(reports)]
    assert found == [
        ("add", "pass", "1 LSB", 2),
        ("add", "mismatch, unexpected", "3 LSB", 1),
        ("qdq", "pass", "\N{EN DASH}", 3),
    ]
    assert digests(reports) == "integer digests: one over all cells for 1 of 2 cases, 2 of add"
    assert summary(reports) == "3 cells, 6 cases: 5 pass, 0 known defects, 0 skipped, 1 unexpected"


def test_markdown_cannot_be_broken_out_of():
    hostile = "a|b\n<script>`*_[x](y)"
    text = markdown([report(case("add", "error", reason=hostile, complaint="c"))])
    assert len([line for line in text.splitlines() if line.startswith("|")]) == 3
    assert "<script>" not in text.replace("\\<", "")
    assert "a\\|b" in text


def test_command_prints_the_table_and_refuses_what_is_cut(tmp_path):
    path = written(tmp_path, dump(WHOLE))
    command = [sys.executable, "-m", "pt2e_ci", "report", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert "float, known" in done.stdout
    path.write_text(dump(WHOLE)[:-10])
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"pt2e-ci: error: {path}: cut off in line 4: run the suite again\n"
    assert json.loads(LINES[0])["record"] == "run"


def kernels(largest, **fields):
    return comparison(largest, skipped={}) | fields


def test_kernels_by_case_and_engine():
    here = report(
        case("add", engines={"qnnpack": kernels(0), "x86": kernels(0)}),
        case("conv2d", engines={"qnnpack": kernels(0), "x86": kernels(70)}),
        case("mean", engines={"qnnpack": kernels(0, compared=0), "x86": kernels(1, not_finite=1)}),
    )
    there = report(case("conv2d", engines={"qnnpack": kernels(1)}))
    assert kernel_rows([here, there]) == [
        ("Case", "qnnpack", "x86"),
        ("conv2d", "0\N{EN DASH}1", "70"),
        ("mean", "\N{EN DASH}", "inf"),
        ("1 others", "0", "0"),
    ]
    assert "| conv2d | 0\N{EN DASH}1 | 70 |" in markdown([here, there])
    assert kernel_rows([report(case("add"))]) == []


def test_rows_are_in_the_order_of_the_longest_report():
    short = report(case("add"), case("mul"))
    long = report(case("add"), case("cat"), case("mul"))
    assert [row.texts[0] for row in rows([short, long])] == ["add", "cat", "mul"]


def test_every_reason_is_given_somewhere_and_every_code_is_known():
    source = "".join(path.read_text() for path in (ROOT / "pt2e_ci").rglob("*.py") if path.name != "reasons.py")
    given = re.findall(r'reason\(\s*"(PQ\d+)"', source)
    assert set(given) == set(REASONS)
    assert reason("PQ019", names="add", found="float32", wanted="integer").text == (
        "add: accumulators become levels in float32, where integer is asked for"
    )
