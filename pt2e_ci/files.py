"""Files: read with one line for what is wrong, and written under their name whole or not at all."""

from __future__ import annotations

import os
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from pt2e_ci.errors import InputError


def read_text(path: Path) -> str:
    """Return what a file holds.

    Raises:
        InputError: it cannot be read, or is a named pipe, on which reading would wait for whoever writes.

    """
    try:
        if path.is_fifo() and not path.is_relative_to("/dev"):
            raise InputError(f"{path}: cannot be read: it is a pipe, where a file is needed")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a file of TOML holds.

    Raises:
        InputError: it cannot be read, or is not TOML.

    """
    try:
        return tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None


def write_whole(path: Path, data: bytes, mode: int) -> None:
    """Write a file in place of what was there, once it is whole on disk; make its folder.

    A link stays, and the file that it leads to is written. A device cannot be replaced, and need not be.

    Raises OSError where the disk would not take it; what was there is still there then, and nothing beside it.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        part = Path(file.name)
        try:
            part.chmod(mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
