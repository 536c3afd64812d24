"""What to type: `nox -s test-2.13` runs the suite on one torch, `nox -s tests` the project's own tests."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if sys.version_info < (3, 11):  # noqa: UP036 - nox itself runs on it
    sys.stderr.write("nox: pt2e-ci needs Python 3.11 or later, and this is %d.%d\n" % sys.version_info[:2])  # noqa: UP031
    sys.exit(2)

import nox
import nox.command
import nox.manifest

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from pt2e_ci.catalogue.cases import DEPLOYED, case_names, cases_option, leading_names, select_cases  # noqa: E402
from pt2e_ci.cells import environments  # noqa: E402
from pt2e_ci.cells.cell import Cell, load_cells, platform_tag  # noqa: E402
from pt2e_ci.cells.engines import Engine, load_engines, select_engines  # noqa: E402
from pt2e_ci.cells.locks import (  # noqa: E402
    BUILD_LOCK,
    BUILD_PYTHON,
    DEPENDENCIES,
    ENGINES,
    LOCKS,
    TORCH,
    check_engine_lock,
    check_lock,
    check_locks,
    check_seal,
    engine_requirements,
    read_pins,
    requirements,
    seal,
)
from pt2e_ci.cells.sources import NIGHTLY_INDEX, SETTING, torch_sources  # noqa: E402
from pt2e_ci.errors import InputError, unknown  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True

# nox compares names as Python expressions, and as one test-2.1 equals test-2.10: either would run both.
nox.manifest._normalize_arg = str  # type: ignore[assignment]

TESTED_CELL = "2.13"
"""The cell whose torch the project's own tests run on."""

OWN_QUANTIZERS = ("everything", "xnnpack", "xnnpack-per-channel", "x86-inductor", "arm-inductor")
"""Those that torch and torchao have, which a cell's environment can run."""

QUANTIZED = ("2.1", "2.4", "2.10", "2.10-torchao", "2.13")
"""The cells that the table of quantizers is made of."""

WITH = "PT2E_CI_WITH"
"""The variable that names what a cell's environment holds beside its lock: your package, with your representation."""

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PROJECT = nox.project.load_toml("pyproject.toml")


# What ends a CI job should reach the command that nox runs, as Ctrl-C does.
signal.signal(signal.SIGTERM, signal.default_int_handler)


def _stop(error: InputError) -> NoReturn:
    """Say what is wrong in one line, and end nox with 2."""
    sys.stderr.write(f"nox: {error}\n")
    sys.exit(2)


try:
    CELLS = load_cells().cells
except InputError as error:
    _stop(error)


def _cell(name: str) -> Cell:
    return next(cell for cell in CELLS if cell.name == name)


def _with() -> list[str]:
    try:
        return shlex.split(os.environ.get(WITH, ""))
    except ValueError as error:
        raise InputError(f"{WITH} cannot be read as a shell would: {error}") from None


def _environment(
    session: nox.Session, cell: Cell, *groups: str, package: str | None = None, python: str | None = None
) -> str:
    """Make this session's environment of a cell's lock, or keep the one that is there; return its interpreter.

    `groups` are the project's dependency groups that it holds, too; `package` is reinstalled in each run; `python`
    is the one of the cell's Pythons that it must be of.
    """
    wanted = [item for group in groups for item in nox.project.dependency_groups(PROJECT, group)]
    try:
        extras = _with() + ([package] if package else [])
        check_lock(cell, PROJECT["project"]["dependencies"])
        owner = cell.on(python) if python else cell
        folder = ROOT / ".nox" / session.name.replace(".", "-")
        return _made(session, owner, folder, [LOCKS / cell.name], wanted, extras)
    except InputError as error:
        _stop(error)


