"""The views of reports: page, Markdown, badge, JUnit, diff, explanation, history; on made-up and hostile reports."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import case, comparison, report, run
from msgspec import structs

from pt2e_ci.record.outcomes import Outcome
from pt2e_ci.record.report import Report, dump, end_record, read_report
from pt2e_ci.views import badge, table
from pt2e_ci.views.diff import Kind, broke, differences, headline, markdown, text
from pt2e_ci.views.explain import explain
from pt2e_ci.views.history import changes, keep, newest, read_history
from pt2e_ci.views.pages import page
from pt2e_ci.views.platforms import differences as between_machines
from pt2e_ci.views.selection import by_age
from pt2e_ci.views.table import kernel_rows, render
from pt2e_ci.views.table import markdown as table_markdown

A, B = ("sha256:" + character * 64 for character in "ab")


def lsb(largest, differing=0.5):
    numbers = comparison(largest, differing=differing)
    return {"reference_vs_exact": numbers, "reference_vs_qdq": numbers}


def cell(torch="2.4.1", machine="x86_64", started="2026-01-01T00:00:00+00:00", **fields):
    name = f"torch{torch.rpartition('.')[0]}-cp311-linux_{machine}"
    return run(**{"cell": name, "torch": torch, "machine": machine, "started": started} | fields)


def cli(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "pt2e_ci", *map(str, arguments)], capture_output=True, text=True, **options
    )


def write(folder, *reports):
    folder.mkdir(exist_ok=True, parents=True)
    for one in reports:
        (folder / f"{one.run.cell}.jsonl").write_text(dump(one))
    return folder


OUTCOMES = [str(outcome) for outcome in Outcome]

CASES = st.builds(
    lambda name, outcome, digest, complaint, size: case(
        name, outcome, digest=digest, complaint=complaint, numerics=lsb(size) if outcome in OUTCOMES[:5] else {}
    ),
    st.sampled_from(["add", "conv2d", "mul", "<b>", "a|b"]),
    st.sampled_from(OUTCOMES),
    st.sampled_from([None, A, B]),
    st.sampled_from([None, "worse than known"]),
    st.integers(0, 3),
)
REPORTS = st.builds(
    lambda torch, machine, cases: report(*{one.name: one for one in cases}.values(), run=cell(torch, machine)),
    st.sampled_from(["2.4.1", "2.10.0", "2.13.0"]),
    st.sampled_from(["x86_64", "aarch64"]),
    st.lists(CASES, min_size=1, max_size=5),
)
MATRICES = st.lists(REPORTS, min_size=1, max_size=6, unique_by=lambda one: one.run.cell)


@given(MATRICES, st.randoms(use_true_random=False))
def test_order_of_reports_changes_nothing(reports, shuffler):
    shuffled = [*reports]
    shuffler.shuffle(shuffled)
    assert page(shuffled) == page(reports)
    assert badge.endpoint(shuffled) == badge.endpoint(reports)


@given(MATRICES)
def test_diff_with_itself_is_empty(reports):
    assert differences(reports, reports) == []
    assert not broke(differences(reports, reports))


@given(MATRICES, MATRICES)
def test_diff_the_other_way_is_the_other_way_round(old, new):
    forth, back = differences(old, new), differences(new, old)
    mirrored = {
        Kind.BROKE: Kind.BETTER, Kind.BETTER: Kind.BROKE, Kind.APPEARED: Kind.VANISHED, Kind.VANISHED: Kind.APPEARED,
    }  # fmt: skip
    assert sorted((one.case, one.before, one.after, mirrored.get(one.kind, one.kind)) for one in forth) == sorted(
        (one.case, one.after, one.before, one.kind) for one in back
    )


@given(MATRICES)
def test_every_view_takes_every_report(reports):
    json.loads(badge.endpoint(reports))
    for one in reports:
        for record in one.cases:
            assert record.name in explain(one, record)
    assert len(embedded(page(reports))["fields"]) == len({record.name for one in reports for record in one.cases})
    table_markdown(reports)
    render(reports, color=False)


def embedded(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


def counted(integer, in_float):
    return {
        "integer": integer, "float": in_float, "coverage": None, "rewrites": {}, "float_operators": {}, "qdq": 0,
        "outputs": [],
    }  # fmt: skip


def rule(outcome):
    return {"outcome": outcome, "tolerance": 0.1}


def not_finite():
    return {name: one | {"not_finite": 1} for name, one in lsb(1).items()}


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (case("add"), case("add", "mismatch", numerics=lsb(2)), Kind.BROKE),
        (case("add", "mismatch"), case("add", "crash"), Kind.BROKE),
        (case("add", complaint=None), case("add", complaint="gone"), Kind.BROKE),
        (case("add", "float"), case("add"), Kind.BETTER),
        (case("add", "error", complaint="new"), case("add", "error"), Kind.BETTER),
        (case("add", numerics=lsb(1)), case("add", numerics=lsb(0)), Kind.NUMBERS),
        (case("add", digest=A), case("add", digest=B), Kind.NUMBERS),
        (case("add", "skip"), case("add"), Kind.APPEARED),
        (case("add"), case("add", "skip"), Kind.VANISHED),
        (case("add"), case("mul"), Kind.VANISHED),
        (case("add"), case("add", "skip", complaint="it should pass"), Kind.BROKE),
        (case("add", "error", stage="run"), case("add", "error", stage="export"), Kind.OTHERWISE),
        (case("add", "error", reason="a"), case("add", "error", reason="b"), Kind.OTHERWISE),
        (case("add", structure=counted(1, 2)), case("add", structure=counted(0, 3)), Kind.BROKE),
        (case("add", structure=counted(1, 2)), case("add", structure=counted(2, 1)), Kind.BETTER),
        (case("add", engines={"x86": comparison(0)}), case("add", engines={"x86": comparison(9)}), Kind.NUMBERS),
        (case("add", seed_check=rule("pass")), case("add", seed_check=rule("mismatch")), Kind.OTHERWISE),
        (case("add", deterministic=True), case("add", deterministic=False), Kind.OTHERWISE),
        (case("add", numerics=lsb(1)), case("add", numerics=not_finite()), Kind.BROKE),
    ],
)
def test_kinds_of_change(before, after, kind):
    (change,) = [one for one in differences([report(before)], [report(after)]) if one.case == "add"]
    assert (change.case, change.kind) == ("add", kind)
    assert broke([change]) == (kind is Kind.BROKE)


def test_change_that_no_number_shows_is_named():
    pair = (report(case("add", "error", reason=reason)) for reason in "ab")
    assert "    add: error, with another reason" in text(differences(*([one] for one in pair))).splitlines()


def test_diff_says_whose_representation_it_is():
    ours = report(case("add", "crash"), run=run(representation="mine:f", seed=3))
    (change,) = differences([report(case("add"))], [ours])
    assert change.cells.endswith("to torch2.4-cp311-linux_x86_64 (mine:f, seed 3)")


def test_two_versions_of_torch_are_paired_by_machine():
    old = [report(case("add"), run=cell("2.4.1", machine)) for machine in ("x86_64", "aarch64")]
    new = [report(case("add", "crash"), run=cell("2.10.0", machine)) for machine in ("x86_64", "aarch64")]
    changes = differences(old, new)
    assert [change.kind for change in changes] == [Kind.BROKE, Kind.BROKE]
    assert changes[0].cells == "torch2.4-cp311-linux_aarch64 to torch2.10-cp311-linux_aarch64"
    assert headline(changes) == "2 broke"
    both = ", ".join(sorted(change.cells for change in changes))
    assert text(changes).splitlines() == [both, "  broke", "    add: pass -> crash", "2 broke"]


def test_what_changed_for_one_cause_stands_together():
    def of(code):
        return {"reason": {"code": code, "text": "t"}}

    before = [case(name, **of("PQ031")) if name == "d" else case(name) for name in "abcdef"]
    after = [
        *(case(name, "float", **of(code)) for name, code in zip("abc", ("PQ012", "PQ031", "PQ012"), strict=True)),
        *(case(name, engines={"x86": comparison(1)}, **fields) for name, fields in (("d", of("PQ031")), ("e", {}))),
        case("f"),
    ]
    changes = differences([report(*before)], [report(*after)])
    cells = changes[0].cells
    assert text(changes).splitlines() == [
        cells,
        *("  broke: PQ012", "    a: pass -> float", "    c: pass -> float", "  broke: PQ031", "    b: pass -> float"),
        *("  numbers only: engines", "    d, e", "3 broke, 2 numbers only"),
    ]
    assert (
        markdown(changes).splitlines()[4]
        == f"| broke | PQ012 | a | {cells.replace('_', chr(92) + '_')} | pass | float |"
    )
    assert headline(changes[3:]) == "nothing broke: 2 numbers only"


def test_page_says_what_is_new():
    def night(day, **outcomes):
        cases = [case(name, outcome) for name, outcome in outcomes.items()]
        return report(*cases, run=cell(started=f"2026-01-0{day}T00:00:00+00:00"))

    def said(*nights):
        found = re.findall('<p class="news">(.*?)</p>', page([nights[-1]], {nights[0].run.cell: [*nights]}))
        return found[0] if found else None

    assert said(night(1, add="pass")) is None
    assert said(night(1, add="pass"), night(2, add="pass")) == "Nothing is new since the run before."
    changed = [night(1, add="pass", mul="float"), night(2, add="crash", mul="float")]
    assert said(*changed) == "New since the run before: add is crash, was pass (all)."
    assert said(*changed, night(3, add="crash", mul="float")) == "Nothing is new since the run before."
    many = [night(day, **dict.fromkeys("abcde", outcome)) for day, outcome in ((1, "pass"), (2, "crash"))]
    assert said(*many).endswith("c is crash, was pass (all); and 2 more.")


def test_diff_command(tmp_path):
    folder = write(
        tmp_path / "reports", report(case("add"), run=cell()), report(case("add", "crash"), run=cell("2.10.0"))
    )
    files = sorted(folder.iterdir())
    for arguments in (["2.4", "2.10", "--reports", folder], [files[1], files[0]]):
        done = cli("diff", *arguments)
        assert done.returncode == 1, done.stderr
        assert "1 broke" in done.stdout
    done = cli("diff", "2.10", "2.4", "--reports", folder, "--markdown", "-", "--html", tmp_path / "diff.html")
    assert done.returncode == 0
    assert "**nothing broke: 1 better**" in done.stdout
    assert '<td rowspan="1">better</td>' in (tmp_path / "diff.html").read_text()
    same = cli("diff", folder, folder)
    assert (same.returncode, same.stdout) == (0, "nothing changed\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["diff", "nothing", "2.4"], "'nothing' is neither a file or folder nor a version of torch"),
        (["diff", "2.4", "2.9"], "reports has no report"),
        (["explain", "conv2d", "--torch", "2.9"], "has no report"),
        (["explain", "conv2d", "--torch", "newest"], "'newest' is no version of torch"),
        (["report", "."], "has no report"),
        (["report", "nothing.jsonl"], "cannot be read"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, says):
    (tmp_path / "reports").mkdir()
    done = cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert says in line


def test_explanation_names_the_pattern_and_the_node():
    near = {
        "operator": "conv2d", "node": "conv2d", "rewrite": "conv2d", "matched": 1, "of": 4,
        "pattern": "aten.convolution.default", "graph": "aten.conv2d.default", "at": "conv2d",
    }  # fmt: skip
    structure = {
        "integer": 0, "float": 2, "coverage": 0.0, "rewrites": {}, "float_operators": {"conv2d": 1, "mul": 1}, "qdq": 0,
        "outputs": [], "nearest": [near],
    }  # fmt: skip
    programs = {
        "qdq": [["float", "conv2d = conv2d(x, w) -> float32 (1,)"]],
        "reference": [["float", "mul = mul(x, y) -> float32 (1,)"]],
    }
    one = case("conv2d", "float", structure=structure, programs=programs)
    said = explain(report(one), one)
    assert "the pattern has aten.convolution.default, the program\n  aten.conv2d.default, at node conv2d" in said
    assert "conv2d = conv2d(x, w) -> float32 (1,)" in said
    assert "mul is computed in float: no rewrite of upstream's is for it" in said
    assert "To see it again: nox -s test-2.4 -- conv2d" in said
    ours = explain(report(one, run=run(representation="mine:convert")), one)
    assert "mul is computed in float: mine:convert left it so, or made it so" in ours


def test_explanation_names_the_operator_where_a_difference_begins():
    exact = {
        "rounding": "truncate", "unavailable": None, "approximated": [], "reference_starts_at": "linear (quantize)",
        "qdq_starts_at": None,
    }  # fmt: skip
    operators = [
        {
            "name": "linear", "node": "linear", "levels": "quantize", "module": "head.fc", "source": "net.py:41",
            "reference": {"max": 2, "mean": -0.3, "differing": 0.2},
        },
        {"name": "add", "node": "add", "levels": "quantize_1"},
        {"name": "linear", "node": "linear_1", "levels": None},
    ]  # fmt: skip
    one = case("add", "mismatch", numerics=lsb(2), exact=exact, operators=operators)
    said = explain(report(one), one)
    assert "up to 2 LSB from the exact result, in 50% of the outputs" in said
    assert "linear (quantize, head.fc, net.py:41): up to 2 LSB, mean -0.3, in 20%: the difference begins here" in said
    assert "cut off towards zero" in said
    assert "add (quantize_1)" not in said
    unseen = case(
        "add",
        "mismatch",
        numerics=lsb(2),
        exact=exact | {"reference_starts_at": "add (quantize_1)"},
        operators=operators,
    )
    wanted = "add (quantize_1): its levels could not be found in the reference program: the difference begins here"
    assert wanted in explain(report(unseen), unseen)


def test_explain_on_a_real_report(whole_run, tmp_path):
    folder = write(tmp_path / "reports", whole_run.report)
    version = ".".join(whole_run.report.run.torch.split(".")[:2])
    done = cli("explain", "conv2d", "--torch", version, "--reports", folder)
    assert done.returncode == 0, done.stderr
    assert "the pattern has aten.convolution.default, the program\n  aten.conv2d.default" in done.stdout
    done = cli("explain", "linear_per_channel", "--torch", version, "--reports", folder)
    assert "the pattern has quantized_decomposed.dequantize_per_tensor" in done.stdout
    done = cli("explain", "linear_rounding", "--torch", version, "--reports", folder)
    assert "up to 1 LSB from the exact result" in done.stdout
    assert ": the difference begins here" in done.stdout
    # Of several of one kind, those that a rewrite took are not said to be left; from 2.3 on a ReLU keeps it away.
    done = cli("explain", "mlp", "--torch", version, "--reports", folder)
    assert "1 of 3 quantized operators compute on integers." in done.stdout
    assert len(re.findall(r"  linear \(layers\.\d, models\.py:\d+\): float: addmm on float32", done.stdout)) == 2
    assert len(re.findall(r"linear \(layers\.\d, models\.py:\d+\) stayed in float:", done.stdout)) == 2
    assert "    linear_2 = " not in done.stdout.partition("The reference program is")[0]
    done = cli("explain", "conv3d", "--torch", version, "--reports", folder)
    assert done.returncode == 2


def test_history_keeps_whole_runs_and_tells_when_an_outcome_changed(tmp_path):
    runs = [
        report(case("add", outcome), run=cell(started=f"2026-01-0{day}T00:00:00+00:00"))
        for day, outcome in enumerate(["pass", "crash", "crash", "pass", "pass"], 1)
    ]
    for ordered in itertools.islice(itertools.permutations(runs), 10):
        folder = tmp_path / str(random.random())
        for one in ordered:
            keep(folder, [one])
        keep(folder, runs)  # once more changes nothing
        history = read_history(folder)
        assert [len(of_cell) for of_cell in history.values()] == [5]
        assert newest(history) == [runs[-1]]
        assert changes(history)[runs[0].run.cell, "add"] == ("2026-01-04T00:00:00+00:00", "crash")
    assert changes(history).get((runs[0].run.cell, "mul")) is None


def test_incomplete_run_never_wipes_an_older_one(tmp_path):
    whole = report(case("add"), case("mul"), run=cell())
    cut = report(case("add", "crash"), selected=2, run=cell(started="2026-02-01T00:00:00+00:00"))
    (tmp_path / "whole.jsonl").write_text(dump(whole))
    (tmp_path / "cut.jsonl").write_text(dump(cut))
    history = tmp_path / "history"
    assert cli("report", tmp_path / "whole.jsonl", "--history", history).returncode == 0
    done = cli("report", tmp_path / "cut.jsonl", "--history", history, "--html", tmp_path / "site")
    assert done.returncode == 0
    assert "cut.jsonl is of a run that was stopped, and is not kept" in done.stderr
    assert newest(read_history(history)) == [whole]


def test_run_of_some_cases_hides_no_others(tmp_path):
    whole = report(case("add"), case("mul"), run=cell())
    later = cell(started="2026-02-01T00:00:00+00:00")
    some = Report(later, (case("add"),), end_record([case("add")], 1, 1.0, deselected=1))
    keep(tmp_path, [whole, some])
    assert newest(read_history(tmp_path)) == [whole]
    keep(tmp_path / "alone", [some])
    assert newest(read_history(tmp_path / "alone")) == [some]


def test_history_is_of_one_question(tmp_path):
    history = tmp_path / "history"
    files = []
    for number, one in enumerate([cell(), cell(representation="mine:f"), cell(seed=1)]):
        files.append(tmp_path / f"{number}.jsonl")
        files[-1].write_text(dump(report(case("add"), run=one)))
    assert cli("report", files[0], "--history", history).returncode == 0
    for other in files[1:]:
        done = cli("report", other, "--history", history)
        assert done.returncode == 2
        assert "is of another representation, seed or rounding" in done.stderr
    assert len(list(history.glob("*/*"))) == 1


def test_history_takes_a_run_in_which_no_case_came_to_its_rounding(tmp_path):
    history = tmp_path / "history"
    exact = {"unavailable": None, "approximated": [], "reference_starts_at": None, "qdq_starts_at": None}
    found, other = ({"exact": exact | {"rounding": scheme}} for scheme in ("half_even", "truncate"))
    for number, (status, one) in enumerate(
        [(0, case("add", "error")), (0, case("add", **found)), (2, case("add", **other))]
    ):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(dump(report(one, run=cell(started=f"2026-01-0{number + 1}T00:00:00+00:00"))))
        assert cli("report", path, "--history", history).returncode == status
    assert len(list(history.glob("*/*"))) == 2


def row_of(*cells):
    """Return what the page says of one case, given each cell's torch, machine and digest."""
    reports = [report(case("add", digest=digest), run=cell(torch, machine)) for torch, machine, digest in cells]
    found = re.findall(r'<th scope="row">add(?: <small>(.*?)</small>)?</th>', page(reports))
    return found[0]


