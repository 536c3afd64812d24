"""The lock of each cell and of each engine: the exact torch, and every other package with its version and hashes.

``nox -s lock`` makes them, for Linux on x86-64 and aarch64 alike. A lock is two files for pip and uv, which install
them in any order without looking at dependencies:

- ``torch.txt`` has a version and no hash, for every index has a build of its own under that version. The digest of
  the one that was installed is in each report.
- ``dependencies.txt`` has everything else, with hashes. Its first line is a seal: a digest of what was asked for, of
  the Python, and of all that follows, so that a lock that was edited, or has grown old, is not taken for one.

``python -m pt2e_ci.cells.locks CELL`` checks, for the Dockerfile, that this environment's Python and lock are the
cell's. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pt2e_ci.cells.cell import load_cells
from pt2e_ci.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pt2e_ci.cells.cell import Cell
    from pt2e_ci.cells.engines import Engine

LOCKS = Path(__file__).with_name("locks")
ENGINES = "engines"
"""The folder of the locks of engines, each of what an engine's environment holds beside a cell's, or alone."""

BUILD_LOCK = LOCKS / "build.txt"
"""What builds this package, with hashes."""

TORCH, DEPENDENCIES = "torch.txt", "dependencies.txt"

BUILD_PYTHON = "3.11"
"""The Python that builds this package."""

_SEAL = "# sealed by nox -s lock: "
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def requirements(cell: Cell, project: Iterable[str]) -> list[str]:
    """Return what a cell is locked for: its torch, its torchao, what that torch needs, and what this project does.

    What a marker keeps from the cell's Python, and an extra's, is left out.
    """
    torchao = [f"torchao=={cell.torchao}"] if cell.torchao else []
    return _there((f"torch=={cell.torch}", *torchao, *cell.requires, *project), cell.python)


def _there(wanted: Iterable[str], python: str) -> list[str]:
    """Return those requirements that no marker keeps from a Python, and that are no extra's."""
    there = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    found = [Requirement(text) for text in wanted]
    return [str(one) for one in found if one.marker is None or one.marker.evaluate(there)]


def seal(path: Path, wanted: Iterable[str], python: str) -> None:
    """Put a seal on a lock that was just made of these requirements for this Python."""
    body = _unsealed(path.read_text(encoding="utf-8"))
    path.write_text(f"{_SEAL}{_digest(wanted, python, body)}\n{body}", encoding="utf-8")


def check_seal(path: Path, wanted: Iterable[str], python: str) -> None:
    """Check that a lock is as it was made, and was made of these requirements for this Python.

    Raises:
        InputError: it is not.

    """
    text = path.read_text(encoding="utf-8")
    if not text.startswith(f"{_SEAL}{_digest(wanted, python, _unsealed(text))}\n"):
        raise InputError(
            f"{path}: not what `nox -s lock` made of what is now asked, for Python {python}: it was edited, or"
            " cells.toml or pyproject.toml was: run `nox -s lock`"
        )


def _unsealed(text: str) -> str:
    return text.partition("\n")[2] if text.startswith(_SEAL) else text


def _digest(wanted: Iterable[str], python: str, body: str) -> str:
    # As the standard writes them: the same requirement may be spelled otherwise in an installed package.
    asked = sorted(str(Requirement(text)) for text in wanted)
    return hashlib.sha256("\n".join([python, *asked, body]).encode()).hexdigest()


