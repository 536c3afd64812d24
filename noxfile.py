"""The sessions of the project: one for each cell of pt2e_ci/cells.toml, and the project's own checks."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import nox
import nox.manifest

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from pt2e_ci.cells import Cell, load_cells  # noqa: E402
from pt2e_ci.errors import InputError  # noqa: E402
from pt2e_ci.locks import (  # noqa: E402
    BUILD_LOCK,
    BUILD_PYTHON,
    DEPENDENCIES,
    LOCKS,
    TORCH,
    check_lock,
    check_locks,
    check_seal,
    read_pins,
    requirements,
    seal,
)
from pt2e_ci.sources import NIGHTLY_INDEX, SETTING, torch_sources  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True

# nox compares names as Python expressions, and as one test-2.1 equals test-2.10: either would run both.
nox.manifest._normalize_arg = str  # type: ignore[assignment]

TESTED_CELL = "2.13"
"""The cell whose torch the project's own tests run on."""

WITH = "PT2E_CI_WITH"
"""The variable that names what a cell's environment holds beside its lock: your package, with your representation."""


def _cells() -> tuple[Cell, ...]:
    try:
        return load_cells().cells
    except InputError as error:
        sys.exit(f"nox: {error}")


def _cell(name: str) -> Cell:
    return next(cell for cell in _cells() if cell.name == name)


PROJECT = nox.project.load_toml("pyproject.toml")


def _use_sources(session: nox.Session) -> tuple[str, ...]:
    """Have the session's installer take packages from where torch is; return the arguments that it needs for that."""
    try:
        sources, note = torch_sources()
    except InputError as error:
        session.error(str(error))
    session.log(note)
    uses_uv = session.venv_backend in ("uv", "none")
    session.env.update(sources.uv_environment() if uses_uv else sources.pip_environment())
    # pip compiles what it installs and uv does not: then every process would, where Python may not write bytecode.
    session.env["UV_COMPILE_BYTECODE"] = os.environ.get("UV_COMPILE_BYTECODE", "1")
    return sources.uv_arguments() if uses_uv else ()


def _install(session: nox.Session, cell: Cell, *groups: str, package: str = ".") -> None:
    """Install what a cell's lock holds, this project as it stands, and some of its dependency groups."""
    try:
        check_lock(cell, PROJECT["project"]["dependencies"])
        check_seal(BUILD_LOCK, PROJECT["build-system"]["requires"], BUILD_PYTHON)
    except InputError as error:
        session.error(str(error))
    arguments = _use_sources(session)
    lock = LOCKS / cell.name
    session.install(*arguments, "--require-hashes", "--no-deps", "-r", str(lock / DEPENDENCIES), "-r", str(BUILD_LOCK))
    try:
        # With its dependencies: all of a CPU build's are there by now, and a CUDA build brings its own.
        session.install(*arguments, "-r", str(lock / TORCH))
    except nox.command.CommandFailed:
        session.error(
            f"torch {cell.torch} could not be installed for Python {cell.python}: set {SETTING} to an index that"
            " has it (cpu, host, or an address), or PIP_FIND_LINKS to a folder of wheels"
        )
    session.install("--no-build-isolation", "--no-deps", "-e", ".")
    extras = shlex.split(os.environ.get(WITH, ""))
    extras += [item for group in groups for item in nox.project.dependency_groups(PROJECT, group)]
    if package != ".":
        extras.append(f"-e{package}")
    if extras:
        session.install(*arguments, *extras)


