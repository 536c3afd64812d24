"""A model on the torch of other cells: each in an environment of its own, which uv makes in the user's cache.

An environment holds the cell's lock, and the very package that this process runs, wherever that lies. Nothing here
imports torch, which need not be there.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pt2e_ci.cells import environments
from pt2e_ci.cells.cell import load_cells, platform_tag
from pt2e_ci.cells.locks import LOCKS, TORCH, check_lock
from pt2e_ci.cells.sources import torch_sources
from pt2e_ci.errors import InputError, death_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pt2e_ci.cells.cell import Cell

_NAME = "pt2e-ci"
_GIB = "about 1 GB"


def run(cells: Sequence[str], arguments: Sequence[str], extras: Sequence[str], say: Callable[[str], None]) -> int:
    """Run ``pt2e-ci check`` with arguments in the environment of each cell; return the worst exit code.

    Args:
        cells: their names, as ``2.4``.
        arguments: what each is asked for.
        extras: requirements that environments hold beside their locks, as uv reads them.
        say: is told what is going on.

    Raises:
        InputError: there is no such cell, or its environment cannot be made here.

    """
    if not sys.platform.startswith("linux"):
        raise InputError(f"--torch makes environments on Linux only, and this is {platform_tag()}: leave it out")
    chosen = load_cells().select(cells)
    codes: list[int] = []
    with tempfile.TemporaryDirectory(prefix="pt2e-ci-") as folder:
        wheel = build_wheel(Path(folder))
        for cell in chosen:
            with _held(_cache() / cell.name):
                python = _environment(cell, [str(wheel), *extras], say)
                done = subprocess.run([python, "-P", "-m", "pt2e_ci", "check", *arguments], check=False)  # noqa: S603
            if done.returncode < 0 or done.returncode > 2:
                say(f"torch {cell.torch}: {death_reason(done.returncode)}")
            codes.append(1 if done.returncode < 0 else done.returncode)
    return max(codes)


def _environment(cell: Cell, extras: Sequence[str], say: Callable[[str], None]) -> Path:
    check_lock(cell, metadata.requires(_NAME) or ())
    uv = environments.find_uv()
    sources, note = torch_sources()
    folder = _cache() / cell.name
    interpreter = environments.find_python(uv, cell, folder)
    recipe = environments.Recipe([LOCKS / cell.name], interpreter, None, sources)
    if not environments.is_made(folder, recipe):
        say(f"torch {cell.torch}: making an environment in {folder} ({_GIB}; it is kept); {note}")
    settings = {"UV_COMPILE_BYTECODE": "1"} | os.environ | sources.uv_environment()
    is_shown = sys.stderr.isatty()

    def run_uv(*arguments: str) -> None:
        # Its bars are shown where somebody looks; else what it says is kept for when it fails.
        output = None if is_shown else subprocess.PIPE
        command = [uv, *arguments]
        done = subprocess.run(command, env=settings, stdout=output, stderr=output, text=True, check=False)  # noqa: S603
        if done.returncode:
            said = (done.stderr or "").strip().splitlines()
            raise InputError(f"uv {' '.join(arguments[:2])} failed: {said[-1] if said else 'see above'}")

    # What a model needs, such as torchvision, comes in the release that goes with the cell's torch.
    return environments.make(folder, recipe, run_uv, ["--constraint", str(LOCKS / cell.name / TORCH), *extras])


def _cache() -> Path:
    """Return the folder of environments in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / _NAME / "cells"


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep other processes out of an environment while it is made and used."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_wheel(folder: Path) -> Path:
    """Write a wheel of the package that this process runs, be it installed, editable or a checkout; return its path."""
    import pt2e_ci

    version = pt2e_ci.__version__
    own = metadata.distribution(_NAME)
    info = f"pt2e_ci-{version}.dist-info"
    root = Path(pt2e_ci.__file__).parent
    contents = {
        f"pt2e_ci/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    contents |= {f"{info}/{name}": (own.read_text(name) or "").encode() for name in ("METADATA", "entry_points.txt")}
    contents[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: pt2e-ci\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in contents.items())
    path = folder / f"pt2e_ci-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in (contents | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}).items():
            wheel.writestr(name, data)
    return path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