def test_what_is_bit_identical_is_so_in_every_cell_since_then():
    x86, arm = "x86_64", "aarch64"
    both = [("2.5.1", x86, B), ("2.5.1", arm, B)]
    assert row_of(*both) == "bit-identical in every cell"
    assert row_of(("2.4.1", x86, A), ("2.4.1", arm, A), *both) == "bit-identical since torch 2.5"
    # One of that torch's two cells differs.
    assert row_of(("2.4.1", arm, A), ("2.4.1", x86, B), *both) == "bit-identical since torch 2.5"
    assert row_of(("2.4.1", arm, None), ("2.4.1", x86, B), *both).startswith("bit-identical in the 3 cells that have")
    assert row_of(("2.4.1", arm, A), ("2.4.1", x86, B)) == "2 kinds of integers"


def test_columns_of_one_cell_stand_side_by_side():
    """Whoever built its torch."""
    runs = [
        structs.replace(cell("2.8.0"), torch="2.8.0+cu128"), cell("2.8.0", "aarch64"),
        cell("2.8.0", cell="torch2.8-torchao0.17-cp311-linux_x86_64"), cell("2.10.0"),
    ]  # fmt: skip
    ordered = [one.run.cell for one in sorted((report(case("add"), run=one) for one in runs), key=by_age)]
    assert ordered == [
        "torch2.8-cp311-linux_aarch64", "torch2.8-cp311-linux_x86_64", "torch2.8-torchao0.17-cp311-linux_x86_64",
        "torch2.10-cp311-linux_x86_64",
    ]  # fmt: skip


