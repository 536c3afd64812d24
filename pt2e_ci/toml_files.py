"""TOML files of the package: read with one line for what is wrong, and with the line where an entry stands.

tomllib keeps no positions, and an error should name the line.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from pt2e_ci.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """Return a file's text, and what it holds.

    Raises:
        InputError: it cannot be read, or is not TOML; with the line.

    """
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None


def entry_lines(text: str, table: str, count: int) -> list[int | str]:
    """Return the line (from 1) of each of the `count` headers ``[[table]]`` in `text`.

    Where the headers that stand at the start of a line are not as many as the entries (the array may be
    written inline, or a header may be quoted inside a string), every line is ``"?"``: none is better than
    a wrong one.
    """
    header = re.compile(rf"\s*\[\[\s*{re.escape(table)}\s*\]\]")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if header.match(line)]
    return [*lines] if len(lines) == count else ["?"] * count
