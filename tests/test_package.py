"""The built wheel, outside of the checkout: it has all that the suite needs, and runs without an installer."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT

from pt2e_ci import __version__


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    assert wheel.name.startswith(f"pt2e_ci-{__version__}-py3-none-any")
    assert sdist.stat().st_size < 1_000_000
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(unpacked, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=unpacked.parent,
        env=environment | {"PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
    )


def test_wheel_holds_its_data_and_no_tests(unpacked):
    held = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert {
        "pt2e_ci/py.typed",
        "pt2e_ci/cells/cells.toml",
        "pt2e_ci/record/expectations.toml",
        "pt2e_ci/flow/patterns.toml",
        "pt2e_ci/cells/locks/2.4/dependencies.txt",
        "pt2e_ci/views/page/page.html.j2",
        "pt2e_ci/views/page/page.js",
    } <= held
    assert not [name for name in held if name.startswith("tests")]


def test_suite_runs_from_the_wheel(unpacked):
    where = run(unpacked, "-c", "import pt2e_ci; print(pt2e_ci.__file__)")
    assert where.stdout.startswith(str(unpacked))
    done = run(unpacked, "-m", "pytest", "--pyargs", "pt2e_ci.suite", "--case=qdq_per_channel_2d", "-n0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_module_is_the_command(unpacked):
    assert run(unpacked, "-m", "pt2e_ci", "--version").stdout == f"pt2e-ci, version {__version__}\n"
