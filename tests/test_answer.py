"""How a run ends: twelve lines of 80 columns at most, whatever there is to say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from made import case, report, run

from pt2e_ci.suite.progress import Progress
from pt2e_ci.views.answer import answer


def screen_lines(lines, columns=80):
    return sum(-(-len(line) // columns) for line in lines)


def test_all_is_well():
    known = {"reason": "r", "link": "l"}
    cases = [case("add"), case("conv2d", "float", known=known), case("mul", "mismatch", known=known)]
    lines = answer([report(*cases)], Path("reports/a.jsonl"))
    assert " ".join(lines[:-2]) == (
        "1 of 3 cases hold on torch 2.4.1; 1 computes in float and 1 is wrong: all known; nothing new."
    )
    assert lines[-2] == "Report: reports/a.jsonl"
    assert lines[-1].endswith("pt2e-ci report reports/a.jsonl  (every case)")


def test_what_is_not_as_expected_comes_in_a_word_and_leads_on():
    cases = [
        case("add", complaint="the known mismatch is gone", change="gone"),
        case("conv2d", "float", complaint="not known", change="new"),
        case("mul", "mismatch", complaint="more than known", change="worse"),
        case("cat", "crash", complaint="from a report that does not say in a word"),
    ]
    lines = answer([report(*cases)], Path("reports/a.jsonl"))
    assert lines[-6:-2] == [
        "  gone: add: the known mismatch is gone",
        "  new: conv2d: not known",
        "  worse: mul: more than known",
        "  new: cat: from a report that does not say in a word",
    ]
    assert lines[-1].endswith("pt2e-ci explain add --torch 2.4  (why)")


@pytest.mark.parametrize("cells", [1, 3])
def test_there_is_always_room(cells):
    """For 60 complaints, a long representation, long paths, and what is wrong beside the cases."""
    red = [case(f"case_{index}", "error", complaint="x" * 500) for index in range(60)]
    runs = [run(cell=f"c{index}", representation="package.module:function" * 3) for index in range(cells)]
    notes = [f"qnnpack is required: {'y' * 100}", "error: the report could not be written: No space left on device"]
    lines = answer([report(*red, run=one) for one in runs], Path("/a/very/long/path" * 6), notes)
    assert screen_lines(lines) <= 12
    assert re.search(r"  and \d+ more", "\n".join(lines))
    assert any(line.endswith("No space left on device") for line in lines)
    assert max(len(line) for line in lines if line.startswith("  ")) <= 80


def test_stopped_run_says_what_is_missing():
    lines = answer([report(case("add"), selected=5)], Path("reports/a.jsonl.partial"))
    assert lines[0] == "1 of 1 case holds on torch 2.4.1: nothing new. Stopped before 4 more."
    assert lines[-1] == "Next: run it again, for the cases that are missing"


class Reporter:
    """A terminal reporter that notes what reached its reader, and what is still held back."""

    def __init__(self, isatty):
        self.isatty, self.held, self.shown = isatty, [], []

    def write_line(self, line):
        self.held.append(line)

    def rewrite(self, line, erase):
        assert erase
        self.held.append(line)

    def flush(self):
        self.shown += self.held
        self.held = []


def test_progress_reaches_its_reader_at_once():
    pipe, terminal = Reporter(isatty=False), Reporter(isatty=True)
    for reporter in (pipe, terminal):
        progress = Progress(reporter)
        for number in range(1, 21):
            progress.count(f"case_{number}", 20)
        assert reporter.held == []
    assert [line.partition(",")[0] for line in pipe.shown] == ["10 of 20 cases", "20 of 20 cases"]
    assert len(terminal.shown) == 20
    assert terminal.shown[-1] == "20 of 20 cases: case_20"
