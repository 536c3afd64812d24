"""The environment of a cell or an engine: made by uv of what its lock holds, and kept while that stays the same.

A file in it says what it was made of. It is written last, so that an environment whose making was stopped has none.
What is installed beside the lock (`extras`) is not kept: it is removed before each run, and reinstalled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pt2e_ci.cells.locks import BUILD_LOCK, DEPENDENCIES, TORCH, read_pins
from pt2e_ci.cells.sources import SETTING, host_sources
from pt2e_ci.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pt2e_ci.cells.sources import Sources

_MADE_OF = "pt2e-ci.json"


@dataclass(frozen=True)
class Python:
    """An interpreter: its minor release, its path, and what to say of the choice, if anything."""

    version: str
    path: str
    note: str | None = None


def find_uv() -> str:
    """Return the path of uv: the one that started this process, the one beside it, or the one on PATH.

    Raises:
        InputError: there is none, or it cannot write its cache.

    """
    uv = os.environ.get("UV")
    if not uv:
        try:
            from uv import find_uv_bin

            uv = find_uv_bin()
        except ImportError:
            uv = shutil.which("uv")
    if uv is None:
        raise InputError("uv, which makes environments, is neither beside this Python nor on PATH: pip install uv")
    listed = subprocess.run([uv, "cache", "dir"], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
    there = next((path for path in (Path(listed), *Path(listed).parents) if path.exists()), Path("/"))
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise InputError(f"uv cannot write its cache, {listed}: set UV_CACHE_DIR to a folder that can be written")
    return uv


class Owner(Protocol):
    """A cell or an engine: what has an environment."""

    @property
    def title(self) -> str:
        """What it is called, in a sentence."""

    @property
    def pythons(self) -> tuple[str, ...]:
        """The Pythons that it runs on, the preferred one first."""


def find_python(uv: str, owner: Owner, folder: Path | None = None) -> Python:
    """Return the interpreter that a cell or an engine runs on here: the preferred one, which uv may fetch, or another.

    What the environment in `folder` is made of will do, where there is one: nothing is fetched again and again.

    Raises:
        InputError: there is none of them, and none can be fetched.

    """
    first = owner.pythons[0]
    if path := _find(uv, first):
        return Python(first, path)
    kept = (_read(folder) or {}).get("python") if folder else None
    if kept and kept["version"] in owner.pythons and os.path.exists(kept["path"]):  # noqa: PTH110
        return Python(**kept)
    fetched = subprocess.run([uv, "python", "install", first], capture_output=True, text=True, check=False)  # noqa: S603
    if not fetched.returncode and (path := _find(uv, first)):
        return Python(first, path, f"uv has fetched Python {first}")
    for version in owner.pythons[1:]:
        if path := _find(uv, version):
            note = f"Python {first} is not to be had here: {owner.title} runs on {version}"
            return Python(version, path, note)
    raise InputError(
        f"{owner.title} runs on Python {' or '.join(owner.pythons)}: none is on this machine, and uv could not"
        " fetch one: install one of them"
    )


def _find(uv: str, version: str) -> str | None:
    """Return the path of an interpreter of a minor release that is on this machine, PATH and uv's own folder."""
    command = [uv, "python", "find", "--no-python-downloads", "--no-project", version]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - uv, with our arguments
    return done.stdout.strip() if done.returncode == 0 else None


@dataclass(frozen=True)
class Recipe:
    """What an environment is made of.

    Attributes:
        locks: the folders of the locks that it holds.
        python: the interpreter that it is made of.
        root: the checkout that is installed in it, editable; None where the package is among what a run adds.
        sources: where torch and all else come from.
        groups: requirements that belong to it beside the lock.

    """

    locks: Sequence[Path]
    python: Python
    root: Path | None
    sources: Sources
    groups: Sequence[str] = ()


