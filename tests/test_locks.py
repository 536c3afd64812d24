"""Locks: each cell has one, it is for what is asked, and an installer refuses what it does not name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib import metadata

import pytest
from conftest import ROOT
from uv import find_uv_bin

from pt2e_ci.cells import pythons
from pt2e_ci.cells.cell import CELLS_FILE, current_cell, load_cells
from pt2e_ci.cells.engines import load_engines
from pt2e_ci.cells.locks import (
    BUILD_LOCK,
    DEPENDENCIES,
    LOCKS,
    TORCH,
    check_environment,
    check_lock,
    check_locks,
    read_pins,
    requirements,
)
from pt2e_ci.cells.sources import torch_sources
from pt2e_ci.errors import InputError

CELLS, ENGINES = load_cells(), load_engines()
PROJECT = metadata.requires("pt2e-ci")
BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]


@pytest.fixture
def locks(tmp_path):
    return shutil.copytree(LOCKS, tmp_path / "locks")


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_locks_are_for_what_is_asked():
    check_locks(CELLS.cells, ENGINES, PROJECT, BUILD)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("click==", "other==", "does not lock click, where click"),
        ("click==8", "click==7", r"locks click 7.*run `nox -s lock -- 2.4`"),
        ("    --hash=sha256:", "    --hash=sha256:0", "has no hashes, or one that is none"),
        ("click==8", "click>=8", "is not one package at one version"),
        ("sympy==", "simpy==", "2.4/dependencies.txt: not what `nox -s lock` made"),
        ("click==8", "evil==1.0 --hash=sha256:" + "0" * 64 + "\nclick==8", "not what `nox -s lock` made"),
        ("click==8", "click==8.0 --hash=sha256:" + "0" * 64 + "\nclick==8", "click is here twice"),
        ("sha256:1", "sha256:2", "it was edited, or cells.toml or pyproject.toml was"),
        ("# sealed by", "# by", "not what `nox -s lock` made"),
    ],
)
def test_changed_lock_is_refused(locks, old, new, says):
    change(locks / "2.4" / DEPENDENCIES, old, new)
    with pytest.raises(InputError, match=says):
        check_locks(CELLS.cells, ENGINES, PROJECT, BUILD, locks)


@pytest.mark.parametrize(
    ("fields", "project", "build"),
    [
        ({"pythons": ("3.12",)}, PROJECT, BUILD),
        ({"requires": ("sympy",)}, PROJECT, BUILD),
        ({}, PROJECT[1:], BUILD),
        ({}, PROJECT, ["flit-core>=4,<5"]),
    ],
)
def test_lock_of_what_was_asked_before_is_refused(fields, project, build):
    cells = [replace(cell, **fields) if cell.name == "2.4" else cell for cell in CELLS.cells]
    with pytest.raises(InputError, match="not what `nox -s lock` made of what is now asked"):
        check_locks(cells, ENGINES, project, build)


def test_requirement_of_another_python_or_an_extra_is_not_asked():
    cell = CELLS.select(["2.4"])[0]
    others = ["tomli>=2; python_version < '3.11'", "docker>=7; extra == 'image'"]
    assert requirements(cell, [*PROJECT, *others]) == requirements(cell, PROJECT)
    assert "tomli>=2" in " ".join(requirements(replace(cell, pythons=("3.10",)), others))


def test_environment_is_held_against_a_cells_lock(monkeypatch):
    check_environment(current_cell().name)
    monkeypatch.setattr(metadata, "requires", lambda name: [*PROJECT, "colorama"])
    with pytest.raises(InputError, match="does not lock colorama"):
        check_environment(current_cell().name)


@pytest.mark.parametrize(
    ("name", "version", "says"),
    [
        ("2.13", (3, 13, 1), None),
        ("2.4", (3, 13, 1), r"cell 2\.4 runs on Python 3\.11, 3\.12, and this is 3\.13: build on another BASE"),
        ("2.99", (3, 11, 2), r"unknown cell '2\.99'"),
        ("2.4", (3, 10, 4), r"pt2e-ci needs Python 3\.11 or later, and this is 3\.10"),
    ],
)
def test_python_of_a_base_is_looked_at_before_torch(name, version, says):
    found = pythons.complaint(name, CELLS_FILE, version)
    assert found is None if says is None else re.match(says, found)


@pytest.mark.parametrize("python", sorted({python for cell in CELLS.cells for python in cell.pythons[1:]}))
def test_locks_hold_for_each_python_of_their_cells(python, tmp_path):
    """Each package has a wheel for it whose hash the lock has, on both architectures; torch is asked of an index."""
    sources = torch_sources()[0]
    environment = os.environ | sources.uv_environment()
    tried = {}
    for cell in CELLS.cells:
        if python in cell.pythons[1:]:
            lock = LOCKS / cell.name / DEPENDENCIES
            tried[lock.read_text()] = lock
    for lock in tried.values():
        for machine in ("x86_64", "aarch64"):
            hold(lock, python, machine, tmp_path / "t", environment, *sources.uv_arguments())


def hold(lock, python, machine, target, environment, *arguments):
    """Have uv find a wheel with a hash of the lock for each package."""
    command = [find_uv_bin(), "pip", "install", "--dry-run", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--target", str(target), "--python-version", python, "--only-binary", ":all:"]
    command += ["--python-platform", f"{machine}-manylinux_2_28", *arguments, "-r", str(lock)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{lock}: {done.stderr[-2000:]}"


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_locks_of_engines_hold_on_each_of_their_platforms(engine, tmp_path):
    lock = LOCKS / "engines" / engine.name / DEPENDENCIES
    for platform in engine.platforms or ("linux_x86_64", "linux_aarch64"):
        machine = platform.removeprefix("linux_")
        hold(lock, engine.python, machine, tmp_path / "t", os.environ)
    # One hash alone would be of the wheel for the machine that made the lock.
    assert lock.read_text().partition("numpy==")[2].partition("==")[0].count("--hash") > 2


def test_lock_of_another_torch_is_refused(locks):
    (locks / "2.4" / TORCH).write_text("torch==2.4.0\n")
    with pytest.raises(InputError, match=r"locks torch 2.4.0, where torch==2.4.1 is wanted"):
        check_lock(CELLS.select(["2.4"])[0], PROJECT, locks)
    (locks / "2.4" / TORCH).write_text("numpy==2.4.0\n")
    with pytest.raises(InputError, match="should lock torch, and locks numpy"):
        check_lock(CELLS.select(["2.4"])[0], PROJECT, locks)


def test_missing_and_stray_locks_are_named(locks):
    shutil.move(locks / "2.4", locks / "2.99")
    with pytest.raises(InputError, match=r"2.4/torch.txt: no lock.*make it with `nox -s lock`"):
        check_locks(CELLS.cells, ENGINES, PROJECT, BUILD, locks)
    shutil.copytree(locks / "2.99", locks / "2.4")
    with pytest.raises(InputError, match=r"2.99 is a lock of no cell"):
        check_locks(CELLS.cells, ENGINES, PROJECT, BUILD, locks)


def test_locks_of_engines_are_held_too(locks):
    change(locks / "engines" / "litert" / DEPENDENCIES, "numpy==", "nympy==")
    with pytest.raises(InputError, match=r"engines/litert/dependencies\.txt: not what `nox -s lock` made"):
        check_locks(CELLS.cells, ENGINES, PROJECT, BUILD, locks)
    others = [engine for engine in ENGINES if engine.name != "litert"]
    with pytest.raises(InputError, match="engines/litert is a lock of no engine"):
        check_locks(CELLS.cells, others, PROJECT, BUILD, locks)


def test_torchao_where_the_cell_has_none_is_refused(locks):
    shutil.copy(locks / "2.8-torchao" / DEPENDENCIES, locks / "2.8" / DEPENDENCIES)
    with pytest.raises(InputError, match="has a torchao, which the cell does not have"):
        check_locks(CELLS.cells, ENGINES, PROJECT, BUILD, locks)


def test_environment_is_what_the_lock_holds():
    """What this session installed beside the lock is this project, and the tools of its own tests."""
    cell = current_cell()
    locked = {**read_pins(LOCKS / cell.name / DEPENDENCIES), **read_pins(BUILD_LOCK), "torch": cell.torch}
    versions = {name: metadata.version(name).partition("+")[0] for name in locked}
    assert versions == locked


def test_tampered_hash_stops_the_installation(locks, tmp_path):
    lock = locks / BUILD_LOCK.name
    text = lock.read_text()
    digests = re.findall(r"sha256:([0-9a-f]{64})", text)
    for digest in digests:
        text = text.replace(digest, f"{'0' if digest[0] != '0' else '1'}{digest[1:]}")
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    install = [environment / "bin" / "pip", "install", "--require-hashes", "--no-deps", "-r", lock]
    lock.write_text(text)
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode
    assert "DO NOT MATCH THE HASHES" in done.stderr
    # The same without the change is installed: it is the hash that it was refused for.
    shutil.copy(BUILD_LOCK, lock)
    subprocess.run(install, check=True, capture_output=True)


def test_session_refuses_a_lock_that_does_not_match(tmp_path):
    """As a contributor meets it who has changed cells.toml and not the lock."""
    for name in ("noxfile.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "pt2e_ci", tmp_path / "pt2e_ci")
    change(tmp_path / "pt2e_ci" / "cells" / "cells.toml", 'torch = "2.4.1"', 'torch = "2.4.0"')
    command = [sys.executable, "-m", "nox", "-f", str(tmp_path / "noxfile.py"), "-s"]
    for session in (["test-2.4"], ["lock", "--", "--check"], ["lock", "--", "--check", "2.4"]):
        done = subprocess.run([*command, *session], capture_output=True, text=True)
        assert done.returncode == 2
        assert "the lock of cell 2.4 locks torch 2.4.1, where torch==2.4.0 is wanted" in done.stderr