def read_pins(path: Path) -> dict[str, str]:
    """Return the version of each package that a file locks, by normalized name.

    Raises:
        InputError: the file is missing, or a line of it is not one package at one version, with hashes unless it
            is torch's.

    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no lock: {error}: make it with `nox -s lock`") from None
    pins: dict[str, str] = {}
    # A package and its hashes are one line to pip, continued by backslashes.
    for line in re.sub(r"(?m)^\s*#.*\n", "", text).replace("\\\n", " ").splitlines():
        pin, *hashes = line.split() or [""]
        match = _PIN.fullmatch(pin)
        if not match:
            raise InputError(f"{path}: {line.strip()[:80]!r} is not one package at one version: run `nox -s lock`")
        if path.name != TORCH and (not hashes or not all(_HASH.fullmatch(word) for word in hashes)):
            raise InputError(f"{path}: {pin} has no hashes, or one that is none: run `nox -s lock`")
        name = canonicalize_name(match[1])
        if name in pins:
            raise InputError(f"{path}: {name} is here twice: run `nox -s lock`")
        pins[name] = match[2]
    return pins


def check_lock(cell: Cell, project: Iterable[str], locks: Path = LOCKS) -> None:
    """Check that a cell's lock is there and is for what the cell and the project now ask.

    Raises:
        InputError: it is not.

    """
    folder = locks / cell.name
    pins = read_pins(folder / TORCH)
    if set(pins) != {"torch"}:
        raise InputError(f"{folder / TORCH}: should lock torch, and locks {', '.join(pins) or 'nothing'}")
    pins = read_pins(folder / DEPENDENCIES) | pins
    for text in requirements(cell, project):
        requirement = Requirement(text)
        version = pins.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            locked = f"locks {requirement.name} {version}" if version else f"does not lock {requirement.name}"
            raise InputError(
                f"the lock of cell {cell.name} {locked}, where {text} is wanted: run `nox -s lock -- {cell.name}`"
            )
    if not cell.torchao and "torchao" in pins:
        raise InputError(f"the lock of cell {cell.name} has a torchao, which the cell does not have: run `nox -s lock`")
    check_seal(folder / DEPENDENCIES, requirements(cell, project), cell.python)


def engine_requirements(engine: Engine, project: Iterable[str]) -> list[str]:
    """Return what an engine is locked for: what it requires; and what this project does, if no cell's lock has that."""
    return _there((*engine.requires, *(() if engine.cell else project)), engine.python)


def check_engine_lock(engine: Engine, project: Iterable[str], locks: Path = LOCKS) -> None:
    """Check that an engine's lock is there and is for what is now asked.

    Raises:
        InputError: it is not.

    """
    path = locks / ENGINES / engine.name / DEPENDENCIES
    read_pins(path)
    check_seal(path, engine_requirements(engine, project), engine.python)


def check_locks(
    cells: Sequence[Cell],
    engines: Sequence[Engine],
    project: Sequence[str],
    build: Sequence[str],
    locks: Path = LOCKS,
) -> None:
    """Check the locks of all cells and engines and of what builds this package, and that there is no other.

    Raises:
        InputError: as `check_lock`, or a lock is left of a cell or an engine that is not listed.

    """
    read_pins(locks / BUILD_LOCK.name)
    check_seal(locks / BUILD_LOCK.name, build, BUILD_PYTHON)
    for cell in cells:
        check_lock(cell, project, locks)
    for engine in engines:
        check_engine_lock(engine, project, locks)
    _check_strays(locks, {cell.name for cell in cells} | {ENGINES}, "cell")
    _check_strays(locks / ENGINES, {engine.name for engine in engines}, "engine")


def _check_strays(folder: Path, known: set[str], kind: str) -> None:
    if folder.is_dir() and (strays := {path.name for path in folder.iterdir() if path.is_dir()} - known):
        raise InputError(f"{folder / min(strays)} is a lock of no {kind} in cells.toml: remove it")


def check_environment(name: str) -> None:
    """Check that this environment's Python and this package's lock are those of a cell.

    Raises:
        InputError: they are not.

    """
    (cell,) = load_cells().select([name])
    check_lock(cell, metadata.requires("pt2e-ci") or ())


if __name__ == "__main__":
    try:
        for _name in sys.argv[1:]:
            check_environment(_name)
    except InputError as _error:
        sys.exit(f"pt2e-ci: error: {_error}")
