"""Files that appear under their name whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, data: bytes, mode: int) -> None:
    """Write a file in place of what was there, once it is whole on disk; make its folder.

    A link stays, and the file that it leads to is written. A pipe or a device cannot be replaced, and need not be.

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
