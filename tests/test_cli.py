"""The command: what it prints, and one line with exit code 2 for what it cannot do."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pt2e_ci.cases.catalogue import CASES
from pt2e_ci.cells import load_cells


def command(*arguments, cwd=None):
    return subprocess.run([sys.executable, "-m", "pt2e_ci", *arguments], cwd=cwd, capture_output=True, text=True)


def test_cells_as_a_table():
    done = command("cells")
    assert done.returncode == 0
    for cell in load_cells().cells:
        assert f" {cell.session} " in done.stdout


def test_cells_as_json():
    records = json.loads(command("cells", "--json").stdout)
    assert [record["name"] for record in records] == [cell.name for cell in load_cells().cells]
    assert records[0] == {
        "name": "2.1",
        "session": "test-2.1",
        "id": records[0]["id"],
        "torch": "2.1.2",
        "torchao": None,
        "python": "3.11",
        "flow": "torch.ao",
        "requires": [],
        "base": None,
    }


def test_doctor():
    done = command("doctor")
    assert done.returncode == 0
    assert f"All {len(CASES)} cases can run here." in done.stdout
    found = json.loads(command("doctor", "--json").stdout)
    assert found["engines"]
    assert found["skipped"] == {}
    assert set(found["missing"]).isdisjoint(found["engines"])


@pytest.mark.parametrize("arguments", [["--help"], ["cells"], ["run", "--help"], ["report", "--help"]])
def test_quick_commands_do_not_import_torch(arguments):
    script = f"import sys, runpy; sys.argv[1:] = {arguments!r}\n"
    script += "try: runpy.run_module('pt2e_ci', run_name='__main__')\nexcept SystemExit: pass\n"
    script += "assert 'torch' not in sys.modules and 'pytest' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "conv2D"], "unknown case 'conv2D': did you mean 'conv2d'?"),
        (["run", "add", "--require=qnpack"], "unknown capability 'qnpack': did you mean 'qnnpack'?"),
        (["run", "--flow=fx"], "unknown flow 'fx': choose from torch.ao, torchao"),
        (["run", "--flow=torch.ao"], "torch 2.13.0 has no PT2E flow of its own: install torchao 0.16, 0.17, 0.18"),
        (["run", "--expectations=none.toml"], "none.toml: cannot be read"),
        (["run", "--report=/dev/null/x"], "the report cannot be written to /dev/null/x"),
        (["run", "--pattern-cache="], "--pattern-cache"),
        (["run", "--report="], "--report needs the name of a file"),
        (["run", "-k", "add and ("], "-k 'add and (' is no expression"),
        (["report", "none.jsonl"], "none.jsonl: cannot be read"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, message):
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("pt2e-ci: error: ")


@pytest.mark.parametrize("arguments", [["run", "--nonsense"], ["nonsense"], ["cells", "--nonsense"]])
def test_unknown_option_or_command(tmp_path, arguments):
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_reports_of_one_cell(suite, whole_run):
    done = command("report", str(whole_run.path), str(whole_run.path))
    assert done.returncode == 2
    assert "two reports of the cell" in done.stderr