def _made(
    session: nox.Session,
    owner: environments.Owner,
    folder: Path,
    locks: Sequence[Path],
    wanted: Sequence[str] = (),
    extras: Sequence[str] = (),
) -> str:
    """Make an environment of locks in a folder, or keep the one that is there; return its interpreter."""
    check_seal(BUILD_LOCK, PROJECT["build-system"]["requires"], BUILD_PYTHON)
    uv = environments.find_uv()
    sources, note = torch_sources()
    session.log(note)
    interpreter = environments.find_python(uv, owner, folder)
    if interpreter.note:
        session.log(interpreter.note)
    # Compiled when installed: every process would do it, where Python may not write bytecode.
    settings = {"UV_COMPILE_BYTECODE": "1"} | os.environ | sources.uv_environment()

    def run_uv(*arguments: str) -> None:
        session.run_install(uv, *arguments, env=settings, external=True, silent=arguments[1] != "install")

    recipe = environments.Recipe(locks, interpreter, ROOT, sources, wanted)
    path = environments.make(folder, recipe, run_uv, extras)
    session.env["PATH"] = f"{path.parent}{os.pathsep}{os.environ['PATH']}"
    return str(path)


def _run(session: nox.Session, *command: str) -> None:
    """Run what may be stopped: it then writes what is whole, for which nox allows less than it takes."""
    session.run(*command, external=True, terminate_timeout=5.0)