def test_kernel_that_was_not_measured_is_not_called_exact():
    exact = comparison(0)
    first, second = case("add", engines={"x86": exact, "xnnpack": exact}), case("mul", engines={"x86": exact})
    assert kernel_rows([report(first, second)])[-1] == ("2 others", "0", "0, \N{EN DASH}")


def test_badge_says_what_is_unexpected():
    assert json.loads(badge.endpoint([report(case("add"))]))["message"] == "1 of 1 pass, none unexpected"
    red = [report(case("add", complaint="new"))]
    assert json.loads(badge.endpoint(red))["message"] == "1 unexpected of 1"


def test_machines_of_one_cell_are_compared():
    emulated = cell(machine="aarch64", emulated=True)
    pair = [
        report(case("add", digest=A), case("mul", digest=A), case("only"), run=cell()),
        report(case("add", "mismatch", digest=B, numerics=lsb(3)), case("mul", digest=A), run=emulated),
    ]
    assert between_machines(pair) == [
        "torch2.4-cp311 on x86_64, aarch64 (emulated): 1 of 2 cases differ",
        "  add: pass on x86_64, mismatch, 3 LSB from exact on aarch64 (emulated)",
    ]
    assert between_machines(pair[:1]) == []
    assert "aarch64 (emulated)" in page(pair) or "<small>qemu</small>" in page(pair)
    assert "torch2.4-cp311-linux_aarch64 (emulated)" in render(pair, color=False)


SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def hostile(**fields):
    known = {"reason": SCRIPT, "link": "javascript:alert(3)"}
    record = case(
        SCRIPT[:100], "mismatch", known=known, reason=f"</script>{SCRIPT}", family=SCRIPT[:100], numerics=lsb(1),
        programs={"qdq": [["float", SCRIPT]], "reference": [["", "]]>" + SCRIPT]]},
    )  # fmt: skip
    return report(record, run=run(**{"host": SCRIPT, "representation": SCRIPT} | fields))


def test_hostile_texts_stay_texts():
    html = page([hostile()])
    assert html.count("<script") == 2  # its data, and its own
    assert "<img" not in html
    assert "javascript:" not in html
    assert embedded(html)["values"]
    assert "<script" not in table_markdown([hostile()]).replace("\\<", "")
    assert "<script>" not in markdown(differences([hostile()], [report(case("add"))])).replace("\\<", "")


def test_markdown_mentions_links_and_formats_nothing():
    link = "see https://evil.example and www.evil.example ~~x~~ $y$ @team #1"
    records = [case(link, engines={f"{link}\n\n# Head": comparison(1)}, digest=digest) for digest in (A, B)]
    reports = [report(record, run=cell(torch)) for record, torch in zip(records, ("2.4.1", "2.5.1"), strict=True)]
    plain = table_markdown(reports)
    assert "https:" not in plain
    assert "www." not in plain
    assert not re.search(r"(?<!\\)[@~$]|\n# ", plain)


