"""Cells side by side, with commands that stand in for nox sessions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from conftest import ROOT
from made import case, report, run

from pt2e_ci.cells.cell import load_cells
from pt2e_ci.errors import InputError
from pt2e_ci.matrix.jobs import Job, Matrix, State, plan
from pt2e_ci.record.report import dump

CELLS = {cell.name: cell for cell in load_cells().cells}


def job(folder, name, script):
    path = folder / f"{name}.jsonl"
    text = dump(report(case("add"), run=run(cell=CELLS[name].id("linux_x86_64"))))
    prelude = f"import sys, time, pathlib\npath, text = pathlib.Path({str(path)!r}), {text!r}\n"
    return Job(CELLS[name].session, [sys.executable, "-c", prelude + script], path, path.with_suffix(".log"))


GOOD = "path.write_text(text)"
BAD = "path.write_text(text); sys.exit(1)"
SILENT = "print('no torch for this Python'); sys.exit(1)"


def test_all_good(tmp_path, capsys):
    matrix = Matrix([job(tmp_path, "2.4", GOOD), job(tmp_path, "2.13", GOOD)], at_once=2)
    assert matrix.run() == 0
    printed = capsys.readouterr().out
    assert "2 cells, 2 cases: 2 pass" in printed
    assert printed.splitlines()[-3].startswith("2 of 2 cases hold on 2 cells: nothing new.")
    assert "test-2.4: done" in printed


@pytest.mark.parametrize(("script", "says"), [(BAD, "test-2.13 failed"), (SILENT, "test-2.13 ended without one")])
def test_one_bad(tmp_path, capsys, script, says):
    matrix = Matrix([job(tmp_path, "2.4", GOOD), job(tmp_path, "2.13", script)], at_once=2)
    assert matrix.run() == 1
    assert says in capsys.readouterr().out


def test_earlier_report_is_not_taken_for_this_runs(tmp_path, capsys):
    failing = job(tmp_path, "2.13", SILENT)
    failing.report.write_text(dump(report(case("add"))))
    assert Matrix([failing], at_once=1).run() == 1
    assert "ended without one" in capsys.readouterr().out
    assert failing.report.exists()


def test_cores_are_shared_out(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    tell = "import os; path.write_text(text); print(os.environ['PYTEST_XDIST_AUTO_NUM_WORKERS'])"
    jobs = [job(tmp_path, "2.4", tell), job(tmp_path, "2.13", tell)]
    assert Matrix(jobs, at_once=5).run() == 0
    assert [one.log.read_text().strip() for one in jobs] == ["4", "4"]


def test_no_more_at_once_than_allowed(tmp_path):
    script = textwrap.dedent(
        """
        running = path.parent / "running"
        running.mkdir(exist_ok=True)
        (running / path.name).touch()
        time.sleep(0.3)
        (path.parent / f"{path.stem}.seen").write_text(str(len(list(running.iterdir()))))
        (running / path.name).unlink()
        """
    )
    jobs = [job(tmp_path, name, script + GOOD) for name in ("2.1", "2.2", "2.3", "2.4", "2.5")]
    assert Matrix(jobs, at_once=2).run() == 0
    assert max(int(path.read_text()) for path in tmp_path.glob("*.seen")) == 2


def test_interrupt_stops_all_and_keeps_what_is_done(tmp_path):
    script = textwrap.dedent(
        f"""
        import signal, sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_matrix import GOOD, job
        # A background job of a shell, as this may be one, is deaf to it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from pt2e_ci.matrix.jobs import Matrix
        folder = Path({str(tmp_path)!r})
        slow = "(path.parent / 'pid').write_text(str(__import__('os').getpid())); time.sleep(600)"
        sys.exit(Matrix([job(folder, "2.4", GOOD), job(folder, "2.13", slow)], at_once=1).run())
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    for _ in range(300):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert "test-2.13: stopped" in printed
    assert "1 of 1 case holds" in printed
    assert (tmp_path / "2.4.jsonl").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_plan():
    matrix = plan(ROOT, ["2.4", "test-2.13"], ["-k", "add"], at_once=None, fresh=True)
    assert [job.report.parent.name for job in matrix.jobs] == ["other"] * 2  # not in the place of a whole run's
    assert [job.name for job in matrix.jobs] == ["test-2.4", "test-2.13"]
    assert all(job.state is State.WAITING for job in matrix.jobs)
    assert matrix.jobs[0].command[-5:] == ["test-2.4", "--", "-k", "add", f"--report={ROOT}/reports/other/"]
    assert matrix.at_once >= 1


def test_plan_of_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"unknown cell '2\.44': did you mean '2\.4'"):
        plan(ROOT, ["2.44"], [], at_once=1, fresh=False)
    with pytest.raises(InputError, match="has no noxfile"):
        plan(tmp_path, [], [], at_once=1, fresh=False)