def _model_in(session: nox.Session) -> tuple[str | None, list[str]]:
    """Return what `--model` names, a path from where nox was called, and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--model")
    asked, rest = parser.parse_known_args(session.posargs)
    return asked.model and str(Path(session.invoked_from, asked.model)), rest


def _add_cell_session(cell: Cell) -> None:
    def run_cell(session: nox.Session) -> None:
        model, rest = _model_in(session)
        try:
            # Cases of a package of your own are known in the environment alone.
            select_cases([] if model or cases_option(rest) else leading_names(rest))
        except InputError as error:
            _stop(error)
        python = _environment(session, cell)
        _run(session, python, "-m", "pt2e_ci", *(["check", model] if model else ["run"]), *rest)

    flow = "torch.ao" if cell.flow == "torch.ao" else f"torchao {cell.torchao}"
    run_cell.__doc__ = f"Run the suite, or --model FILE, on torch {cell.torch}, flow {flow}, Python {cell.python}."
    nox.session(name=cell.session, python=False, tags=["cell"], default=False, venv_backend="none")(run_cell)


for each in CELLS:
    _add_cell_session(each)


@nox.session(default=False)
def matrix(session: nox.Session) -> None:
    """Run cells side by side, all or those named after --, and print the merged table."""
    session.install("-e", ".", *nox.project.dependency_groups(PROJECT, "dev"))
    _run(session, "python", "-m", "pt2e_ci", "matrix", *session.posargs)


@nox.session(default=False, venv_backend="none")
def lock(session: nox.Session) -> None:
    """Lock cells and engines named after --, or all; --check only looks, --upgrade and --upgrade-package move pins."""
    parser = argparse.ArgumentParser(prog="nox -s lock --", allow_abbrev=False)
    parser.add_argument("cells", nargs="*")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--upgrade", action="store_true")
    parser.add_argument("--upgrade-package", action="append", default=[])
    asked = parser.parse_intermixed_args(session.posargs)
    project, build = PROJECT["project"]["dependencies"], PROJECT["build-system"]["requires"]
    try:
        engines = [one for one in load_engines() if not asked.cells or one.name in asked.cells]
        names = [name for name in asked.cells if name not in [one.name for one in engines]]
        cells = load_cells().select(names) if names or not asked.cells else ()
        if asked.check:
            if not asked.cells:
                check_locks(cells, engines, project, build)
            for cell in cells:
                check_lock(cell, project)
            for engine in engines:
                check_engine_lock(engine, project)
            count = f"{len(cells)} cells and {len(engines)} engines"
            session.log(f"the locks of {count} are what cells.toml and pyproject.toml ask for")
            return
    except InputError as error:
        _stop(error)
    options = ["--upgrade"] * asked.upgrade + [f"--upgrade-package={name}" for name in asked.upgrade_package]
    for engine in engines:  # before torch's sources are asked: what an engine has beside a cell's lock is not torch
        path = LOCKS / ENGINES / engine.name / DEPENDENCIES
        path.parent.mkdir(parents=True, exist_ok=True)
        wanted = engine_requirements(engine, project)
        _compile(session, engine.pythons[:1], wanted, path, *options, platforms=engine.platforms, without_torch=True)
        seal(path, wanted, engine.python)
    try:
        environments.find_uv()
        sources, note = torch_sources()
    except InputError as error:
        _stop(error)
    session.log(note)
    session.env.update(sources.uv_environment())
    arguments = sources.uv_arguments()
    _compile(session, [BUILD_PYTHON], build, BUILD_LOCK, *arguments, *options)
    seal(BUILD_LOCK, build, BUILD_PYTHON)
    for cell in cells:
        folder = LOCKS / cell.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TORCH).write_text(f"torch=={cell.torch}\n", encoding="utf-8")
        wanted = requirements(cell, project)
        _compile(session, cell.pythons, wanted, folder / DEPENDENCIES, *arguments, *options)
        if cuda := [name for name in read_pins(folder / DEPENDENCIES) if name.startswith(("nvidia-", "cuda-"))]:
            session.error(f"the torch {cell.torch} at hand is a CUDA build, which needs {cuda[0]}: set {SETTING}")
        seal(folder / DEPENDENCIES, wanted, cell.python)


def _compile(
    session: nox.Session,
    cell_pythons: Sequence[str],
    wanted: Sequence[str],
    target: Path,
    *arguments: str,
    platforms: Sequence[str] = (),
    without_torch: bool = False,
) -> None:
    """Lock requirements in a file, whose pins stay where they can.

    It is made for the first Python on x86-64; what it holds must have wheels for the others and for arm64, too.
    """
    compile_ = (environments.find_uv(), "pip", "compile", "--quiet", "--generate-hashes", "--only-binary", ":all:")
    made_by = ("--custom-compile-command", "nox -s lock", "--no-annotate", "--no-emit-package", "torch")
    first, *others = cell_pythons
    with tempfile.TemporaryDirectory() as folder:
        if without_torch:
            Path(folder, "overrides.txt").write_text("torch; sys_platform == 'never'", encoding="utf-8")
            arguments = ("--override", str(Path(folder, "overrides.txt")), *arguments)
        source, scratch = Path(folder, "requirements.in"), ("--output-file", str(Path(folder, "other.txt")))
        source.write_text("\n".join(wanted), encoding="utf-8")
        x86, arm = (("--python-platform", f"{machine}-manylinux_2_28") for machine in ("x86_64", "aarch64"))
        made = ("--python-version", first, *x86, "--output-file", str(target))
        session.run(*compile_, str(source), *made_by, *made, *arguments, external=True)
        for python, platform in [*([(first, arm)] * (not platforms)), *((python, x86) for python in others)]:
            there = ("--no-deps", "--python-version", python, *platform, *scratch)
            session.run(*compile_, str(target), *made_by, *there, external=True)


@nox.session(default=False, python=False, venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the project's own tests, on the torch of one cell, and on this Python if it is one of the cell's."""
    mine = [cell for cell in CELLS if HERE in cell.pythons]
    chosen = next((cell for cell in mine or CELLS if cell.name == TESTED_CELL), mine[-1] if mine else CELLS[-1])
    python = _environment(session, chosen, "tests", python=HERE if mine else None)
    # Two workers on two cores, where more threads would only wait for one another; and some hundred processes, which
    # should not each compile this package.
    session.env.update({"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""})
    _run(session, python, "-m", "pytest", "-n", "2", "--dist", "loadgroup", *session.posargs)


@nox.session(default=False, python=False, venv_backend="none")
def bench(session: nox.Session) -> None:
    """Measure the suite's speed as ratios to upstream's procedure, and how it grows; --rounds N after --."""
    python = _environment(session, _cell(TESTED_CELL))
    session.run(python, "tests/bench/speed.py", *session.posargs, external=True)
    session.run(python, "tests/bench/growth.py", external=True)


@nox.session(name="bench-cells", default=False)
def bench_cells(session: nox.Session) -> None:
    """Measure how time grows with the number of cells: those named after --, or all that have an environment."""
    session.install("-e", ".", *nox.project.dependency_groups(PROJECT, "dev"))
    session.run("python", "tests/bench/cells.py", *session.posargs)


@nox.session(default=False, python=False, venv_backend="none")
def patterns(session: nox.Session) -> None:
    """Hold the pattern graphs that are kept against upstream's own, on the cells named after --."""
    try:
        cells = load_cells().select(session.posargs)
    except InputError as error:
        _stop(error)
    for cell in cells:
        python = _environment(session, cell)
        session.run(python, "-m", "pytest", "tests/test_patterns.py", external=True)


@nox.session(default=False, python=False, venv_backend="none")
def executorch(session: nox.Session) -> None:
    """Run the suite beside ExecuTorch, whose XNNPACK delegate is then measured, too."""
    python = _environment(session, _cell(TESTED_CELL), package="-e.[executorch]")
    # A report of its own: the cell's is of an environment without ExecuTorch.
    arguments = [*session.posargs, f"--report={ROOT}/reports/executorch/", "--require=executorch"]
    _run(session, python, "-m", "pt2e_ci", "run", *arguments)
    session.run(python, "-m", "pytest", "tests/test_delegate.py", external=True)


@nox.session(default=False, python=False, venv_backend="none")
def engines(session: nox.Session) -> None:
    """Run vectors on the engines named after --, those that need no torch, or all; print what each does."""
    try:
        chosen = select_engines(session.posargs, load_engines())
    except InputError as error:
        _stop(error)
    red: list[str] = []
    python = ""
    for engine in chosen:
        if engine.platforms and platform_tag() not in engine.platforms:
            session.log(f"{engine.name} is left out: it is only to be had for {', '.join(engine.platforms)}")
            continue
        python = _engine_environment(session, engine)
        for name in engine.runs:
            try:
                session.run(python, "-m", "pt2e_ci", "engines", "run", name, external=True)
            except nox.command.CommandFailed:  # it said why; the others are run all the same
                red.append(name)
    if python:
        session.run(python, "-m", "pt2e_ci", "engines", external=True)
    if red:
        session.error(f"not all went as it is known to: {', '.join(red)}")


def _engine_environment(session: nox.Session, engine: Engine) -> str:
    project = PROJECT["project"]["dependencies"]
    try:
        check_engine_lock(engine, project)
        locks = [LOCKS / engine.cell] if engine.cell else []
        folder = ROOT / ".nox" / f"engines-{engine.name}"
        return _made(session, engine, folder, [*locks, LOCKS / ENGINES / engine.name])
    except InputError as error:
        _stop(error)


@nox.session(default=False, python=False, venv_backend="none")
def quantizers(session: nox.Session) -> None:
    """Say what quantizers annotate: on the cells and in the environments named after --, 2.13, or all that matter."""
    environments_ = {engine.name: engine for engine in load_engines() if engine.quantizers}
    cells = {cell.name: cell for cell in CELLS}
    asked = [*environments_, *QUANTIZED] if session.posargs == ["all"] else session.posargs or [TESTED_CELL]
    red: list[str] = []
    for name in asked:
        if name not in environments_ | cells:
            _stop(unknown("cell or environment of quantizers", name, [*environments_, *cells, "all"]))
        if engine := environments_.get(name):
            python, names = _engine_environment(session, engine), engine.quantizers
        else:
            python, names = _cell_environment(session, cells[name]), OWN_QUANTIZERS
        try:
            session.run(python, "-m", "pt2e_ci", "quantizers", "run", *names, external=True)
        except nox.command.CommandFailed:  # it said what; the others are run all the same
            red.append(name)
    if red:
        session.error(f"not all annotate what they are known to: {', '.join(red)}")


def _cell_environment(session: nox.Session, cell: Cell) -> str:
    """Return the interpreter of a cell's own session's environment, which is made if it is not there."""
    try:
        check_lock(cell, PROJECT["project"]["dependencies"])
        folder = ROOT / ".nox" / cell.session.replace(".", "-")
        return _made(session, cell, folder, [LOCKS / cell.name])
    except InputError as error:
        _stop(error)


@nox.session(default=False, python=False, venv_backend="none")
def networks(session: nox.Session) -> None:
    """Take networks through cells, both named after --, in upstream's representation and in the exact one."""
    cells = [cell for cell in CELLS if cell.name in session.posargs]
    try:
        known = case_names(DEPLOYED)
        asked = [name for name in session.posargs if name not in [cell.name for cell in cells]]
        if stray := next((name for name in asked if name not in known), None):
            raise unknown("network or cell", stray, [*known, *(cell.name for cell in CELLS)])
    except InputError as error:
        _stop(error)
    red: list[str] = []
    for cell in cells or CELLS:
        python = _cell_environment(session, cell)
        for representation, folder in (("", "networks"), ("exact", "networks/exact")):
            how = ["--representation", representation] if representation else []
            where = ["--cases", "pt2e_ci.catalogue.cases:DEPLOYED", "--report", f"{ROOT}/reports/{folder}/"]
            try:
                _run(session, python, "-m", "pt2e_ci", "run", *(asked or known), "-n", "2", *where, *how)
            except nox.command.CommandFailed:  # it said what; the others are run all the same
                red.append(f"{cell.name} {representation or 'upstream'}")
    session.run(python, "-m", "pt2e_ci", "networks", external=True)
    if red:
        session.error(f"not all networks came out as they are known to: {', '.join(red)}")


@nox.session(default=False, python=False, venv_backend="none")
def canary(session: nox.Session) -> None:
    """Run the suite on torch's nightly build, in the environment of the newest cell; it may fail."""
    newest = next(cell for cell in reversed(CELLS) if cell.base is None)
    python = _environment(session, newest)
    nightly = ("--upgrade", "--pre", "--index-url", NIGHTLY_INDEX, "--no-deps", "torch")
    session.run(environments.find_uv(), "pip", "install", "--python", python, *nightly, external=True)
    session.run(python, "-m", "pt2e_ci", "run", *session.posargs, f"--report={ROOT}/reports/canary/", external=True)


@nox.session(default=False)
def lint(session: nox.Session) -> None:
    """Check style with ruff, the Dockerfiles with hadolint, the workflows without running them, and build the docs."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")
    session.run("hadolint", "Dockerfile", "tests/docker/act/Dockerfile")
    _lint_workflows(session)
    _build_docs(session, session.create_tmp())


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the pages of docs/ into site/, beside what `pt2e-ci report --html site/results` makes."""
    session.install(*nox.project.dependency_groups(PROJECT, "docs"))
    _build_docs(session, "site")


def _build_docs(session: nox.Session, folder: str) -> None:
    session.run("sphinx-build", "--quiet", "--fail-on-warning", "--builder", "html", "docs", folder)


def _lint_workflows(session: nox.Session) -> None:
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    session.run("actionlint", *files)
    session.run("zizmor", "--offline", "--persona", "auditor", ".github")
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files)
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-actions", ".github/actions/suite/action.yml")
    session.run("check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml")


@nox.session(default=False, python=False, venv_backend="none")
def workflows(session: nox.Session) -> None:
    """Build and run images, and run jobs of the workflows by act, on the local Docker engine; it must be there."""
    python = _environment(session, _cell(TESTED_CELL), "workflows")
    arguments = session.posargs or ["tests/docker"]
    _run(session, python, "-m", "pytest", "-n", "2", "--dist", "worksteal", *arguments)


@nox.session(default=False)
def typecheck(session: nox.Session) -> None:
    """Check the types with mypy, strictly: the package, and the file that nox loads."""
    session.install("-e", ".", *nox.project.dependency_groups(PROJECT, "typecheck"))
    session.run("mypy", *session.posargs)


def _check_named_sessions() -> None:
    """Answer an unknown session with the nearest name: nox says only that it is not there."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-s", "-e", "--session", "--sessions", nargs="*", default=[])
    line = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    known = [name for name, _ in nox.registry.get().items()]
    for name in parser.parse_known_args(line)[0].session:
        if name not in known:
            _stop(unknown("session", name, known))


_check_named_sessions()