def test_texts_move_no_cursor_and_begin_no_line(tmp_path):
    path = tmp_path / "report.jsonl"
    path.write_text(dump(report(case("add\x1b[2J", reason="a\nfake: \x9b1m all pass \u202e", complaint="new"))))
    (record,) = read_report(path).cases
    assert (record.name, record.reason.text) == ("add\ufffd[2J", "a fake: \ufffd1m all pass \ufffd")
    for command in (["report", path], ["explain", "add\ufffd[2J", "--torch", "2.4", "--reports", path]):
        done = cli(*command)
        assert done.returncode == 0, done.stderr
        assert not re.search("[\x1b\x9b\u202e]", done.stdout)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: [lines[0].replace("torch2.4-cp311-linux_x86_64", "../../x")], "`$.cell`"),
        (lambda lines: [lines[0].replace('"seed":0', '"seed":' + "9" * 401)], "is too large"),
        (lambda lines: [lines[0].replace('"schema":2', f'"schema":"{"9" * 3_000_000}"')], "reads schemas 1 and 2"),
        (lambda lines: [lines[0].replace('"torch":"2.4.1"}', '"' + "x" * 3_000_000 + '": 1}')], "`$.packages[...]`"),
        (lambda lines: [lines[0].replace('"host":"h"', '"host":' + json.dumps("x" * 10_000_000))], "a line of 10 MB"),
        (lambda lines: [lines[0].replace('"build":{}', '"build":' + '{"a":' * 99 + "1" + "}" * 99)], "nested more"),
        (lambda lines: [lines[0].replace('"build":{}', '"build":' + "[" * 50_000)], "not a line of JSON"),
        (lambda lines: [lines[0].replace('"seed":0', '"seed":NaN')], "NaN is not JSON"),
        (lambda lines: [lines[0].replace('"seed":0', '"seed":1e999')], "1e999 is too large"),
        (lambda lines: [lines[0].replace('"seed":0', '"seed":0, "seed":1')], "a key occurs twice"),
        (lambda lines: [lines[0].replace('"schema":2', '"schema":3')], "reads schemas 1 and 2"),
        (lambda lines: [lines[0].replace('"instruction_sets":[]', '"instruction_sets":1')], "`$.cpu.instruction_sets`"),
    ],
)  # fmt: skip
def test_hostile_report_is_one_line(tmp_path, change, says):
    lines = dump(report(case("add"))).splitlines()
    changed_lines = [*change(lines), *lines[1:]]
    assert changed_lines != lines
    path = tmp_path / "report.jsonl"
    path.write_text("\n".join(changed_lines) + "\n")
    done = cli("report", path, "--html", tmp_path / "site")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert says in line
    assert len(line) < 600
    assert not (tmp_path / "site").exists()


