"""The list of cells, what it says of itself, and which cell an environment is."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from conftest import ROOT

from pt2e_ci import cells
from pt2e_ci.cells import CELLS_FILE, Cell, current_cell, load_cells
from pt2e_ci.errors import InputError

LISTED = load_cells()
GOOD = '[[cell]]\nname = "2.4"\ntorch = "2.4.1"\npython = "3.11"\nflow = "torch.ao"\n'


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
        (GOOD + GOOD, r"cells\.toml:6: a second cell named '2\.4'"),
        (GOOD.replace('flow = "torch.ao"\n', ""), r"cells\.toml:1: the cell has no 'flow'"),
        ("# a\n\n" + GOOD.replace("2.4.1", "two"), r"cells\.toml:3: 'torch' is not a release, such as 2\.4\.1: 'two'"),
        (GOOD.replace('"2.4.1"', "2.4"), r"cells\.toml:1: 'torch' must be a string"),
        (GOOD.replace("torch.ao", "fx"), r"cells\.toml:1: unknown flow 'fx'"),
        (GOOD.replace("torch.ao", "torchao"), r"cells\.toml:1: 'torchao' names the release"),
        (GOOD.replace('"2.4"', '"../x"'), r"cells\.toml:1: 'name' is not a name of letters"),
        (GOOD.replace('"3.11"', '"3.11.7"'), r"cells\.toml:1: 'python' is not a minor release"),
        (
            GOOD + GOOD.replace('"2.4"', '"2-4"'),
            r"cells\.toml:6: '2-4' and '2\.4' would be one tox environment, torch24",
        ),
        (GOOD + GOOD.replace('"2.4"', '"other"'), r"cells\.toml:6: the same environment as cell '2\.4'"),
        (GOOD + 'colour = "red"\n', r"cells\.toml:1: unknown key 'colour'"),
        (GOOD + 'requires = ["numpy<"]\n', r"cells\.toml:1: 'requires' must be a list of requirements"),
        ("x = 1\n" + GOOD, r"cells\.toml: unknown table 'x'"),
        (GOOD + '[pairs]\n"2.7" = "0.11"\n', r"cells\.toml: \[pairs\] '2\.7' must be a list"),
        ('cell = [{name = "2.4"}]\n', r"cells\.toml:\?: the cell has no 'flow'"),
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
    assert current_cell() == Cell("torch 2.99.0", "2.99.0", current_cell().python, "torchao", "0.40.0", listed=False)


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


def test_sessions_follow_the_list():
    listing = subprocess.run(
        ["nox", "--list", "--json", "-t", "cell"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    sessions = {session["session"] for session in json.loads(listing.stdout)}
    assert sessions == {cell.session for cell in LISTED.cells}


@pytest.mark.parametrize("name", ["test-2.1", "test-2.10"])
def test_session_is_the_only_one_of_its_name(name):
    listing = subprocess.run(["nox", "--list", "-s", name], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.findall(r"^\* (\S+)", listing.stdout, re.MULTILINE) == [name]


def test_broken_list_is_one_line_in_nox(tmp_path):
    for name in ("noxfile.py", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    package = tmp_path / "pt2e_ci"
    package.mkdir()
    for name in ("__init__.py", "cells.py", "errors.py", "locks.py", "sources.py", "toml_files.py"):
        (package / name).write_text((ROOT / "pt2e_ci" / name).read_text())
    (package / "cells.toml").write_text(CELLS_FILE.read_text().replace('torch = "2.4.1"', "torch = 2.4"))
    done = subprocess.run(["nox", "--list"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert re.search(r"cells\.toml:\d+: 'torch' must be a string", done.stderr)