def make(folder: Path, recipe: Recipe, uv: Callable[..., None], extras: Sequence[str] = ()) -> Path:
    """Make an environment in a folder, or keep the one that is there; return its interpreter.

    `uv` runs uv with arguments, and raises if it fails. `extras` are requirements that this run wants beside what the
    environment is made of, as pip reads them.
    """
    python, root, sources = recipe.python, recipe.root, recipe.sources
    interpreter = folder / "bin" / "python"
    wanted = _made_of(recipe)
    options = ("--python", str(interpreter))
    kept = _read(folder)
    added = _added(folder, kept) if kept and kept["made_of"] == wanted and interpreter.exists() else None
    if added is None:
        uv("venv", "--quiet", "--clear", "--no-project", "--python", python.path, str(folder))
        install = ("pip", "install", *options, *sources.uv_arguments())
        for lock in recipe.locks:
            uv(*install, "--require-hashes", "--no-deps", "-r", str(lock / DEPENDENCIES), "-r", str(BUILD_LOCK))
        for lock in recipe.locks:
            if (lock / TORCH).is_file():
                _install_torch(uv, install, lock, python)
        if root is not None:
            uv("pip", "install", *options, "--no-build-isolation", "--no-deps", "-e", str(root))
        if recipe.groups:
            uv(*install, *recipe.groups)
        kept_python = {"version": python.version, "path": python.path}
        text = json.dumps({"made_of": wanted, "python": kept_python, "packages": _packages(folder)})
        (folder / _MADE_OF).write_text(text, encoding="utf-8")
    elif added:
        uv("pip", "uninstall", "--quiet", *options, *added)
    if extras:
        # What is built of a folder is built again: uv would take an edited one for what it was.
        uv("pip", "install", *options, *sources.uv_arguments(), "--refresh", *extras)
    return interpreter


def _install_torch(uv: Callable[..., None], install: Sequence[str], lock: Path, python: Python) -> None:
    try:
        # With its dependencies: all of a CPU build's are there by now, and a CUDA build brings its own.
        uv(*install, "-r", str(lock / TORCH))
    except Exception as error:
        (version,) = read_pins(lock / TORCH).values()
        raise InputError(
            f"torch {version} could not be installed for Python {python.version}: set {SETTING} to an index that has"
            " it (cpu, host, or an address), or PIP_FIND_LINKS to a folder of wheels"
        ) from error


def is_made(folder: Path, recipe: Recipe) -> bool:
    """Tell whether the environment in a folder is made of a recipe, so that `make` would keep it."""
    return (_read(folder) or {}).get("made_of") == _made_of(recipe)


def _made_of(recipe: Recipe) -> str:
    digest = hashlib.sha256()
    locks = [lock / name for lock in recipe.locks for name in (TORCH, DEPENDENCIES)]
    own = [] if recipe.root is None else [recipe.root / "pyproject.toml"]
    for path in (*(one for one in locks if one.is_file()), BUILD_LOCK, *own):
        digest.update(path.read_bytes())
    # Where torch would come from now, and not what answers now: an environment outlives the network.
    chosen = (host_sources(), os.environ.get(SETTING))
    python = (recipe.python.version, os.path.realpath(recipe.python.path))
    digest.update(repr((*python, str(recipe.root), chosen, [*recipe.groups])).encode())
    return digest.hexdigest()


def _read(folder: Path) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = json.loads((folder / _MADE_OF).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def _packages(folder: Path) -> dict[str, str]:
    """Return a digest of what each package of an environment has installed, by name."""
    paths = [str(path) for path in folder.glob("lib/python*/site-packages")]
    return {
        one.name: hashlib.sha256((one.read_text("RECORD") or one.version).encode()).hexdigest()
        for one in metadata.distributions(path=paths)
    }


def _added(folder: Path, kept: Mapping[str, Any]) -> list[str] | None:
    """Name the packages that an earlier run has added; None if it has changed or removed one of the lock's."""
    here, made = _packages(folder), kept["packages"]
    if any(here.get(name) != digest for name, digest in made.items()):
        return None
    return sorted(here.keys() - made.keys())
