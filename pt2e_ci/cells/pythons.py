"""Which Pythons a cell runs on. It needs nothing but a Python, for it is asked before anything is installed.

``python -m pt2e_ci.cells.pythons CELL`` says in one line, with exit code 2, that this Python is none of the cell's; the
Dockerfile asks so, before it installs torch.
"""

from __future__ import annotations

import sys
from pathlib import Path


def complaint(name: str, cells: Path, version: tuple[int, ...]) -> str | None:
    """Say why a Python of this version does not run a cell; None if it does."""
    here = f"{version[0]}.{version[1]}"
    if version < (3, 11):
        return f"pt2e-ci needs Python 3.11 or later, and this is {here}"
    import tomllib  # 3.11 and later

    listed = tomllib.loads(cells.read_text(encoding="utf-8"))["cell"]
    pythons = {cell["name"]: cell["pythons"] for cell in listed}
    if name not in pythons:
        return f"unknown cell {name!r}: choose from {', '.join(pythons)}"
    if here not in pythons[name]:
        return f"cell {name} runs on Python {', '.join(pythons[name])}, and this is {here}: build on another BASE"
    return None


if __name__ == "__main__":
    if _complaint := complaint(sys.argv[1], Path(__file__).with_name("cells.toml"), sys.version_info[:3]):
        sys.stderr.write(f"pt2e-ci: error: {_complaint}\n")
        sys.exit(2)
