"""Where an entry of a TOML file stands: tomllib keeps no positions, and an error should name the line."""

from __future__ import annotations

import re


def entry_lines(text: str, table: str, count: int) -> list[int | str]:
    """Return the line (from 1) of each of the `count` headers ``[[table]]`` in `text`.

    Where the headers that stand at the start of a line are not as many as the entries (the array may be
    written inline, or a header may be quoted inside a string), every line is ``"?"``: none is better than
    a wrong one.
    """
    header = re.compile(rf"\s*\[\[\s*{re.escape(table)}\s*\]\]")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if header.match(line)]
    return [*lines] if len(lines) == count else ["?"] * count