def test_output_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "a.jsonl").write_text(dump(report(case("add", "float", reason="\u043d\u0435\u0442"))))
    command = [sys.executable, "-m", "pt2e_ci", "report", str(tmp_path / "a.jsonl")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "pt2e-ci: error: the output could not be written: No space left on device\n",
    )
    closed = subprocess.run(f"{shlex.join(command)} >&-", shell=True, stderr=subprocess.PIPE, text=True)
    assert (closed.returncode, closed.stderr) == (0, "")
    plain = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "latin-1"}, capture_output=True)
    assert (plain.returncode, plain.stderr) == (0, b"")
    assert rb"\u043d" in plain.stdout


def test_view_goes_into_a_pipe_and_through_a_link(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(dump(report(case("add"))))
    (tmp_path / "there").touch()
    (tmp_path / "link").symlink_to("there")
    assert cli("report", path, "--markdown", tmp_path / "link").returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert "| add |" in (tmp_path / "there").read_text()
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        assert cli("report", path, "--markdown", tmp_path / "pipe").returncode == 0
        assert "| add |" in reader.stdout.read()
    assert (tmp_path / "pipe").is_fifo()


def test_narrow_terminal_shows_outcome_and_reason(monkeypatch):
    monkeypatch.setattr(table, "width", lambda: 80)
    shown = table.render(
        [report(case("adaptive_avg_pool2d_ties", "float", known={"reason": "r", "link": "l"}, reason="why"))],
        color=False,
    )
    assert "float, known" in shown
    assert "why" in shown
    assert max(map(len, shown.splitlines()[1:])) <= 80


def test_two_reports_of_one_cell_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(dump(report(case("add"))))
    done = cli("report", tmp_path)
    assert done.returncode == 2
    assert "two reports of the cell" in done.stderr


def test_page_of_a_full_matrix_is_small(whole_run):
    """18 cells on two architectures, 100 cases each, made of a real report: below 3 MB."""
    real = whole_run.report
    copies = [structs.replace(one, name=f"{one.name}_{copy}") for copy in range(2) for one in real.cases]
    matrix = [
        report(
            *copies[:100],
            run=structs.replace(
                real.run, cell=f"torch2.{number}-cp311-linux_{machine}", torch=f"2.{number}.0", machine=machine
            ),
        )
        for number in range(18)
        for machine in ("x86_64", "aarch64")
    ]
    assert len(page(matrix).encode()) < 3_000_000
