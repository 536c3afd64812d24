"""The list of cells, what it says of itself, and which cell an environment is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from pt2e_ci.cells import cell as cells
from pt2e_ci.cells.cell import CELLS_FILE, Cell, current_cell, load_cells
from pt2e_ci.errors import InputError

LISTED = load_cells()
FIRST = r"cells\.toml: \[\[cell\]\] 1: "
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
GOOD = '[[cell]]\nname = "2.4"\ntorch = "2.4.1"\npythons = ["3.11"]\nflow = "torch.ao"\n'


def test_every_torch_is_listed_with_its_flow():
    flows = {cell.name: cell.flow for cell in LISTED.cells}
    assert [*flows] == [
        *(
            "2.1",
            "2.2",
            "2.3",
            "2.4",
            "2.5",
            "2.6",
            "2.7",
            "2.8",
            "2.8-torchao",
            "2.9",
            "2.10",
            "2.10-torchao",
        ),
        *("2.11", "2.12", "2.13", "2.14", "2.15", "2.15-py3.15"),
    ]
    assert {name for name, flow in flows.items() if flow == "torchao"} == {
        *("2.8-torchao", "2.10-torchao", "2.11", "2.12", "2.13", "2.14", "2.15", "2.15-py3.15")
    }


def test_pinned_pairs_are_pairs_that_work():
    for cell in LISTED.cells:
        if cell.torchao:
            assert cells.minor(cell.torchao) in LISTED.pairs[cells.minor(cell.torch)]


def test_ids():
    named = {cell.name: cell.id("linux_x86_64") for cell in LISTED.cells}
    assert named["2.4"] == "torch2.4-cp311-linux_x86_64"
    assert named["2.10-torchao"] == "torch2.10-torchao0.17-cp311-linux_x86_64"
    assert named["2.15-py3.15"] == "torch2.15-torchao0.18-cp315-linux_x86_64"
    assert len(set(named.values())) == len(named)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[cell]\n", r"cells\.toml: not valid TOML: .*line 1"),
        ("", r"cells\.toml: holds no \[\[cell\]\]"),
        (GOOD + GOOD, r"cells\.toml: \[\[cell\]\] 2: a second cell named '2\.4'"),
        (GOOD.replace('flow = "torch.ao"\n', ""), FIRST + r"the cell has no 'flow'"),
        ("# a\n\n" + GOOD.replace("2.4.1", "two"), FIRST + r"'torch' is not a release, such as 2\.4\.1: 'two'"),
        (GOOD.replace('"2.4.1"', "2.4"), FIRST + r"'torch' must be a string"),
        (GOOD.replace("torch.ao", "fx"), FIRST + r"unknown flow 'fx'"),
        (GOOD.replace("torch.ao", "torchao"), FIRST + r"'torchao' names the release"),
        (GOOD.replace('"2.4"', '"../x"'), FIRST + r"'name' is not a name of letters"),
        (GOOD.replace('"3.11"', '"3.11.7"'), FIRST + r"'pythons' must be a list of minor releases"),
        (GOOD.replace('["3.11"]', '"3.11"'), FIRST + r"'pythons' must be a list of minor releases"),
        (
            GOOD + GOOD.replace('"2.4"', '"2-4"'),
            r"cells\.toml: \[\[cell\]\] 2: '2-4' and '2\.4' would be one tox environment, torch24",
        ),
        (GOOD + GOOD.replace('"2.4"', '"other"'), r"cells\.toml: \[\[cell\]\] 2: the same environment as cell '2\.4'"),
        (GOOD + 'colour = "red"\n', FIRST + r"unknown key 'colour'"),
        (GOOD + 'requires = ["numpy<"]\n', FIRST + r"'requires' must be a list of requirements"),
        ("x = 1\n" + GOOD, r"cells\.toml: unknown table 'x'"),
        (GOOD + '[pairs]\n"2.7" = "0.11"\n', r"cells\.toml: \[pairs\] '2\.7' must be a list"),
        ('cell = [{name = "2.4"}]\n', FIRST + r"the cell has no 'flow'"),
    ],
)
def test_broken_list(tmp_path, text, message):
    path = tmp_path / "cells.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_cells(path)


def test_missing_list(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_cells(tmp_path / "cells.toml")


@pytest.fixture
def environment(monkeypatch):
    """Pretend that other versions are installed."""

    def pretend(torch, torchao=None, ships=("torchao",)):
        versions = {"torch": torch, "torchao": torchao}
        monkeypatch.setattr(cells, "installed", versions.get)
        monkeypatch.setattr(cells, "_ships", lambda package, path: package in ships)

    return pretend


def test_this_environment_is_a_listed_cell():
    assert current_cell().name == "2.13"


def test_unlisted_torch_runs_under_its_full_version(environment):
    environment("2.4.0", ships=("torch",))
    cell = current_cell()
    assert not cell.listed
    assert cell.id("linux_x86_64").startswith("torch2.4.0-cp3")


def test_torch_that_is_newer_than_the_list(environment):
    environment("2.99.0", "0.40.0")
    assert current_cell() == Cell("torch 2.99.0", "2.99.0", (HERE,), "torchao", "0.40.0", listed=False)


def test_no_torch(environment):
    environment(None)
    with pytest.raises(InputError, match="torch is not installed"):
        current_cell()


def test_torchao_that_does_not_pair(environment):
    environment("2.9.1", "0.12.0", ships=("torch", "torchao"))
    with pytest.raises(InputError, match=r"does not pair with torch 2\.9\.1: install torchao 0\.15.*or choose flow"):
        current_cell()
    assert current_cell("torch.ao").flow == "torch.ao"


def test_torchao_without_the_flow_is_not_asked_for_it(environment):
    environment("2.6.0", "0.8.0", ships=("torch",))
    assert current_cell().flow == "torch.ao"
    with pytest.raises(InputError, match="has no PT2E flow"):
        current_cell("torchao")


def test_torch_that_has_no_flow_of_its_own(environment):
    environment("2.11.0", ships=())
    with pytest.raises(InputError, match=r"torch 2\.11\.0 has no PT2E flow of its own: install torchao 0\.16"):
        current_cell()


def test_unknown_flow():
    with pytest.raises(InputError, match="unknown flow 'fx'"):
        current_cell("fx")


def nox(*arguments):
    command = [sys.executable, "-m", "nox", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)


def test_sessions_follow_the_list():
    listing = nox("--list", "--json", "-t", "cell")
    sessions = {session["session"] for session in json.loads(listing.stdout)}
    assert sessions == {cell.session for cell in LISTED.cells}


@pytest.mark.parametrize("name", ["test-2.1", "test-2.10"])
def test_session_is_the_only_one_of_its_name(name):
    listing = nox("--list", "-s", name)
    assert re.findall(r"^\* (\S+)", listing.stdout, re.MULTILINE) == [name]


def test_broken_list_is_one_line_in_nox(tmp_path):
    for name in ("noxfile.py", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    package = shutil.copytree(ROOT / "pt2e_ci", tmp_path / "pt2e_ci", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "cells" / "cells.toml").write_text(CELLS_FILE.read_text().replace('torch = "2.4.1"', "torch = 2.4"))
    done = subprocess.run([sys.executable, "-m", "nox", "--list"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert re.search(r"cells\.toml: \[\[cell\]\] 4: 'torch' must be a string", done.stderr)
    assert done.returncode == 2
