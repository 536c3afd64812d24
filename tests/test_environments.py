"""A cell's environment: the Python that it is made of, when it is kept, and what is installed beside its lock."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import pytest
from conftest import ROOT
from uv import find_uv_bin

from pt2e_ci.cells.cell import load_cells
from pt2e_ci.cells.environments import Python, Recipe, find_python, make
from pt2e_ci.cells.locks import BUILD_LOCK
from pt2e_ci.cells.sources import torch_sources
from pt2e_ci.errors import InputError

(CELL,) = load_cells().select(["2.4"])


@pytest.fixture
def made_up_uv(tmp_path):
    """A uv that knows some Pythons, and may fetch others."""

    def make_up(here="", fetches=""):
        path = tmp_path / "uv"
        path.write_text(
            f"""#!/bin/sh
            echo "$@" >> {tmp_path}/asked
            for last; do :; done
            [ "$2" = install ] && case " {fetches} " in *" $last "*) touch {tmp_path}/$last; exit;; *) exit 1;; esac
            case " {here} " in *" $last "*) echo /usr/bin/python$last; exit;; esac
            [ -e {tmp_path}/$last ] && echo /fetched/python$last
            """
        )
        path.chmod(0o755)
        return str(path)

    return make_up


def test_preferred_python_is_taken_where_it_is(made_up_uv, tmp_path):
    assert find_python(made_up_uv(here="3.11 3.12"), CELL) == Python("3.11", "/usr/bin/python3.11")
    assert "install" not in (tmp_path / "asked").read_text()


def test_preferred_python_is_fetched_where_it_can_be(made_up_uv):
    found = find_python(made_up_uv(here="3.12", fetches="3.11"), CELL)
    assert found == Python("3.11", "/fetched/python3.11", "uv has fetched Python 3.11")


def test_another_python_of_the_list_will_do(made_up_uv):
    found = find_python(made_up_uv(here="3.12"), CELL)
    assert (found.version, found.path) == ("3.12", "/usr/bin/python3.12")
    assert found.note == "Python 3.11 is not to be had here: cell 2.4 runs on 3.12"
    assert CELL.on(found.version).id("linux_x86_64") == "torch2.4-cp312-linux_x86_64"


def test_python_that_is_not_listed_will_not(made_up_uv):
    with pytest.raises(InputError, match=r"cell 2\.4 runs on Python 3\.11 or 3\.12: none is on this machine"):
        find_python(made_up_uv(here="3.13"), CELL)


def test_cell_is_the_same_on_each_of_its_pythons():
    for python in CELL.pythons:
        found = load_cells().find(CELL.torch, None, python, CELL.flow)
        assert (found.name, found.session, found.listed, found.python) == ("2.4", "test-2.4", True, python)
    assert not load_cells().find(CELL.torch, None, "3.13", CELL.flow).listed


MODULE = "def answer():\n    return {}\n"
PROJECT = """
[build-system]
requires = ["flit-core>=3.12,<4"]
build-backend = "flit_core.buildapi"

[project]
name = "{0}"
version = "1"
description = "{0}"
dependencies = [{1}]
"""


def package(folder, name, dependencies=""):
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PROJECT.format(name, dependencies))
    (folder / f"{name}.py").write_text(f'"""A module."""\n{MODULE.format(1)}')
    return folder


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A lock of one small package, a project, and uv: what makes environments within a second."""
    lock = tmp_path / "locks" / CELL.name
    lock.mkdir(parents=True)
    (lock / "dependencies.txt").write_text(BUILD_LOCK.read_text())
    (lock / "torch.txt").write_text("iniconfig==2.1.0\n")
    project = package(tmp_path / "a project", "project")
    python = find_python(find_uv_bin(), replace(CELL, pythons=("3.11", "3.12", "3.13", "3.15")))
    sources = torch_sources()[0]
    calls = []

    def uv(*arguments):
        calls.append(arguments)
        environment = os.environ | sources.uv_environment()
        subprocess.run([find_uv_bin(), *arguments], check=True, env=environment, capture_output=True)

    def run(*extras, imports="project"):
        calls.clear()
        path = make(tmp_path / "an environment", Recipe([lock], python, project, sources), uv, extras)
        script = f"import {imports}; print({imports}.answer())"
        return subprocess.run([path, "-c", script], capture_output=True, text=True).stdout.strip()

    run.calls = calls
    return run


def test_environment_is_kept_while_nothing_changes(workshop, tmp_path):
    assert workshop() == "1"
    assert workshop.calls[0][0] == "venv"
    assert workshop() == "1"
    assert workshop.calls == []
    for changed in ("locks/2.4/torch.txt", "locks/2.4/dependencies.txt", "a project/pyproject.toml"):
        with (tmp_path / changed).open("a") as file:
            file.write("# changed\n")
        workshop()
        assert workshop.calls[0][0] == "venv", changed
        workshop()
        assert workshop.calls == []


def test_environment_whose_making_was_stopped_is_made_anew(workshop, tmp_path):
    workshop()
    (tmp_path / "an environment" / "pt2e-ci.json").unlink()
    assert workshop() == "1"
    assert workshop.calls[0][0] == "venv"


def test_what_is_beside_the_lock_is_new_each_time_and_goes(workshop, tmp_path):
    mine = package(tmp_path / "mine", "mine", '"packaging"')
    assert workshop(str(mine), imports="mine") == "1"
    (mine / "mine.py").write_text(f'"""A module."""\n{MODULE.format(22)}')
    assert workshop(str(mine), imports="mine") == "22"
    assert "venv" not in [call[0] for call in workshop.calls]
    workshop()
    for gone in ("mine", "packaging"):
        assert workshop(imports=gone) == ""


def test_what_changes_the_lock_is_undone(workshop):
    workshop("iniconfig==2.0.0")
    workshop()
    assert workshop.calls[0][0] == "venv"


def test_torch_that_cannot_be_had_is_one_line(workshop, tmp_path):
    (tmp_path / "locks" / "2.4" / "torch.txt").write_text("iniconfig==0.0.0.dev99\n")
    with pytest.raises(InputError, match=r"torch 0\.0\.0\.dev99 could not be installed for .*: set PT2E_CI_TORCH"):
        workshop()


def nox(*arguments, cwd=ROOT, **variables):
    import sys

    command = [sys.executable, "-m", "nox", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | variables)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-s", "test-2.113"], "nox: unknown session 'test-2.113': did you mean 'test-2.13'?"),
        (["-s", "test-2.13", "tset"], "nox: unknown session 'tset'"),
        (["-s", "test-2.13", "--", "conv2D"], "nox: unknown case 'conv2D': did you mean 'conv2d'?"),
    ],
)
def test_mistake_is_answered_before_anything_is_installed(arguments, says):
    done = nox(*arguments)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert "uv" not in done.stderr


def test_nox_alone_says_what_to_type():
    for arguments in ([], ["-l"]):
        done = nox(*arguments)
        assert done.returncode == 0
        first = next(line for line in done.stdout.splitlines() if line and not line.startswith("No sessions"))
        assert first.startswith("What to type: `nox -s test-2.13` runs the suite on one torch")


def test_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = nox("-s", "test-2.13", UV_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "cache" in line]
    assert line.removesuffix(".").endswith(
        f"uv cannot write its cache, {tmp_path}/file/cache: set UV_CACHE_DIR to a folder that can be written"
    )