def _has_python(version: str) -> bool:
    """Tell whether an interpreter can be had: this one, one on PATH, or one that uv knows of."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return True
    commands = [[f"python{version}", "--version"], ["uv", "python", "find", "--no-python-downloads", version]]
    return any(
        shutil.which(command[0]) and subprocess.run(command, capture_output=True, check=False).returncode == 0
        for command in commands
    )


def _add_cell_session(cell: Cell) -> None:
    flow = "torch.ao" if cell.flow == "torch.ao" else f"torchao {cell.torchao}"
    found = _has_python(cell.python)

    def run_suite(session: nox.Session) -> None:
        if not found:
            session.error(
                f"Python {cell.python} is not on this machine: install it, and see that python{cell.python} is on PATH"
            )
        _install(session, cell)
        own = any(argument == "--report" or argument.startswith("--report=") for argument in session.posargs)
        # Names of cases come before any option.
        session.run("python", "-m", "pt2e_ci", "run", *session.posargs, *([] if own else [f"--report={ROOT}/reports/"]))

    run_suite.__doc__ = f"Run the suite on torch {cell.torch}, flow {flow}, Python {cell.python}."
    # Without its interpreter a session gets no environment: it only says what is missing.
    backend = None if found else "none"
    python = cell.python if found else False
    nox.session(name=cell.session, python=python, tags=["cell"], default=False, venv_backend=backend)(run_suite)


for each in _cells():
    _add_cell_session(each)


@nox.session(default=False)
def matrix(session: nox.Session) -> None:
    """Run cells side by side, all or those named after --, and print the merged table."""
    session.install("-e", ".", *nox.project.dependency_groups(PROJECT, "dev"))
    session.run("python", "-m", "pt2e_ci", "matrix", *session.posargs)


@nox.session(default=False, venv_backend="none")
def lock(session: nox.Session) -> None:
    """Lock the cells named after --, or all; --check only looks, --upgrade or --upgrade-package NAME moves pins."""
    parser = argparse.ArgumentParser(prog="nox -s lock --", allow_abbrev=False)
    parser.add_argument("cells", nargs="*")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--upgrade", action="store_true")
    parser.add_argument("--upgrade-package", action="append", default=[])
    asked = parser.parse_intermixed_args(session.posargs)
    project, build = PROJECT["project"]["dependencies"], PROJECT["build-system"]["requires"]
    try:
        cells = load_cells().select(asked.cells)
        if asked.check:
            if not asked.cells:
                check_locks(cells, project, build)
            for cell in cells:
                check_lock(cell, project)
            session.log(f"the locks of {len(cells)} cells are what cells.toml and pyproject.toml ask for")
            return
    except InputError as error:
        session.error(str(error))
    arguments = _use_sources(session)
    options = ["--upgrade"] * asked.upgrade + [f"--upgrade-package={name}" for name in asked.upgrade_package]
    _compile(session, BUILD_PYTHON, build, BUILD_LOCK, *arguments, *options)
    seal(BUILD_LOCK, build, BUILD_PYTHON)
    for cell in cells:
        folder = LOCKS / cell.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TORCH).write_text(f"torch=={cell.torch}\n", encoding="utf-8")
        wanted = requirements(cell, project)
        _compile(session, cell.python, wanted, folder / DEPENDENCIES, *arguments, *options)
        if cuda := [name for name in read_pins(folder / DEPENDENCIES) if name.startswith(("nvidia-", "cuda-"))]:
            session.error(f"the torch {cell.torch} at hand is a CUDA build, which needs {cuda[0]}: set {SETTING}")
        seal(folder / DEPENDENCIES, wanted, cell.python)


def _compile(session: nox.Session, python: str, wanted: Sequence[str], target: Path, *arguments: str) -> None:
    """Lock requirements in a file, whose pins stay where they can, and see that both architectures have wheels."""
    try:
        from uv import find_uv_bin
    except ImportError:
        session.error("uv, which makes locks, is not installed beside nox: pip install uv")
    compile_ = (find_uv_bin(), "pip", "compile")
    common = ("--quiet", "--generate-hashes", "--only-binary", ":all:", "--python-version", python)
    made_by = ("--custom-compile-command", "nox -s lock", "--no-annotate", "--no-emit-package", "torch")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "requirements.in")
        source.write_text("\n".join(wanted), encoding="utf-8")
        to = ("--output-file", str(target))
        x86 = ("--python-platform", "x86_64-manylinux_2_28")
        session.run(*compile_, str(source), *common, *made_by, *x86, *to, *arguments, external=True)
        to = ("--output-file", str(Path(folder, "aarch64.txt")))
        arm = ("--no-deps", "--python-platform", "aarch64-manylinux_2_28")
        session.run(*compile_, str(target), *common, *arm, *to, external=True)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the project's own tests, on the torch of one cell of this Python."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    cells = [cell for cell in _cells() if cell.python == here] or [*_cells()]
    _install(session, next((cell for cell in cells if cell.name == TESTED_CELL), cells[-1]), "tests")
    session.run("pytest", "-n", "2", "--dist", "worksteal", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure the suite's speed as ratios to upstream's procedure, and how it grows; --rounds N after --."""
    _install(session, _cell(TESTED_CELL), "bench")
    session.run("python", "tests/bench/speed.py", *session.posargs)
    session.run("python", "tests/bench/growth.py")


@nox.session(name="bench-cells", default=False)
def bench_cells(session: nox.Session) -> None:
    """Measure how time grows with the number of cells: those named after --, or all that have an environment."""
    session.install("-e", ".", *nox.project.dependency_groups(PROJECT, "dev"))
    session.run("python", "tests/bench/cells.py", *session.posargs)


@nox.session(default=False)
@nox.parametrize("name", ["2.4", "2.13"], ids=["2.4", "2.13"])
def patterns(session: nox.Session, name: str) -> None:
    """Convert every case with kept pattern graphs and without, and compare; on a torch.ao and a torchao cell."""
    _install(session, _cell(name))
    session.run("pytest", "tests/test_patterns.py", "-n", "2", *session.posargs)


@nox.session(default=False)
def executorch(session: nox.Session) -> None:
    """Run the suite beside ExecuTorch, whose XNNPACK delegate is then measured, too."""
    cell = _cell(TESTED_CELL)
    _install(session, cell, package=".[executorch]")
    # A report of its own: the cell's is of an environment without ExecuTorch.
    arguments = [*session.posargs, f"--report={ROOT}/reports/executorch/", "--require=executorch"]
    session.run("python", "-m", "pt2e_ci", "run", *arguments)
    session.run("pytest", "tests/test_delegate.py")


@nox.session(default=False)
def canary(session: nox.Session) -> None:
    """Run the suite on torch's nightly build, in the environment of the newest cell; it may fail."""
    _install(session, next(cell for cell in reversed(_cells()) if cell.python == "3.11"))
    session.install("--upgrade", "--pre", "--index-url", NIGHTLY_INDEX, "--no-deps", "torch")
    session.run("python", "-m", "pt2e_ci", "run", *session.posargs, f"--report={ROOT}/reports/canary/")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff, the Dockerfiles with hadolint, and the workflows without running them."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")
    session.run("hadolint", "Dockerfile", "tests/act/Dockerfile")
    _lint_workflows(session)


def _lint_workflows(session: nox.Session) -> None:
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    session.run("actionlint", *files)
    session.run("zizmor", "--offline", "--persona", "auditor", ".github")
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files)
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-actions", ".github/actions/suite/action.yml")
    session.run("check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml")


@nox.session(default=False)
def workflows(session: nox.Session) -> None:
    """Check the workflows, and run jobs of them on the local Docker engine, if there is one."""
    _install(session, _cell(TESTED_CELL), "workflows")
    _lint_workflows(session)
    session.run("pytest", "tests/test_workflows.py", *session.posargs)


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check the types with mypy, strictly: the package, and the files that nox and tox load."""
    session.install("-e", ".", *nox.project.dependency_groups(PROJECT, "typecheck"))
    session.run("mypy", *session.posargs)
