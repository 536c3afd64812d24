"""When a result stands for another run: only if nothing that it depends on has changed, and it was good."""

from __future__ import annotations

import pytest
from made import RUN, case, report

from pt2e_ci.record import unchanged
from pt2e_ci.record.report import write_report
from pt2e_ci.record.unchanged import mark_reused, result_key, reusable
from pt2e_ci.views.table import describe

KEY = RUN.key


@pytest.fixture
def packages(tmp_path):
    """A folder of packages with one distribution, and a module of the flow."""
    info = tmp_path / "thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: thing\nVersion: 1.0\n")
    (info / "RECORD").write_text("thing.py,sha256=abc,3\n")
    flow = tmp_path / "torch" / "ao" / "quantization"
    flow.mkdir(parents=True)
    (flow / "observer.py").write_text("step = 1\n")
    return tmp_path


def test_key_stays_while_nothing_changes(packages):
    assert result_key(packages, "3.11.7", {}) == result_key(packages, "3.11.7", {})


@pytest.mark.parametrize(
    "change",
    [
        lambda packages, patch: (packages / "thing-1.0.dist-info" / "RECORD").write_text("thing.py,sha256=abd,3\n"),
        lambda packages, patch: (packages / "torch" / "ao" / "quantization" / "observer.py").write_text("step = 2\n"),
        lambda packages, patch: (packages / "torch" / "ao" / "quantization" / "other.py").write_text(""),
        lambda packages, patch: patch.setenv("ATEN_CPU_CAPABILITY", "default"),
        lambda packages, patch: patch.setattr(unchanged, "cpu_flags", lambda: {"asimd"}),
        lambda packages, patch: patch.setattr(unchanged, "is_emulated", lambda: True),
        lambda packages, patch: patch.setattr(unchanged, "_PACKAGE", packages / "torch"),
    ],
    ids=["package", "patched flow", "new module", "variable", "cpu", "emulation", "our own source"],
)
def test_key_changes_with_what_a_result_depends_on(packages, monkeypatch, change):
    before = result_key(packages, "3.11.7", {})
    change(packages, monkeypatch)
    assert result_key(packages, "3.11.7", {}) != before


def test_key_changes_with_python_and_options(packages):
    keys = {
        result_key(packages, "3.11.7", {}),
        result_key(packages, "3.11.8", {}),
        result_key(packages, "3.11.7", {"seed": 1}),
    }
    assert len(keys) == 3


def kept(tmp_path, *cases, **fields):
    path = tmp_path / "report.jsonl"
    write_report(path, report(*cases, **fields))
    return path


def test_good_report_is_reused_and_says_so(tmp_path):
    found = reusable(kept(tmp_path, case("add"), case("conv2d", "float", known={"reason": "r", "link": "l"})), KEY)
    assert found is not None
    assert "unchanged, and not run again: made 2026-01-01T00:00:00+00:00 on h" in describe(mark_reused(found))


@pytest.mark.parametrize(
    "cases",
    [
        [case("add", "mismatch", complaint="new")],
        [case("add", complaint="the known mismatch is gone")],
        [case("add"), case("conv2d", "skip", reason="no engine")],
    ],
    ids=["unexpected", "vanished", "skip"],
)
def test_bad_report_is_never_reused(tmp_path, cases):
    assert reusable(kept(tmp_path, *cases), KEY) is None


def test_other_key_stopped_run_or_no_report(tmp_path):
    path = kept(tmp_path, case("add"))
    assert reusable(path, "sha256:" + "1" * 64) is None
    assert reusable(kept(tmp_path, case("add"), selected=2), KEY) is None
    path.write_text(path.read_text()[:-9])
    assert reusable(path, KEY) is None
    assert reusable(tmp_path / "none.jsonl", KEY) is None
