"""The command: what it prints, and one line with exit code 2 for what it cannot do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pt2e_ci.catalogue.cases import CASES
from pt2e_ci.cells.cell import load_cells
from pt2e_ci.cli import main


def command(*arguments, cwd=None):
    return subprocess.run([sys.executable, "-m", "pt2e_ci", *arguments], cwd=cwd, capture_output=True, text=True)


def test_cells_as_a_table():
    done = command("cells")
    assert done.returncode == 0
    for cell in load_cells().cells:
        assert f"\n{cell.session} " in done.stdout


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
        "pythons": ["3.11"],
        "flow": "torch.ao",
        "requires": [],
        "base": None,
    }


def test_doctor():
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 0
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


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder with a file, a folder and a pipe, all that a path may be that it should not be."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "file").write_text("not a report\n")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    return folder


BAD_INPUT = {
    "run": [
        (["conv2D"], "unknown case 'conv2D': did you mean 'conv2d'?"),
        (["doctor"], "'doctor' is a command, not a case: type `pt2e-ci doctor`"),
        (["add", "--reqire=qnnpack"], "unknown option '--reqire': did you mean '--require'?"),
        (["--nonsense"], "unknown option '--nonsense': did you mean"),
        (["add", "--require=qnpack"], "unknown capability 'qnpack': did you mean 'qnnpack'?"),
        (["--flow=fx"], "unknown flow 'fx': choose from torch.ao, torchao"),
        (["--flow=torch.ao"], "torch 2.13.0 has no PT2E flow of its own: install torchao 0.16, 0.17, 0.18"),
        (["--expectations=none.toml"], "none.toml: cannot be read: No such file or directory"),
        (["--expectations=pipe"], "pipe: cannot be read: it is a pipe"),
        (["--expectations=folder"], "folder: cannot be read: Is a directory"),
        (["--report=/dev/null/x"], "the report cannot be written to /dev/null/x"),
        (["--report=pipe"], "it is a pipe: use --report -"),
        (["--report="], "--report needs the name of a file"),
        (["--seed=many"], "argument --seed: invalid int value: 'many'"),
        (["--rounding=up"], "unknown rounding scheme 'up'"),
        (["--representation="], "--representation needs package.module:function"),
        (["-k", "add and ("], "-k 'add and (' is not an expression"),
    ],
    "report": [
        (["none.jsonl"], "none.jsonl: cannot be read: No such file or directory"),
        (["pipe"], "pipe: cannot be read: it is a pipe"),
        (["file"], "file:1: "),
        (["folder"], "folder has no report"),
        (["file/x.jsonl"], "cannot be read: Not a directory"),
    ],
    "diff": [
        (["nothing", "2.4"], "'nothing' is neither a file or folder nor a version of torch"),
        (["pipe", "pipe"], "pipe"),
    ],
    "explain": [(["conv2d", "--torch", "newest"], "'newest' is no version of torch")],
    "check": [(["none.py"], "none.py: no such file"), (["none.py", "--with", "x"], "--with goes with --torch")],
    "cells": [(["9.9"], "unknown cell '9.9'"), (["--platform", "linux/arm64"], "--platform goes with --github")],
    "doctor": [(["--flow", "fx"], "unknown flow 'fx'")],
    "controls": [(["bias_droped"], "did you mean 'bias_dropped'?"), (["--case", "conv2D"], "did you mean 'conv2d'?")],
    "matrix": [
        ([], "has no noxfile.py: run the matrix from a checkout"),
        (["--arguments", "'"], "cannot be read as a shell"),
    ],
    "engines": [
        (["--reports", "folder"], "no report of an engine there: run `nox -s engines`"),
        (["run", "onnxruntme"], "did you mean 'onnxruntime'?"),
    ],
    "vectors": [
        (["compare", "folder", "folder"], "folder/manifest.json: cannot be read"),
        (["write", "out", "none.py"], "none.py: no such file"),
    ],
    "networks": [(["--reports", "folder"], "folder: no report of a network there: run `nox -s networks`")],
    "quantizers": [
        (["--reports", "folder"], "no report of a quantizer there: run `nox -s quantizers`"),
        (["run", "xnpack"], "unknown quantizer 'xnpack': did you mean 'xnnpack'?"),
    ],
    "reduce": [
        (["none.py", "out", "--engine", "onnxruntime"], "none.py: no such file"),
        (["none.py", "out", "--engine", "onnxruntme"], "none.py: no such file"),
    ],
    "verify": [(["none.jsonl"], "none.jsonl: cannot be read"), (["file"], "file:1: ")],
    "github": [(["verdict", "--needs", "{", "--reports", "."], "--needs is not JSON")],
    "image": [(["run", "--torch", "2.99"], "unknown cell '2.99'"), (["build", "--torch", ","], "--torch needs a name")],
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([name, *arguments], message) for name, rows in BAD_INPUT.items() for arguments, message in rows],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(places, arguments, message):
    done = command(*arguments, cwd=places)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert message in line or (arguments[0] == "image" and "no Docker engine answers" in line)
    assert line.startswith("pt2e-ci: error: ")


def test_every_command_is_in_the_table():
    assert set(BAD_INPUT) == set(main.commands)


@pytest.mark.parametrize("arguments", [["nonsense"], ["cells", "--nonsense"], ["report"]])
def test_unknown_command_or_option(tmp_path, arguments):
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["doctor", "controls", "run"])
def test_without_torch_is_one_line(tmp_path, name):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    script = "import sys, runpy\nfrom pt2e_ci.cells import cell\ncell.installed = lambda name: None\n"
    script += f"sys.argv[1:] = [{name!r}]\nrunpy.run_module('pt2e_ci', run_name='__main__')"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("pt2e-ci: error: torch is not installed in this environment: install one, or run a nox")


def test_path_that_may_not_be_looked_at_is_one_line(monkeypatch):
    """Whatever asks for it: Python itself raises for a folder that may not be entered."""

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refuse)
    done = CliRunner().invoke(main, ["report", "secret/x.jsonl"])
    assert done.exit_code == 2
    assert done.stderr == "pt2e-ci: error: secret/x.jsonl: Permission denied\n"


def test_two_reports_of_one_cell(suite, whole_run):
    done = command("report", str(whole_run.path), str(whole_run.path))
    assert done.returncode == 2
    assert "two reports of the cell" in done.stderr
